"""Writes `docs/rdmc.md`, its pictures, `results/rdmc.csv` and `results/comparisons.csv`: ``python docs/build_rdmc.py [--compare] [--kept]``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mixrate.experiments import drawing, rdmc_pictures
from mixrate.experiments.budgeted import Comparison, diagram, tabled
from mixrate.experiments.diffusion_tables import number, table
from mixrate.experiments.page import publish, wrapped
from mixrate.experiments.rdmc_contests import BESIDE, STEPS, beside, picture_of, refreshed, shown, table_at
from mixrate.experiments.rdmc_tables import chosen as rows_of
from mixrate.experiments.rdmc_tables import collected, costs, fares, separations, starts, weights
from mixrate.experiments.runner import one_thread, run
from mixrate.experiments.schema import read
from mixrate.samplers.diffusion.diagnosis import log_concave_until

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "rdmc.md"
PICTURES = ROOT / "docs" / "images" / "rdmc"
EXPERIMENTS, RUNS = ROOT / "experiments", ROOT / "results" / "runs"
FIGURES, COMPARISONS, PUBLISHED = (ROOT / "results" / f"{name}.csv" for name in ("rdmc", "comparisons", "published"))
FINDINGS = ROOT / "docs" / "findings.md"

#: Times in the table of effective points.
TIMES = (4.0, 2.0, 0.9, 0.5, 0.25, 0.07)

TOP = """\
# Reverse diffusion Monte Carlo in pictures

<!-- Written by `make rdmc-page` from the experiments named below: edit `docs/build_rdmc.py`. -->

A reverse diffusion needs the score of the noised target. Where nothing but the potential is known, it is estimated at
every step from points of `q_t(x_0 | x) ~ exp(-V(x_0) - |x - a x_0|^2/(2 v))`, `a = exp(-t)`, `v = 1 - exp(-2t)`: the
law of the clean point given the noised one. Which inner sampler draws these points best, at which time, what that
costs, and when it pays. `make rdmc-page` runs what is said here, draws the pictures and fills in every number.
"""


# The page.


def page(figures: pd.DataFrame | None = None, comparisons: pd.DataFrame | None = None) -> str:
    """The whole text; by default of the figures that are kept in `results/`."""
    numbers = pd.read_csv(FIGURES) if figures is None else figures
    contest = table_at(COMPARISONS) if comparisons is None else comparisons
    parts = (_problem(), _inner(numbers), _costs(numbers), _starts(numbers), _apart(numbers), list(_contests(contest)), _findings())
    return "\n\n".join([TOP.strip(), *(wrapped(block) for part in parts for block in part)]) + "\n"


def _problem() -> list[str]:
    until = log_concave_until(rdmc_pictures.MODES)
    return [
        "## The inner problem",
        "![posterior of two modes at several times, and its least curvature](images/rdmc/inner-problem.png)",
        "0.3 N(-3, 1) + 0.7 N(3, 1). The posterior has the curvature of V and `a^2/v = 1/(exp(2t) - 1)` more: near t = 0 it is a Gaussian "
        "about x/a, for large t it is the target. With `V'' >= m` it is certified log-concave up to the time `log(1 - 1/m)/2`, here "
        f"{until:.4f}, and on the line the certified curvature is the least there is. A run backwards meets the hard problems first.",
        "![posterior of zod_mc in the plane at three times](images/rdmc/planes.png)",
        "`zod_mc` has four modes of unlike covariances, and no m: the Hessian has no lower bound, and what a grid over the box of its mass "
        "finds is that of the box. So nothing is certified at any time, although at t = 0.1 the posterior is one small mode; at t = 2 it has "
        "all four.",
    ]


def _inner(numbers: pd.DataFrame) -> list[str]:
    error = rows_of(numbers, "inner", "error").set_index(["target", "case", "x"])["measured"]
    times = sorted(error.index.get_level_values("x").unique())
    middle = min(times, key=lambda t: abs(t - 1))
    kernel, resampled = (error["two modes", f"ULA, {start}", middle] for start in ("kernel draws", "resampled"))
    bias = rows_of(numbers, "inner", "bias", target="two modes", case="ULA, kernel draws").set_index("x")["measured"]
    (low, high), (zod_low, zod_high) = (least(error[name].unstack(), "importance") for name in ("two modes", "zod_mc"))
    late = [number(error[name, case, times[0]]) for case in ("ULA, resampled, both", "importance") for name in ("two modes", "zod_mc")]
    return [
        "## Which inner sampler serves when",
        "![error of the score, and effective points, by time](images/rdmc/inner-samplers.png)",
        "Root mean square error (bias and variance) of the estimated score against the oracle's, at 300 draws of the noised target, by 2,560 "
        "evaluations per particle: as many importance draws, 128 points of at most 20 rounds of rejection, 128 chains of 20 Langevin steps. "
        "Two modes 6 apart in d = 2, weights 0.3 and 0.7, with inner steps of 0.5; `zod_mc` with 0.1. `both` regresses on the posterior's own "
        "score, for 128 evaluations more. Chains are cold: none goes on from an earlier time.",
        f"- **Chains from draws of the kernel N(x/a, v/a^2) stay where they began.** On two modes the error at t = {middle:.2g} is "
        f"{number(kernel)}, of which {number(bias[middle])} is bias; from resampled draws it is {number(resampled)}. More chains help "
        "against the variance alone.",
        f"- **In between, importance sampling has the least error**: on two modes from t = {low:.2g} to {high:.2g}, on `zod_mc` from "
        f"{zod_low:.2g} to {zod_high:.2g}. At the upper end its effective size is a few points; but there the mean over the posterior enters "
        "the score with the factor a/v, which is small.",
        f"- **At both ends it is `both`.** At t = {times[0]:.2g}, from resampled draws, it leaves {late[0]} on two modes and {late[1]} on "
        f"`zod_mc` (below the frame), importance {late[2]} and {late[3]}: near t = 0 the posterior is one Gaussian, for which nothing is left of the "
        "error.",
        "- **Rejection is exact where it accepts.** Particles without a point count with the mean 0 here, as in ZOD-MC's code; on `zod_mc` "
        f"that makes an error of {number(error['zod_mc', 'rejection', times[0]])} at t = {times[0]:.2g}, where what is missing is divided by v.",
        fares(numbers, TIMES),
        "Effective numbers of points, means over the particles, and the share of proposals that rejection accepts.",
    ]


def least(errors: pd.DataFrame, case: str) -> tuple[float, float]:
    """The first and last time at which a case has the least error.

    Arguments: errors: a row per case, a column per time.
    """
    times = [float(t) for t in errors.columns if errors[t].idxmin() == case]
    return min(times), max(times)


def _costs(numbers: pd.DataFrame) -> list[str]:
    kl = rows_of(numbers, "cost", "kl").set_index(["target", "case"])["measured"]
    gain = [kl[name, "plain"] / kl[name, "budget, resampled"] for name in ("two modes", "zod_mc")]
    steps = rows_of(numbers, "budget", "steps", case="budget, resampled").groupby("target")["measured"].apply(list)
    single = [sum(k == 1 for k in steps[name]) for name in ("two modes", "zod_mc")]
    fewest = rows_of(numbers, "budget", "chains", target="zod_mc", case="budget, resampled, both")["measured"].min()
    return [
        "## Error per evaluation",
        "Along runs of 400 particles from exact draws at T = 2 in 25 steps: the bound `KL <= sum_k w_k E|S_k - s_k|^2` on what the "
        "estimated scores cost, their root mean square error, and `rms sqrt(evaluations)` over that of the plain sampler, whose square is "
        "how many times the evaluations an equal error costs as long as it is variance. Chains are 128 of 20 steps where no budget is set.",
        costs(numbers),
        f"Warm chains repeat their errors from step to step, and on `zod_mc` cost {kl['zod_mc', 'warm'] / kl['zod_mc', 'plain']:.1f} times "
        "the KL of cold ones. At this horizon plain importance sampling is the best. A budget spread over the times by a pilot run leaves "
        f"{gain[0]:.0f} and {gain[1]:.0f} times less than the plain sampler once its chains start at resampled draws; from kernel draws "
        f"{kl['two modes', 'plain'] / kl['two modes', 'budget']:.1f} times less on two modes and no less on `zod_mc`, where the bias of the "
        f"start is there with any numbers. With both identities the plan keeps at least {fewest:.0f} chains, for on a few the regression "
        "fails for some particles; the bound is then "
        f"{kl['two modes', 'budget, resampled, both'] / kl['two modes', 'budget, resampled']:.2f} and "
        f"{kl['zod_mc', 'budget, resampled, both'] / kl['zod_mc', 'budget, resampled']:.2f} times that without.",
        "![inner chains and steps that a budget is spread over](images/rdmc/budgets.png)",
        f"The plan from resampled draws. One step is enough at {single[0]} of the 25 times on two modes and at {single[1]} on `zod_mc`: the "
        "draws have about the posterior's law already, and what is bought is their number. Where few draws are effective, chains take more "
        "steps, and part. Plans that differ much may cost nearly the same, hence the jumps.",
    ]


def _starts(numbers: pd.DataFrame) -> list[str]:
    value = rows_of(numbers, "start", "kl").set_index(["case", "x"])["measured"]
    scores = rows_of(numbers, "start", "scores").set_index(["case", "x"])["measured"]
    return [
        "## Where to start",
        "Two modes 4 apart, exact scores, laws on a mesh: what comes out of a start at N(0, I) at T, and of 40 Langevin steps on p_T first "
        "(`mixrate run experiments/rdmc-start-horizon.yaml`; the time step is 0.01).",
        starts(numbers),
        "Up to T = 2 the KL falls faster than `exp(-2T)`; at T = 4 what is left is the error of the time step. Langevin at T = 1 leaves "
        f"{number(value['Langevin', 1.0])} after {scores['Langevin', 1.0]:.0f} steps, less than the {number(value['N(0, I)', 2.0])} of N(0, I) at "
        f"T = 2 after {scores['N(0, I)', 2.0]:.0f}: p_T is log-concave there, and a theorem (`rdmc-start`) bounds the distance to it. With "
        "estimated scores a smaller horizon has more effective points, too.",
    ]


def _apart(numbers: pd.DataFrame) -> list[str]:
    spent = rows_of(numbers, "apart", "evaluations").set_index(["case", "x"])["measured"]
    first, last = spent.index.get_level_values("x").min(), spent.index.get_level_values("x").max()
    share = rows_of(numbers, "weights", "share").set_index(["case", "x"])["measured"]
    most = share.index.get_level_values("x").max()
    return [
        "## As the modes move apart",
        "![evaluations to a total variation against half the separation](images/rdmc/apart.png)",
        "Modes of weights 0.3 and 0.7 at -a and a, on the line. ULA needs `exp(a^2/2)/a` evaluations, as its relaxation time 1/gap does: "
        f"{spent['ULA', first]:,.0f} at a = {first:g} and {spent['ULA', last]:,.0f} at a = {last:g}. RDMC needs a power of a, from "
        f"{spent['RDMC, importance', first]:.0f} to {spent['RDMC, importance', last]:.0f} with importance draws, if the horizon follows a "
        "(`exp(-T) a = 1/3`). TV to 0.2, that of the resampled chains to 0.15 (`mixrate run experiments/rdmc-vs-ld.yaml` and "
        "`rdmc-vs-ld-inner.yaml`).",
        separations(numbers),
        "What carries the weights of the modes is the weights of the draws. Inner chains that start at unweighted kernel draws each end in the "
        f"mode on whose side they began, and the lighter mode comes out with {number(share['kernel draws', most])} in place of 0.3, "
        "however many they are; equal weights would come out right all the same, by symmetry. At a = 4.5, chains of 20 steps:",
        weights(numbers),
    ]


def _contests(comparisons: pd.DataFrame) -> Iterator[str]:
    found = shown(comparisons)
    if not found:
        return
    yield "## At equal cost"
    yield (
        "Of every sampler the best of its settings within a budget of score and potential evaluations a particle, all counted, by the mean over "
        "the seeds, on which it is also judged, with Student's interval (95 %). The settings are in the experiments. Floor: what as many exact "
        "draws score. Not counted is the pilot run behind `rdmc, inner = ula, cold = importance`: 64 particles with 256 chains of 150 steps at every "
        "time, some 60,000 evaluations for each of 1,000 particles where there are 25 times, more than its smaller budgets."
    )
    for name in dict.fromkeys(name for name, _ in found):
        path = EXPERIMENTS / f"{name}.yaml"
        yield f"### {read(path).title if path.exists() else name}"
        for _, c in (pair for pair in found if pair[0] == name):
            yield from _contest(name, c)
            if name == "compare-multimodal" and c.metric == "w2":
                yield from _published(c)


def _contest(name: str, c: Comparison) -> Iterator[str]:
    whole = tabled(c)
    if c.metric != BESIDE:
        yield f"![{whole['title']} against evaluations](images/rdmc/{picture_of(name, c)}.png)"
    yield f"`{c.metric}`{', ' + c.setting if c.setting else ''} (`mixrate run experiments/{name}.yaml`)."
    yield from (f"- {sentence}" for sentence in whole["words"])
    yield table(("sampler", *(f"<= {b}" for b in whole["levels"])), [(row["name"], *(cell or "-" for cell in row["cells"])) for row in whole["rows"]])


def _published(c: Comparison) -> Iterator[str]:
    """Published values of the same density beside ours."""
    rows = pd.read_csv(PUBLISHED).query("target == 'gaussian_mixture.zod_mc' and metric == 'W2' and budget == budget")
    yield (
        f"W2 as published, one run each, and in brackets ours at the same evaluations ({STEPS} times those per score), of the same settings "
        f"for ZOD-MC and RDMC, and for the others of the same kind of sampler, as the experiment has it. Source: {rows['source'].iloc[0]}; "
        f"{rows['setting'].iloc[0]}."
    )
    yield beside(rows, c)


def _findings() -> list[str]:
    sections = {
        "Estimating the score inside reverse diffusion Monte Carlo (`rdmc-inner`, `rdmc-exact`)": "its rate, the two identities, where chains start.",
        "Inner chains that start at unweighted draws lose the weights of the modes (`rdmc-vs-ld`)": "and equal weights do not show it.",
        "The recursive score estimate does not pay on two modes": "the numbers of chains multiply.",
        "An inner step without a certified M (`gaussian_mixture.zod_mc`)": "and why errors are measured at draws of p_t.",
        "Bounded rejection leaves the proximal sampler exact (`proximal`, `rounds`)": "a competitor that needs no score.",
        "Two modes are not the Eyring-Kramers case (`gap-separation`)": "the gap that Langevin pays for.",
        "Samplers at equal cost: the ranking is the settings' (`compare-multimodal`)": "and what a wider start or reference is worth.",
        "A mixture of Gaussians need not be smooth (`gaussian_mixture.zod_mc`)": "why `zod_mc` has no certificate.",
    }
    written = FINDINGS.read_text(encoding="utf-8")
    assert all(f"## {title}\n" in written for title in sections)
    return ["## Findings", *(f"- [{title.split(' (')[0]}](findings.md#{_anchor(title)}): {what}" for title, what in sections.items())]


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-")


# Pictures.


def pictures(figures: pd.DataFrame, comparisons: pd.DataFrame) -> dict[str, Figure]:
    """All of them; call it inside `drawing.style`."""
    return {
        "inner-problem": rdmc_pictures.inner_problem(np.geomspace(0.01, 4.0, 61)),
        "planes": rdmc_pictures.planes(),
        "inner-samplers": rdmc_pictures.inner_samplers(figures),
        "budgets": rdmc_pictures.budgets(figures),
        "apart": rdmc_pictures.apart(figures),
        **{picture_of(name, c): diagram(c) for name, c in shown(comparisons) if c.metric != BESIDE},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="write docs/rdmc.md")
    parser.add_argument("--compare", action="store_true", help="run the comparisons at equal cost where they are not finished (long)")
    parser.add_argument("--kept", action="store_true", help="measure nothing: text and pictures from the tables that are kept")
    options = parser.parse_args()
    PICTURES.mkdir(parents=True, exist_ok=True)
    with one_thread():
        if not options.kept:
            start, *apart = (run(read(EXPERIMENTS / f"{name}.yaml"), RUNS) for name in ("rdmc-start-horizon", "rdmc-vs-ld", "rdmc-vs-ld-inner"))
            collected(start, apart).to_csv(FIGURES, index=False, lineterminator="\n", float_format="%.6g")
            refreshed(table_at(COMPARISONS), EXPERIMENTS, RUNS, options.compare).to_csv(
                COMPARISONS, index=False, lineterminator="\n", float_format="%.9g"
            )
        with drawing.style():
            drawn = pictures(pd.read_csv(FIGURES), table_at(COMPARISONS))
        print(publish(PAGE, page(), PICTURES, drawn))


if __name__ == "__main__":
    main()
