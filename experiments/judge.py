"""From the table of a run to its verdicts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pandas as pd

from .components import build
from .fields import TheoremSpec
from .result import VERDICT_COLUMNS, records
from .schema import Point


def judge(points: list[Point], table: pd.DataFrame, swept: list[str]) -> pd.DataFrame:
    """One verdict per entry of `theorems`, over all cells that have it (a sweep may change the entries)."""
    entries: dict[tuple[int, str], tuple[TheoremSpec, list[int]]] = {}
    for point in points:
        for check, spec in enumerate(point.theorems):
            entries.setdefault((check, spec.model_dump_json()), (spec, []))[1].append(point.index)
    found = []
    for (check, _), (spec, cells) in sorted(entries.items(), key=lambda entry: entry[0][0]):
        mine = table[(table["check"] == check) & table["index"].isin(cells)]
        found.append({"check": check, **_verdict(spec, mine, swept)})
    return pd.DataFrame(found, columns=list(VERDICT_COLUMNS))


def _verdict(spec: TheoremSpec, mine: pd.DataFrame, swept: list[str]) -> dict[str, Any]:
    """The verdict on one entry from its rows."""
    from ..theory.verdict import Row, Verdict, Word

    theorem = build("theorem", spec.id, spec.params)
    applied = mine[mine["status"] == "ok"]
    fields = list(Row.__dataclass_fields__)
    verdicts = []
    for _, group in series(theorem.kind, applied, swept):
        rows = group.rename(columns={"quantity": "label"})[fields]
        verdicts.append(theorem.judge([Row(**row) for row in records(rows)]))
    verdict = _combine(verdicts)
    cells = mine["cell"].nunique()
    broken = mine[mine["status"].isin(("diverged", "unsupported"))]
    if len(broken) and (verdict is None or verdict.word != "violated"):
        # a hypothesis held or could not be checked, and the law went away or had no route: never a silent pass
        word: Word = "violated" if (broken["status"] == "diverged").any() else "inconclusive"
        verdict = Verdict(word, why=f"{broken['cell'].nunique()} of {cells} cells: {broken['note'].iloc[0]}")
    if verdict is None:
        verdict = Verdict("not applicable", why=str(mine["note"].iloc[0]))
    left_out = mine.loc[mine["status"] == "not applicable", "cell"].nunique()
    if left_out and verdict.word != "not applicable":
        verdict = replace(verdict, why="; ".join(filter(None, (verdict.why, f"not applicable in {left_out} of {cells} cells"))))
    return asdict(verdict) | {
        "theorem": spec.id,
        "parameters": ", ".join(f"{k}={v}" for k, v in spec.params.items()),
        "kind": theorem.kind,
        "expect": spec.expect,
        "as_expected": verdict.word == spec.expect,
        "figures": json.dumps(verdict.figures),
        "instrument": "".join(sorted({*mine["instrument"]})),
        "statement": theorem.statement,
        "source": str(theorem.source),
        "factor": spec.factor,
        "abscissa": getattr(theorem, "abscissa", ""),
        "correction": getattr(theorem, "correction", None) or float("nan"),
        "quantity": theorem.quantity,
    }


def series(kind: str, rows: pd.DataFrame, swept: list[str]) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Rows that are judged together: all of a bound or identity; of a rate, those that share what its abscissa does not move."""
    if rows.empty:
        return
    if kind != "rate":
        yield (), rows
        return
    if rows.groupby("cell")["x"].nunique().gt(1).any():  # each cell brings its own abscissae
        rest = swept
    else:
        rest = []
        for path in swept:
            others = [p for p in swept if p != path] + ["seed"]
            if not rows.groupby(others, dropna=False)["x"].nunique().gt(1).any():
                rest.append(path)
        if len(rest) == len(swept):  # paths that only move together: those along which x stays put set a series apart
            rest = [path for path in swept if rows.groupby(path, dropna=False)["x"].nunique().gt(1).all()]
            if len(rest) == len(swept):
                rest = []
    groups = [*rest, *(["seed"] if rows["seed"].nunique() > 1 else [])]
    if groups:
        yield from rows.groupby(groups, dropna=False)
    else:
        yield (), rows


def _combine(verdicts: list[Any]) -> Any:
    """The worst of several series of a rate, with all their exponents."""
    if not verdicts:
        return None
    order = ("violated", "inconclusive", "holds")
    worst = min(verdicts, key=lambda v: order.index(v.word))
    if len(verdicts) == 1:
        return worst
    figures = {f"exponent of series {i + 1}": v.exponent for i, v in enumerate(verdicts)}
    why = f"{worst.why}; {len(verdicts)} series, exponents {', '.join(f'{v.exponent:.3g}' for v in verdicts)}"
    return replace(worst, judged=sum(v.judged for v in verdicts), figures={**worst.figures, **figures}, why=why)
