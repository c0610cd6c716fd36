"""The numbers of `docs/diffusion.md`: rows from runs, kept in `results/`, and the tables that they fill."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..targets.gaussian_mixture import GaussianMixture
from ..theory.error_split import PARTS
from .diffusion_pictures import Law, crossing, ratios
from .result import Result, records
from .schema import Point

#: Of the figures that are kept.
COLUMNS = ["experiment", "case", "steps", "scores", "quantity", "measured", "lower", "upper", "stated"]

SKEWED = GaussianMixture.two_modes(separation=3, weight=0.3)
LAWS = (
    Law("two modes, weights 0.3 and 0.7", SKEWED, None),
    Law("two equal modes", GaussianMixture.two_modes(separation=6), None),
    Law("nine modes", GaussianMixture.nine_modes(), None),
    Law("0.3 and 0.7, friction 1.3", SKEWED, 1.3),
    Law("0.3 and 0.7, friction 0.4", SKEWED, 0.4),
)
TIMES = (0.01, 0.03, 0.1, 0.3, 1.0)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ("---",) * len(head), *rows])


def number(value: float, digits: int = 3) -> str:
    if not math.isfinite(value):
        return "-"
    return re.sub(r"e-0?", "e-", f"{value:.{digits}g}") if abs(value) < 1e-3 else f"{value:.{digits}g}"


def chosen(kept: pd.DataFrame, experiment: str, quantity: str | None = None) -> pd.DataFrame:
    mine = kept[kept["experiment"] == experiment]
    return mine if quantity is None else mine[mine["quantity"] == quantity]


def shares(kept: pd.DataFrame) -> str:
    """Of the two modes, with intervals, by sampler."""
    rows = []
    for case, part in chosen(kept, "annealed-weights").groupby("case", sort=False):
        rows.append((str(case), *(f"{r['measured']:.3f} [{r['lower']:.3f}, {r['upper']:.3f}]" for r in records(part))))
    first, second = chosen(kept, "annealed-weights")["stated"].unique()
    return table(("sampler", f"share of the mode of weight {first:g}", f"of weight {second:g}"), rows)


def split(kept: pd.DataFrame, experiment: str) -> str:
    """The four parts, their sum, W2, and KL beside its bound, by steps."""
    rows = []
    for steps, part in chosen(kept, experiment).groupby("steps", sort=True):
        of = part.set_index("quantity")
        value, stated = of["measured"], of["stated"]
        cells = [*(value[p] for p in PARTS), stated["w2"], value["w2"], value["kl"], stated["kl"]]
        rows.append((f"{steps:.0f}", *map(number, cells)))
    return table(("steps", *PARTS, "sum", "W2", "KL", "Girsanov bound of KL"), rows)


def slope(part: pd.DataFrame, last: bool) -> float:
    """The order: of log error against -log steps, over the last doubling or the first."""
    two = part.sort_values("steps").iloc[-2:] if last else part.sort_values("steps").iloc[:2]
    e, n = np.log(two["measured"].to_numpy()), np.log(two["steps"].to_numpy(float))
    return float((e[0] - e[1]) / (n[1] - n[0]))


def slopes(kept: pd.DataFrame) -> str:
    """Errors by sampler, and their orders."""
    rows = []
    for experiment in ("reverse-orders", "reverse-orders-phase"):
        for case, part in chosen(kept, experiment).groupby("case", sort=False):
            if len(part) < 2:
                continue
            by = part.set_index("steps")["measured"]
            per = part["scores"].iloc[0] / part["steps"].iloc[0]
            errors = [number(by[n]) for n in (25, 50, 100, 200)]
            rows.append((str(case), f"{per:g}", *errors, f"{slope(part, False):.2f}", f"{slope(part, True):.2f}"))
    head = ("sampler", "scores a step", *(f"TV, {n} steps" for n in (25, 50, 100, 200)), "order, first doubling", "order, last doubling")
    return table(head, rows)


def gaps(kept: pd.DataFrame) -> str:
    """The ratio of the gaps by law and time."""
    rows = []
    for case, part in chosen(kept, "cld-easier").groupby("case", sort=False):
        of = part.set_index("quantity")["measured"]
        rows.append((str(case), *(number(of[f"ratio at {t:g}"]) for t in TIMES), number(of["first time above 1"])))
    return table(("law of the data", *(f"t = {t:g}" for t in TIMES), "first above 1 at t ="), rows)


def learned(kept: pd.DataFrame) -> str:
    """Distances in the plane, by oracle and by network, beside the floor."""
    rows = []
    for r in records(kept):
        means = [f"{r[key]:.2f} +- {r[f'{key}_error']:.2f}" for key in ("oracle", "learned", "floor")]
        rest = (f"{r['learned'] / r['floor']:.2f}", f"{100 * r['score_error']:.1f} %", f"{r['seconds']:.0f}")
        rows.append((f"`{r['target'].removeprefix('gaussian_mixture.')}`", *means, *rest))
    return table(("target", "W2, oracle", "W2, learned", "floor", "learned / floor", "score error", "seconds of training"), rows)


# What the tables are made of.


def collected(results: Sequence[tuple[Result, Sequence[Point]]]) -> pd.DataFrame:
    """The rows of runs, each with the points of its experiment, and those of `LAWS`."""
    rows = [row for result, points in results for row in rows_of(result, points)]
    return pd.DataFrame([*rows, *(row for law in LAWS for row in crossings(law))], columns=COLUMNS)


def rows_of(result: Result, points: Sequence[Point]) -> list[dict[str, Any]]:
    """Sampler, steps and values of what a run measured."""
    samplers, found = {p.index: p.sampler for p in points}, []
    for r in records(result.table[(result.table["status"] == "ok") & (result.table["k"] > 0)]):
        sampler = samplers[r["index"]]
        options = [value for name, value in sampler.params.items() if name in ("spacing", "inner") and isinstance(value, str)]
        numbers = {"measured": r["measured"], "lower": r["lower"], "upper": r["upper"], "stated": r["bound"]}
        names = {"case": ", ".join([f"`{sampler.name}`", *options]), "quantity": r["quantity"].replace("kl(target | law)", "kl")}
        found.append({"experiment": result.name, "steps": r["k"], "scores": r["scores"], **names, **numbers})
    return found


def crossings(law: Law) -> list[dict[str, Any]]:
    """The ratio of the gaps at `TIMES`, and when it first is above 1."""
    named = {f"ratio at {t:g}": value for t, value in zip(TIMES, ratios(law, TIMES), strict=True)}
    named["first time above 1"] = crossing(law) or math.nan
    return [{"experiment": "cld-easier", "case": law.label, "quantity": what, "measured": value} for what, value in named.items()]


def planes(result: Result, points: Sequence[Point], trained: Mapping[str, tuple[float, float]]) -> pd.DataFrame:
    """Learned scores in the plane: means over the seeds and their standard errors.

    Arguments: trained: by checkpoint, the relative error of the score and the seconds of training.
    """
    at = {p.index: p for p in points}
    last = result.table[result.table["k"] > 0]
    names, scores = [at[i].target.name for i in last["index"]], [str(at[i].sampler.params["score"]) for i in last["index"]]
    rows: list[dict[str, Any]] = []
    for name, part in last.assign(target=names, score=scores).groupby("target", sort=False):
        oracle, own = part[part["score"] == "oracle"], part[part["score"] != "oracle"]
        path = own["score"].iloc[0]
        columns = (("oracle", oracle["measured"]), ("learned", own["measured"]), ("floor", own["floor"]))
        means = {key + end: value for key, c in columns for end, value in (("", c.mean()), ("_error", c.std() / len(c) ** 0.5))}
        rows.append({"target": name, **means, "score_error": trained[path][0], "seconds": trained[path][1], "seeds": len(own), "score": path})
    return pd.DataFrame(rows)
