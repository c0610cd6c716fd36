"""One page from finished runs: verdicts first, then each experiment with its figures. Nothing is fetched when it is read."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from . import budgeted
from .curves import label, swept
from .plots import pictures
from .rate_plot import interval
from .result import Result, records
from .typeset import typeset

#: Sign (legible without colour) and class of a verdict.
WORDS = {"holds": ("✓", "holds"), "violated": ("✗", "violated"), "inconclusive": ("?", "unclear"), "not applicable": ("–", "outside")}
INSTRUMENTS = {"A": "affine law", "G": "grid law", "P": "particles", "C": "coupling", "Q": "closed form"}

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
)


def write(results: Sequence[Result], path: Path, title: str) -> Path:
    """The report of some runs as one HTML file; returns its path.

    Arguments:
        results: in the order of the page.
        path: the file; its folder must exist.
    """
    experiments = [_experiment(result) for result in results]
    rows = [row for e in experiments for row in e["verdicts"]]
    page = _ENVIRONMENT.get_template("report.html.jinja").render(title=title, experiments=experiments, summary=_summary(rows), rows=rows)
    path.write_text(page, encoding="utf-8")
    return path


def _summary(rows: Sequence[dict[str, Any]]) -> str:
    """The count of every word, and whether all is as expected."""
    if not rows:
        return "No theorem was checked."
    counts = Counter(row["word"] for row in rows)
    verbs = {"holds": ("holds", "hold"), "violated": ("is violated", "are violated"), "inconclusive": ("is inconclusive", "are inconclusive")}
    verbs["not applicable"] = ("is not applicable", "are not applicable")
    parts = [f"{n} {verbs[word][n != 1]}" for word in WORDS if (n := counts[word])]
    surprises = sum(not row["as_expected"] for row in rows)
    controls = sum(row["control"] for row in rows)
    text = f"{len(rows)} check{'s' * (len(rows) != 1)}: {', '.join(parts)}."
    text += f" {controls} of them {'is a control' if controls == 1 else 'are controls'}, which must not hold." if controls else ""
    return f"{text} {f'{surprises} not as expected.' if surprises else 'All came out as expected.'}"


def _experiment(result: Result) -> dict[str, Any]:
    """What the page says of one run."""
    figures = pictures(result)
    verdicts = [_verdict(row, result) for row in records(result.verdicts)]
    compared = budgeted.tables(result)
    cells = result.table["index"].nunique()
    return {
        "name": result.name,
        "title": result.title,
        "claim": Markup(typeset(result.claim)),
        "yaml": result.yaml,
        "verdicts": verdicts,
        "values": [] if verdicts or compared else list(_values(result)),
        "compared": compared,
        "figures": [Markup(picture.replace("<svg ", f'<svg aria-label="{escape(name)}" ', 1)) for name, picture in figures.items()],
        "left_out": list(_left_out(result)),
        "run": Markup(" · ").join([f"{cells} cell{'s' * (cells != 1)}", f"{len(result.table)} rows", *_cost(result), *_versions(result.folder)]),
    }


def _verdict(row: dict[str, Any], result: Result) -> dict[str, Any]:
    sign, kind = WORDS[row["word"]]
    control = row["factor"] != 1 or row["expect"] != "holds"
    parameters = [typeset(row["parameters"].replace("=", " = ").replace("_", " "))] if row["parameters"] else []
    parameters += [f"× {row['factor']:g}"] if row["factor"] != 1 else []
    shown = {
        "tightness": number(row["tightness"], zeros=True),
        "stated": number(row["stated"]),
        "exponent": interval(row["exponent"], row["low"], row["high"]),
    }
    figures = [(name, number(value)) for name, value in json.loads(row["figures"] or "{}").items()]
    return {
        **row,
        **shown,
        "sign": sign,
        "kind": kind,
        "control": control,
        "parameters": Markup(", ".join(parameters)),
        "experiment": result.name,
        "instrument": ", ".join(INSTRUMENTS.get(letter, letter) for letter in row["instrument"]) or "none",
        "statement": Markup(typeset(row["statement"])),
        "source": linked(row["source"]),
        "figures": figures,
    }


def number(value: float | None, zeros: bool = False) -> Markup:
    """Four digits (trailing zeros on demand); with a power of ten where it is very small or large; empty where there is none."""
    if value is None or math.isnan(value):
        return Markup("")
    if math.isinf(value):
        return Markup("∞" if value > 0 else "−∞")
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return Markup((f"{value:#.4g}" if zeros and value < 1e3 else f"{value:.4g}").replace("-", "−"))
    digits, _, power = f"{value:.2e}".partition("e")
    return Markup(f"{digits} × 10<sup>{int(power)}</sup>".replace("-", "−"))


def linked(source: str) -> Markup:
    """A citation whose addresses are links."""
    out = []
    for i, part in enumerate(re.split(r"(https?://[^\s,;]+)", source)):
        name = re.sub(
            r"^https?://(www\.)?(arxiv\.org/abs/|doi\.org/)?", lambda m: {"arxiv.org/abs/": "arXiv:", "doi.org/": "doi:"}.get(m[2], ""), part
        )
        out.append(f'<a href="{escape(part)}">{escape(name)}</a>' if i % 2 else escape(part, quote=False))
    return Markup("".join(out))


def _left_out(result: Result) -> Iterator[dict[str, Any]]:
    """What was not compared, by status and theorem or metric, with the reasons and the cells."""
    rows = result.table[result.table["status"] != "ok"]
    columns = swept(result.table)
    what = rows["theorem"].where(rows["check"] >= 0, rows["quantity"])
    for (status, name), part in rows.groupby([rows["status"], what], sort=False):
        cells = [label(columns, cell) for _, cell in part.groupby("index")]
        named = [cell for cell in dict.fromkeys(cells) if cell]
        yield {
            "status": status,
            "what": name,
            "count": f"{part['index'].nunique()} of {result.table['index'].nunique()} cells",
            "cells": Markup("; ".join(typeset(cell) for cell in named[:4]) + (" …" if len(named) > 4 else "")),
            "notes": _few(list(dict.fromkeys(part["note"]))),
        }


def _few(notes: list[str], shown: int = 2) -> str:
    more = f" (and {len(notes) - shown} more)" if len(notes) > shown else ""
    return "; ".join(notes[:shown]) + more


def _values(result: Result) -> Iterator[dict[str, Any]]:
    """The last value of every metric in every cell, for a run without theorems."""
    ok, columns = result.table[result.table["status"] == "ok"], swept(result.table)
    for (quantity, _), part in ok.groupby(["quantity", "index"], sort=False):
        last: pd.Series[Any] = part.sort_values("k").iloc[-1]
        interval = Markup("[{}, {}]").format(number(last["lower"]), number(last["upper"]))
        cell = Markup(typeset(label(columns, part)))
        yield {
            "metric": quantity,
            "cell": cell,
            "k": last["k"],
            "scores": number(last["scores"]),
            "value": number(last["measured"]),
            "interval": interval,
            "floor": number(last["floor"]),
        }


def _cost(result: Result) -> Iterator[str]:
    """Evaluations of the longest chain, where its sampler makes any, and the wall time."""
    for column, name in (("scores", "score"), ("potentials", "potential")):
        most = float(result.table[column].max())
        if most > 0:
            yield Markup("up to {} {} evaluations a chain").format(number(most), name)
    yield f"{result.seconds:.3g} s"


def _versions(folder: Path) -> list[str]:
    """The versions that the run was made with; nothing about the machine."""
    try:
        environment = json.loads((folder / "run.json").read_text(encoding="utf-8"))["environment"]
    except (OSError, ValueError, KeyError):
        return []
    return [f"{'Python' if name == 'python' else name} {version}" for name, version in environment.items() if name != "system"]
