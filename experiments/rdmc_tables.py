"""The numbers of `docs/rdmc.md`: inner samplers measured, rows from runs, and the tables that they fill."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..laws.normal import Normal
from ..laws.particles import Particles
from ..laws.propagate import propagate
from ..metrics.tv import TV
from ..samplers.diffusion.budget import planned
from ..samplers.diffusion.diagnosis import diagnose, score_costs
from ..samplers.noise import Stream
from ..samplers.rdmc import RDMC
from ..targets.gaussian_mixture import GaussianMixture
from .diffusion_tables import number, table
from .result import Result, records

#: Of the figures that are kept; x is a time, a horizon, half a separation or a number of inner points.
COLUMNS = ["part", "target", "case", "x", "quantity", "measured", "lower", "upper"]


class Subject(NamedTuple):
    """A target, and the step of its inner chains."""

    target: GaussianMixture
    inner_step: float


#: The targets by the names that the page has for them.
SUBJECTS = {
    "two modes": Subject(GaussianMixture.two_modes(separation=6, dim=2, weight=0.3), 0.5),
    "zod_mc": Subject(GaussianMixture.zod_mc(), 0.1),
}
#: Evaluations per particle and time, the additional ones of identities and starts apart: 128 chains of 20 steps.
EVALUATIONS = 2560
#: Inner samplers by time.
INNER: dict[str, dict[str, Any]] = {
    "importance": {"inner": "importance", "inner_chains": EVALUATIONS},
    "rejection": {"inner": "rejection"},
    "ULA, kernel draws": {"inner": "ula"},
    "ULA, kernel draws, both": {"inner": "ula", "identity": "both"},
    "ULA, resampled": {"inner": "ula", "cold": "importance"},
    "ULA, resampled, both": {"inner": "ula", "cold": "importance", "identity": "both"},
}
#: Exact draws, and independent estimates at each, of the errors by time.
DRAWS, REPEATS = 300, 8
#: Ways to spend evaluations along a run; the first is what the others are compared with.
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "warm": {"warm": True},
    "both": {"identity": "both"},
    "resampled": {"cold": "importance"},
    "resampled, both": {"cold": "importance", "identity": "both"},
    "importance": INNER["importance"],
    "budget": {"budget": float(EVALUATIONS)},
    "budget, both": {"budget": float(EVALUATIONS), "identity": "both"},
    "budget, resampled": {"budget": float(EVALUATIONS), "cold": "importance"},
    "budget, resampled, both": {"budget": float(EVALUATIONS), "cold": "importance", "identity": "both"},
}
#: Of which the numbers of chains and steps are kept.
PLANS = ("budget, resampled", "budget, resampled, both")
#: Particles along which the ways are compared.
PARTICLES = 400
#: Numbers of inner points from either start, at half the separation 4.5.
POINTS, HALF = (2, 8, 32, 128), 4.5
STARTS = {"kernel": "kernel draws", "importance": "resampled draws"}


# What is measured.


def schedule(subject: Subject, options: dict[str, Any]) -> RDMC:
    """The times of the errors by time: 16, denser near 0."""
    return RDMC(steps=16, horizon=4.0, stop=0.02, spacing="quadratic", least_ess=0.0, inner_step=subject.inner_step, **options)


def way(subject: Subject, options: dict[str, Any]) -> RDMC:
    """T = 2 in 25 steps, 128 chains of 20 steps where nothing else is said."""
    return RDMC(steps=25, horizon=2.0, least_ess=0.0, inner_step=subject.inner_step, **options)


def inner_rows(name: str, case: str) -> list[dict[str, Any]]:
    """The errors, and how the inner sampler fares, at each time."""
    subject, rows = SUBJECTS[name], []
    x = subject.target.sample(DRAWS, Stream("page", 0, name))
    for found in diagnose(schedule(subject, INNER[case]), subject.target, x, Stream("page", 1, name, case), REPEATS):
        error = (found.bias**2 + found.variance) ** 0.5
        values = {"error": error, "bias": found.bias, "ess": found.ess, "least_ess": found.least_ess, "acceptance": found.acceptance}
        rows += [{"part": "inner", "target": name, "case": case, "x": found.time, "quantity": q, "measured": v} for q, v in values.items()]
    return rows


def cost_rows(name: str, cases: Sequence[str]) -> list[dict[str, Any]]:
    """What the evaluations of each way are worth, against those of the first."""
    subject, rows = SUBJECTS[name], []
    first, *found = score_costs([way(subject, WAYS[case]) for case in ("plain", *cases)], subject.target, PARTICLES)
    for case, cost in zip(cases, found, strict=True):
        values = {"kl": cost.kl, "rms": cost.rms, "rel": cost.against(first), "evaluations": cost.evaluations}
        rows += [{"part": "cost", "target": name, "case": case, "quantity": q, "measured": v} for q, v in values.items()]
    return rows


def budget_rows(name: str, case: str) -> list[dict[str, Any]]:
    """The inner chains and steps that a budget is spread over."""
    subject = SUBJECTS[name]
    sampler = way(subject, WAYS[case])
    plan = planned(sampler, subject.target)
    shape = {"part": "budget", "target": name, "case": case}
    pairs = [(t, *plan.numbers(subject.target, k)) for k, t in enumerate(sampler.times[:-1])]
    return [{**shape, "x": t, "quantity": q, "measured": v} for t, n, steps in pairs for q, v in (("chains", n), ("steps", steps))]


def weight_rows(cold: str, points: Sequence[int] = POINTS) -> list[dict[str, Any]]:
    """The share of the lighter mode (weight 0.3) and TV after inner chains from either start."""
    target, rows = GaussianMixture.two_modes(separation=2 * HALF, weight=0.3), []
    sampler = RDMC(20, float(np.log(3 * HALF)), inner="ula", inner_steps=20, cold=cold, least_ess=0.0)
    start = Particles.of_normal(Normal(np.zeros(1), np.eye(1)), 4000)
    lighter = float(target.means[target.weights.argmin(), 0])
    for n in points:
        [law] = propagate(start, dataclasses.replace(sampler, inner_chains=n), target, [sampler.length])
        assert isinstance(law, Particles)
        share = float((law.x[:, 0] * lighter > 0).double().mean())
        found, half = TV()(law, target), 2.576 * (share * (1 - share) / law.n) ** 0.5
        shape = {"part": "weights", "target": "two modes apart", "case": STARTS[cold], "x": n}
        rows.append({**shape, "quantity": "share", "measured": share, "lower": share - half, "upper": share + half})
        rows.append({**shape, "quantity": "tv", "measured": found.value, "lower": found.lower, "upper": found.upper})
    return rows


def start_rows(result: Result) -> list[dict[str, Any]]:
    """KL and W2 of what comes out, by horizon and start."""
    last = result.table.groupby("index")["k"].transform("max")
    rows = []
    for r in records(result.table[(result.table["check"] < 0) & (result.table["k"] == last)]):
        initial = 0 if pd.isna(r["sampler.initial_steps"]) else int(r["sampler.initial_steps"])
        shape = {"part": "start", "target": "two modes 4 apart", "case": "Langevin" if initial else "N(0, I)", "x": float(r["sampler.horizon"])}
        rows.append({**shape, "quantity": r["quantity"], "measured": r["measured"], "lower": r["lower"], "upper": r["upper"]})
        if r["quantity"] == "w2":
            rows.append({**shape, "quantity": "scores", "measured": r["scores"]})
    return rows


def apart_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Evaluations to a fixed TV by half the separation, and the exponents in 1/gap."""
    rows = []
    for result, case in zip(results, ("RDMC, importance", "RDMC, ULA, resampled"), strict=True):
        good = result.table[(result.table["status"] == "ok") & (result.table["check"] >= 0)].drop_duplicates("index")
        for r in records(good):
            name = "ULA" if r["theorem"] == "rdmc-vs-ld-langevin" else case
            shape = {"part": "apart", "target": "two modes apart", "case": name, "x": float(r["target.separation"]) / 2}
            rows.append({**shape, "quantity": "evaluations", "measured": r["measured"], "lower": r["lower"], "upper": r["upper"]})
            rows.append({**shape, "quantity": "1/gap", "measured": r["x"]})
        for v in records(result.verdicts[result.verdicts["word"] == "holds"]):
            shape = {"part": "apart", "target": "two modes apart", "case": "ULA" if v["theorem"] == "rdmc-vs-ld-langevin" else case}
            rows.append({**shape, "quantity": "exponent", "measured": v["exponent"], "lower": v["low"], "upper": v["high"]})
    return rows


def collected(start: Result, apart: Sequence[Result]) -> pd.DataFrame:
    """All rows: what is measured here, and what runs have measured."""
    rows = [row for name in SUBJECTS for case in INNER for row in inner_rows(name, case)]
    rows += [row for name in SUBJECTS for row in cost_rows(name, tuple(WAYS))]
    rows += [row for name in SUBJECTS for case in PLANS for row in budget_rows(name, case)]
    rows += [*start_rows(start), *apart_rows(apart), *(row for cold in STARTS for row in weight_rows(cold))]
    return pd.DataFrame(rows, columns=COLUMNS)


# Tables.


def chosen(kept: pd.DataFrame, part: str, quantity: str | None = None, **where: Any) -> pd.DataFrame:
    """The rows of a part, of one quantity, and of a target or case."""
    mine = kept[(kept["part"] == part) & ((kept["quantity"] == quantity) if quantity else True)]
    for column, value in where.items():
        mine = mine[mine[column] == value]
    return mine


def nearest(kept: pd.DataFrame, times: Sequence[float]) -> list[float]:
    """The times of the schedule nearest to those asked for."""
    known = np.sort(chosen(kept, "inner", "error")["x"].unique())
    return [float(known[np.abs(np.log(known / t)).argmin()]) for t in times]


def fares(kept: pd.DataFrame, times: Sequence[float]) -> str:
    """Effective numbers of points, and acceptance, at a few times."""
    at, rows = nearest(kept, times), []
    measured = {"importance, ESS of 2,560": ("importance", "ess"), "resampling, ESS of 128": ("ULA, resampled", "ess")}
    measured |= {"rejection, accepted": ("rejection", "acceptance"), "rejection, points of 128": ("rejection", "ess")}
    for name in SUBJECTS:
        for words, (case, quantity) in measured.items():
            values = chosen(kept, "inner", quantity, target=name, case=case).set_index("x")["measured"]
            cells = [f"{100 * values[t]:.2g} %" if quantity == "acceptance" else count(values[t]) for t in at]
            rows.append((f"`{name}`" if name == "zod_mc" else name, words, *cells))
    return table(("target", "", *(f"t = {t:.2g}" for t in at)), rows)


def count(points: float) -> str:
    """Of points: no digits behind the point where there are ten or more."""
    return f"{points:,.0f}" if points >= 10 else f"{points:.1f}"


def costs(kept: pd.DataFrame) -> str:
    """KL bound, rms error and relative error per root of the evaluations, both targets side by side; the least of a column in bold."""
    quantities, columns = ("kl", "rms", "rel"), []
    for name in SUBJECTS:
        for q in quantities:
            values = chosen(kept, "cost", q, target=name).set_index("case")["measured"].reindex(list(WAYS))
            columns.append([f"**{number(v)}**" if v == values.min() else number(v) for v in values])
    spent = chosen(kept, "cost", "evaluations", target="two modes").set_index("case")["measured"]
    rows = [(case, f"{spent[case]:,.0f}", *cells) for case, *cells in zip(WAYS, *columns, strict=True)]
    heads = [f"{q}, {name if name != 'zod_mc' else '`zod_mc`'}" for name in SUBJECTS for q in ("KL bound", "rms", "relative")]
    return table(("inner sampler", "evaluations", *heads), rows)


def starts(kept: pd.DataFrame) -> str:
    """KL and W2 by start and horizon."""
    rows = []
    for (case, x), part in chosen(kept, "start").groupby(["case", "x"], sort=False):
        of = part.set_index("quantity")["measured"]
        rows.append((str(case), f"{x:g}", f"{of['scores']:.0f}", number(of["kl"]), number(of["w2"])))
    return table(("start", "T", "steps in all", "KL", "W2"), sorted(rows, key=lambda r: (r[0] != "N(0, I)", float(r[1]))))


def separations(kept: pd.DataFrame) -> str:
    """Evaluations by half the separation, and the exponent in 1/gap with its interval."""
    mine, rows = chosen(kept, "apart", "evaluations"), []
    halves = sorted(mine["x"].unique())
    exponents = chosen(kept, "apart", "exponent").set_index("case")
    for case, part in mine.groupby("case", sort=False):
        values, e = part.set_index("x")["measured"], exponents.loc[case]
        rows.append((str(case), *(f"{values[a]:,.0f}" for a in halves), f"{e['measured']:.2f} [{e['lower']:.2f}, {e['upper']:.2f}]"))
    return table(("sampler", *(f"a = {a:g}" for a in halves), "exponent in 1/gap"), sorted(rows, key=lambda r: r[0] != "ULA"))


def weights(kept: pd.DataFrame) -> str:
    """The share of the lighter mode by the number of inner points."""
    rows = []
    for case, part in chosen(kept, "weights", "share").groupby("case", sort=False):
        cells = [f"{r['measured']:.3f} [{r['lower']:.3f}, {r['upper']:.3f}]" for r in records(part.sort_values("x"))]
        tv = chosen(kept, "weights", "tv", case=case).set_index("x")["measured"]
        rows.append((f"inner chains from {case}", *cells, number(tv[max(POINTS)])))
    return table(("", *(f"{n} chains" for n in POINTS), f"TV, {max(POINTS)} chains"), rows)
