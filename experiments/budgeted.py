"""Samplers at equal cost: the best of each within a budget of evaluations, over seeds, in a figure and in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from scipy import special

from ..errors import MixrateError
from . import drawing
from .components import build
from .curves import label, swept
from .drawing import PENS, plain
from .result import Result
from .typeset import quantity, typeset
from .work_precision import MORE, NOT_DISTANCES, contestant, specs

#: Settings by which a sampler is tuned, or spends more: they do not make another contestant. All other parameters do.
TUNED = (
    "step_size", "scale", "friction", "steps", "horizon", "stop", "leapfrog_steps", "levels", "inner", "moves", "replicas", "hottest", "width",
    "inner_chains", "inner_steps", "inner_step", "initial_steps", "initial_step", "budget", "least", "largest", "least_ess", "least_acceptance",
    "lowest", "refresh", "start", "first", "last", "sigma", "powers", "spacing", "rounds", "centre", "least_points",
)  # fmt: skip
#: Probability with which the interval over seeds covers the mean, were the runs normal.
LEVEL = 0.95
#: Of comparisons that are kept; a lost setting has a row without numbers.
KEPT = ["experiment", "metric", "setting", "contestant", "evaluations", "measured", "lower", "upper", "floor", "side", "seeds", "spec", "note"]
#: Budgets at which the words compare.
MOST_LEVELS = 5


@dataclass(frozen=True, eq=False)
class Comparison:
    """One metric on one target.

    Arguments:
        metric: as in the table. setting: what tells it from other comparisons of the run, or empty.
        runs: a row per setting and recorded step: `contestant`, `spec`, `evaluations` (scores and potentials of a particle), `measured` with
            `lower` and `upper` (over seeds; of the metric itself where there is one seed), `floor`, `side`, `seconds`, `seeds`.
        lost: a row per setting of which some seed has no value: `contestant`, `status`, `note`.
    """

    metric: str
    setting: str
    runs: pd.DataFrame
    lost: pd.DataFrame

    @property
    def floor(self) -> float:
        """What exact draws of the same number score; 0 where the metric has no floor."""
        return float(self.runs["floor"].fillna(0.0).max())

    def levels(self) -> list[float]:
        """Budgets: 1 and 3 times powers of ten within what was spent, and all of it."""
        spent = self.runs.groupby("spec")["evaluations"].max()
        nice = [a * 10.0**k for k in range(1, 12) for a in (1, 3)]
        inside = [b for b in nice if spent.min() <= b < 0.8 * spent.max()][1 - MOST_LEVELS :]
        return [*inside, float(spent.max())]

    def best(self, budget: float = np.inf) -> pd.DataFrame:
        """Of every contestant the run of the least mean among those within the budget, the best first."""
        inside = self.runs[self.runs["evaluations"] <= budget]
        return inside.sort_values("measured").drop_duplicates("contestant").reset_index(drop=True)

    def envelope(self, name: str) -> pd.DataFrame:
        """The best runs of one contestant within every budget that it spent."""
        rows = self.runs[self.runs["contestant"] == name].sort_values(["evaluations", "measured"])
        return rows[rows["measured"] == rows["measured"].cummin()].drop_duplicates("evaluations")

    def words(self) -> list[str]:
        """Who wins where."""
        said = list[str]()
        for budget in self.levels():
            sentence = self._at(budget)
            if not said or sentence.split(" evaluations ")[1] != said[-1].split(" evaluations ")[1]:  # more changed nothing
                said.append(sentence)
        if self.floor > 0:
            said.append(self._at_the_floor())
        if "lower" in set(self.runs["side"]):
            said.append("These are lower values: samplers may differ in what this metric does not see.")
        starved = self.lost.groupby("contestant", sort=False)["spec"].nunique()
        tried = dict(pd.concat([self.runs, self.lost]).groupby("contestant")["spec"].nunique().items())
        why = dict(self.lost.drop_duplicates("contestant").set_index("contestant")["note"].str.split(":").str[0].items())
        said += [f"{name}: no value in {count} of {tried[name]} settings ({why[name]})." for name, count in starved.items()]
        return said

    def _at(self, budget: float) -> str:
        best = self.best(budget)
        first, rest = best.iloc[0], best.iloc[1:]
        tied = rest[rest["lower"] <= first["upper"]]
        after = rest[rest["lower"] > first["upper"]]
        text = f"With at most {_count(budget)} evaluations a particle {first['contestant']} is nearest, {_value(first)}"
        text += f"; not told from it: {', '.join(_short(r) for _, r in tied.iterrows())}" if len(tied) else ""
        text += f"; then {', '.join(_short(r) for _, r in after.iterrows())}" if len(after) else ""
        return text + "."

    def _at_the_floor(self) -> str:
        reached, never = [], []
        for name in self.runs["contestant"].unique():
            rows = self.envelope(name)  # a worse setting may have a wider interval
            at = rows.loc[rows["lower"] <= rows["floor"], "evaluations"]
            if len(at):
                reached.append((float(at.min()), str(name)))
            else:
                never.append(str(name))
        text = f"Exact draws of this number score {self.floor:.3g}. "
        text += f"As near come {', '.join(f'{n} (from {_count(c)} on)' for c, n in sorted(reached))}." if reached else "None comes as near."
        return text + (f" Not: {', '.join(never)}." if reached and never else "")


def comparisons(result: Result) -> Iterator[Comparison]:
    """Every distance recorded where two or more samplers were run and one of them with several budgets; else nothing.

    Of a schedule only the end counts, of a chain every recorded step.
    """
    of_cell = dict(specs(result))
    everything = list(of_cell.values())
    if len({spec["name"] for spec in everything}) < 2 or not _budgets(everything):
        return
    try:
        ends = {i: _scheduled(s) for i, s in of_cell.items()}
    except MixrateError:  # a sampler of a plugin that is not loaded: whether its steps are a schedule is not known
        return
    parts = {i: (contestant(s, everything, TUNED), json.dumps(s, sort_keys=True), ends[i]) for i, s in of_cell.items()}
    who = pd.DataFrame.from_dict(parts, orient="index", columns=["contestant", "spec", "scheduled"])
    rows = result.table[result.table["check"] < 0].join(who, on="index")
    rows = rows[~rows["quantity"].str.split("(").str[0].isin(NOT_DISTANCES)].assign(evaluations=rows["scores"] + rows["potentials"])
    last = rows.groupby("index")["k"].transform("max")
    rows = rows[~rows["scheduled"].astype(bool) | (rows["k"] == last)]
    others = [column for column in swept(result.table) if _sets_apart(column, rows)]
    for what, of_metric in rows.groupby("quantity", sort=False):
        places = of_metric.groupby(others, dropna=False, sort=False) if others else [((), of_metric)]
        for _, part in places:
            broken = part.loc[part["status"] != "ok", "spec"].unique()
            lost = part[part["status"] != "ok"]
            runs = _over_seeds(part[~part["spec"].isin(broken) & (part["evaluations"] > 0) & np.isfinite(part["measured"])])
            silent = part.groupby("contestant")["status"].transform(lambda s: "unsupported" in set(s) and "ok" not in set(s))  # not its metric
            if runs["contestant"].nunique() > 1:
                yield Comparison(str(what), label(others, part), runs, lost[~silent.loc[lost.index].astype(bool)])


def _budgets(everything: list[dict[str, Any]]) -> bool:
    """Whether one sampler is run with several values of what it is tuned by, the step size apart (`work_precision` is for that)."""
    values: dict[tuple[str, str], set[str]] = {}
    for spec in everything:
        for name, value in spec.items():
            if name in TUNED and name != "step_size" and not isinstance(value, str):
                values.setdefault((contestant(spec, everything, TUNED), name), set()).add(str(value))
    return any(len(found) > 1 for found in values.values())


def _sets_apart(column: str, rows: pd.DataFrame) -> bool:
    """Whether a swept setting makes another comparison: a target does; a start or a law where one sampler is run with several of them, while
    a start that comes with the sampler (a reverse diffusion's is not Langevin's) is part of how it is run."""
    section = column.split(".")[0]
    if section == "target":
        return True
    return section in ("start", "law") and bool(rows.groupby("spec")[column].nunique(dropna=False).gt(1).any())


def _scheduled(spec: dict[str, Any]) -> bool:
    return bool(build("sampler", spec["name"], {k: v for k, v in spec.items() if k != "name"}).scheduled)


def _over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over the seeds, with Student's interval; the metric's own where there is one seed."""
    found = []
    for (name, spec, _), part in rows.groupby(["contestant", "spec", "evaluations"], sort=False):
        evaluations = float(part["evaluations"].iloc[0])
        n, mean = len(part), float(part["measured"].mean())
        if n > 1:
            half = float(special.stdtrit(n - 1, 0.5 + LEVEL / 2)) * float(part["measured"].std()) / n**0.5
            lower, upper = max(0.0, mean - half), mean + half  # no distance is negative
        else:
            lower, upper = float(part["lower"].iloc[0]), float(part["upper"].iloc[0])
        means = {
            "measured": mean,
            "lower": lower,
            "upper": upper,
            "floor": float(part["floor"].mean()),
            "side": part["side"].iloc[0],
            "seconds": float(part["seconds"].mean()),
        }
        found.append({"contestant": name, "spec": spec, "evaluations": evaluations, **means, "seeds": n, "index": int(part["index"].iloc[0])})
    columns = ["contestant", "spec", "evaluations", "measured", "lower", "upper", "floor", "side", "seconds", "seeds", "index"]
    return pd.DataFrame(found, columns=columns)


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _value(row: pd.Series[Any]) -> str:
    return f"{row['measured']:.3g} [{row['lower']:.3g}, {row['upper']:.3g}]"


def _short(row: pd.Series[Any]) -> str:
    return f"{row['contestant']} {row['measured']:.3g}"


def kept(result: Result) -> pd.DataFrame:
    """Every comparison of a run with the columns `KEPT`, small enough to keep under version control."""
    parts = [
        pd.concat([c.runs, c.lost[["contestant", "spec", "note"]].drop_duplicates(["contestant", "spec"])]).assign(
            experiment=result.name, metric=c.metric, setting=c.setting
        )
        for c in comparisons(result)
    ]
    return pd.concat(parts, ignore_index=True)[KEPT] if parts else pd.DataFrame(columns=KEPT)


def recalled(table: pd.DataFrame) -> list[tuple[str, Comparison]]:
    """The comparisons in a table of `kept`, each with its experiment; their runs have no seconds."""
    found = []
    whole = table.assign(setting=table["setting"].astype(object).where(table["setting"].notna(), ""))  # an empty word is read back as nothing
    for (name, metric, setting), part in whole.groupby(["experiment", "metric", "setting"], sort=False):
        runs = part[part["measured"].notna()].reset_index(drop=True)
        runs = runs.astype({"seeds": int}).assign(seconds=np.nan, index=pd.factorize(runs["spec"])[0])
        lost = part.loc[part["measured"].isna(), ["contestant", "spec", "note"]]
        found.append((str(name), Comparison(str(metric), str(setting), runs, lost)))
    return found


def tables(result: Result) -> list[dict[str, Any]]:
    """For the report: every comparison as `tabled`."""
    return [tabled(c) for c in comparisons(result)]


def tabled(c: Comparison) -> dict[str, Any]:
    """Title, words, and the best of each sampler within each budget."""
    levels = c.levels()
    best = [c.best(budget).set_index("contestant") for budget in levels]
    names = list(best[-1].index)
    cells = [[_value(b.loc[name]) if name in b.index else "" for b in best] for name in names]
    costs = [f"{best[-1].loc[name, 'seconds']:.3g} s" for name in names]
    title = f"{c.metric}, {c.setting}" if c.setting else c.metric
    rows = [{"name": n, "cells": row, "seconds": s} for n, row, s in zip(names, cells, costs, strict=True)]
    return {"title": title, "words": c.words(), "levels": [_count(b) for b in levels], "rows": rows}


def diagrams(result: Result) -> dict[tuple[str, str], Figure]:
    """One figure for each comparison; call it inside `drawing.style`."""
    return {(c.metric, c.setting): diagram(c) for c in comparisons(result)}


def diagram(c: Comparison) -> Figure:
    """Every contestant's best within each budget, held until a better one, with its interval over seeds; the floor hatched."""
    title = f"at equal cost: {c.setting}" if c.setting else "at equal cost"
    figure, axes = drawing.canvas(4.2, typeset(title, "mathtext"))
    pens = (*PENS, *MORE)
    names = list(c.best()["contestant"])
    lines = [c.envelope(name) for name in names[: len(pens)]]
    axes.set_xlabel("score and potential evaluations a particle")
    axes.set_ylabel(quantity(c.metric))
    shown = pd.concat(lines)
    drawing.log_axis(axes.xaxis, shown["evaluations"].min() / 1.25, 1.25 * c.runs["evaluations"].max())
    # an interval over seeds that reaches 0 hides no value, and is no floor
    inside = shown.assign(lower=shown["lower"].where(shown["lower"] > 0, shown["measured"]))
    drawing.heights(axes, inside)
    entries: list[Artist] = []
    for i, (name, line, pen) in enumerate(zip(names, lines, pens, strict=False)):
        aside = 1.012 ** (i - len(lines) / 2)  # intervals beside each other
        spent = float(c.runs.loc[c.runs["contestant"] == name, "evaluations"].max())
        x, y = (np.append(line[column].to_numpy(float), end) for column, end in (("evaluations", spent), ("measured", line["measured"].iloc[-1])))
        axes.plot(x * aside, y, color=pen.colour, ls=pen.dash, lw=1.3, zorder=3)
        axes.plot(x[:-1] * aside, y[:-1], color=pen.colour, marker=pen.marker, ms=4.5, ls="none", zorder=4)
        low = np.maximum(line["lower"].to_numpy(float), axes.get_ylim()[0])
        axes.vlines(x[:-1] * aside, low, line["upper"], color=pen.colour, lw=0.9, alpha=0.7, zorder=2)
        entries.append(drawing.sample(typeset(name, "mathtext"), pen))
    seeds = int(c.runs["seeds"].min())
    note = f"the best settings of each; bars: {LEVEL:.0%} over {plain(seeds)} seeds" if seeds > 1 else "the best settings of each"
    left = f"; {len(names) - len(lines)} more are not shown" * (len(names) > len(lines))
    drawing.legend(figure, [*entries, *drawing.floor(axes, inside)], note + left)
    return figure
