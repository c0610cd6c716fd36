"""Writes `docs/diffusion.md`, its pictures, `results/diffusion.csv` and `results/learned-2d.csv`: ``python docs/build_diffusion.py``."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mixrate.experiments import diffusion_pictures, drawing
from mixrate.experiments.diffusion_pictures import Strand
from mixrate.experiments.diffusion_tables import LAWS, chosen, collected, gaps, learned, number, planes, shares, slopes, split
from mixrate.experiments.drawing import PENS
from mixrate.experiments.page import publish, wrapped
from mixrate.experiments.plots import figures
from mixrate.experiments.result import Result
from mixrate.experiments.runner import one_thread, run
from mixrate.experiments.schema import Point, read
from mixrate.learning import train

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "diffusion.md"
PICTURES = ROOT / "docs" / "images" / "diffusion"
SCORES = ROOT / "experiments" / "scores"
FIGURES, LEARNED = ROOT / "results" / "diffusion.csv", ROOT / "results" / "learned-2d.csv"

#: Experiments of the page, with what is changed in them.
RUNS: dict[str, list[str]] = {
    "annealed-weights": [],
    "error-split": ["theorems=[em-girsanov, error-split]"],
    "learned-score": [],
    "reverse-orders": [],
    "reverse-orders-phase": [],
    "learned-2d": [],
}
#: Targets in the picture of draws.
SHOWN = ("gaussian_mixture.twenty_five_modes", "gaussian_mixture.fab_forty")

TOP = """\
# Diffusion from a known density

<!-- Written by `make diffusion-page` from the experiments named below: edit `docs/build_diffusion.py`. -->

A mixture of Gaussians is one after noising too, under every linear process. So the score that a reverse diffusion
needs is known at every time, and each source of error can be switched on alone: the start, the steps, the score.
`make diffusion-page` runs the experiments, draws the pictures and fills in every number.
"""


# Runs.


def points(name: str) -> list[Point]:
    """Of an experiment, with what is changed in it."""
    return read(ROOT / "experiments" / f"{name}.yaml", RUNS[name]).points()


def result_of(name: str) -> Result:
    """The run of an experiment; one that is changed has a folder of its own."""
    overrides, out = RUNS[name], ROOT / "results" / "runs"
    return run(read(ROOT / "experiments" / f"{name}.yaml", overrides), out / "diffusion-page" if overrides else out)


def trainings() -> dict[str, tuple[float, float]]:
    """Relative error of each network in the plane and the seconds of its training, by the path that samplers know it by.

    What is there is not trained again; its seconds are those that were kept.
    """
    before = pd.read_csv(LEARNED).set_index("score")["seconds"]
    found = {}
    for score in sorted({str(p.sampler.params["score"]) for p in points("learned-2d")} - {"oracle"}):
        trained = train(ROOT / "experiments" / "training" / f"{Path(score).stem}.yaml", out=SCORES)
        assert trained.error is not None
        found[score] = trained.error.total, trained.seconds or float(before.get(score, math.nan))
    return found


# The page.


def page() -> str:
    """The whole text; the figures are those kept in `results/`."""
    kept, plane = pd.read_csv(FIGURES), pd.read_csv(LEARNED)
    parts = (_weights(kept), _splits(kept), _orders(kept), _velocity(kept), _planes(plane))
    return "\n\n".join([TOP.strip(), *(wrapped(block) for part in parts for block in part)]) + "\n"


def _weights(kept: pd.DataFrame) -> list[str]:
    mine = chosen(kept, "annealed-weights", "share of mode 1").set_index("case")["measured"]
    return [
        "## Which mode, and how often",
        "![particles of plain and of annealed Langevin beside exact draws](images/diffusion/annealed-weights.png)",
        f"0.2 N((-5, -5), I) + 0.8 N((5, 5), I), 4,000 particles, 1,000 steps from N(0, 21.33 I) (`mixrate run "
        f"experiments/annealed-weights.yaml`). Plain Langevin finds both modes and not their weights: a particle slides into the mode "
        f"on whose side it starts, {100 * mine['`ula`']:.0f} % into the lighter one, and stays. Annealed Langevin "
        f"starts on the target plus N(0, 400 I), which has one mode, and has {100 * mine['`annealed_langevin`']:.1f} % of its particles in "
        "the lighter mode. It leaves every level before that has converged; the rest is what it costs. The brackets are five standard errors "
        "of the sample on either side (Song and Ermon 2019, Figure 3, https://arxiv.org/abs/1907.05600).",
        shares(kept),
    ]


def _splits(kept: pd.DataFrame) -> list[str]:
    w2 = {name: chosen(kept, name, "w2").set_index("steps")["measured"] for name in ("error-split", "learned-score")}
    kl = chosen(kept, "learned-score").pivot_table(index="steps", columns="quantity", values=["measured", "stated"])
    factors = [float(kl["stated"]["kl"][n] / kl["measured"]["kl"][n]) for n in (12, 200)]
    score, steps = (chosen(kept, "learned-score", part).set_index("steps")["measured"] for part in ("score", "discretisation"))
    return [
        "## Where the error comes from",
        "The four parts are distances between laws, each with one error more than the one before: the target noised up to the stop; the "
        "steps with the oracle from the exact start; from N(0, 1); with the score that is used. All are carried on a mesh, the learned one "
        "too: on the line a network is a function like any other. W2 is at most their sum (the triangle inequality).",
        "![four parts of the error with an error injected into the score](images/diffusion/error-split.png)",
        "Two modes, weights 0.3 and 0.7, 3 apart; exponential integrator in uniform steps from T = 3 to 0.01, 0.1 added to the score "
        'everywhere (`mixrate run experiments/error-split.yaml --set "theorems=[em-girsanov, error-split]"`). More steps do not help '
        f"against a wrong score: W2 goes from {number(w2['error-split'][12])} to {number(w2['error-split'][200])}, up, because the error of "
        "the steps undoes a part of the score's.",
        split(kept, "error-split"),
        "![four parts of the error with a learned score](images/diffusion/learned-score.png)",
        "The same with a trained network of 48 units in two layers and quadratic spacing (`mixrate run experiments/learned-score.yaml`; "
        "the network is `mixrate train experiments/training/two-modes.yaml`). Its own part hardly depends on the number of steps, "
        f"{number(score.min())} to {number(score.max())}; from {score[score > steps].index[0]:.0f} steps on it is larger than that of the steps.",
        split(kept, "learned-score"),
        f"The Girsanov bound holds. It is {factors[0]:.0f} times the KL at 12 steps and {factors[1]:.0f} times at 200: the bound is of order h "
        "in the step, and KL, which on a smooth law is quadratic in its error, of order h^2 until the error of the score is left.",
    ]


def _orders(kept: pd.DataFrame) -> list[str]:
    at = chosen(kept, "reverse-orders-phase").set_index(["case", "steps"])["measured"]
    gain = at["`phase_euler`", 200] / at["`sscs`, euler", 200]
    floor = chosen(kept, "reverse-orders").set_index("case")["measured"]["`flow_adaptive`"]
    return [
        "## What a score evaluation buys",
        "![total variation against score evaluations](images/diffusion/orders.png)",
        "The same two modes with the oracle score, from the exact forward law, down to the time 0; total variation to the target, without "
        "sampling error (`mixrate run experiments/reverse-orders.yaml` and `reverse-orders-phase.yaml`). On positions the process is `dx = -x "
        "dt + sqrt(2) dB` up to T = 3; on (x, p) it is critically damped, beta = 4, up to T = 1. The flow solved to a tolerance of 1e-10 "
        f"leaves {number(floor)}, which is what the mesh costs.",
        slopes(kept),
        "- **DDPM and DDIM are of order h log(1/h) in uniform steps.** The variance of x_s given x_t is `(1 - alpha)/alpha (1 - (1 - alpha) "
        "Hess V_t)`. DDPM's posterior variance is right where the target is a point; on a smooth density it misses `(1 - alpha)^2/(1 - "
        "abar_t)` a step, which near t = 0 is h^2/t and adds up to h log(1/h). DDIM is Euler's method in `sqrt(v)/a`, which near 0 is like "
        "sqrt(t). In both the relative step h/t is what must be small, and quadratic spacing restores order 1.",
        "- **Correctors have a price.** At a fixed signal-to-noise ratio they are Langevin steps of a fixed relative size: there are ever more of "
        "them, and near the end the law is that of their stationary state. The slope falls below 1 in the end.",
        "- **SSCS as published is of order 1.** Its splitting is symmetric, but the middle part, `du = beta C R(u, t) dt` with R what "
        "the score is more than the stationary Gaussian's, has no closed form, since R depends on the p that it moves; one Euler step with "
        "the score at the start of the step is an error of h^2 in every step. The constant is smaller than Euler-Maruyama's, at 200 steps by "
        f"{gain:.1f}, for as many scores. A midpoint step with the score at the middle time makes it order 2, for two scores a step: on "
        "Gaussians (`mixrate run experiments/sscs-order.yaml`); here the slope is not near its limit yet.",
    ]


def _velocity(kept: pd.DataFrame) -> list[str]:
    first = chosen(kept, "cld-easier", "first time above 1").set_index("case")["measured"].dropna()
    return [
        "## Is the velocity's score easier?",
        "![ratio of the gaps in time](images/diffusion/cld-easier.png)",
        "Critically damped diffusion needs the score of the velocity given the position, said to be nearer to a Gaussian's than the score of "
        "the position is, at every time (https://arxiv.org/abs/2112.07068, section 3.2). Both gaps are without unit: `Var(v|x) E|grad_v log p(v|x) - "
        "Gaussian's|^2`, and the like for x alone, here by quadrature, for standardised data (`mixrate run experiments/cld-easier.yaml`; M = 0.25, "
        f"gamma = 0.04, beta = 4; critical friction is 1). Early it is so. At critical damping the ratio crosses 1, at t = {number(first.min())} to "
        f"{number(first[[law.label for law in LAWS if law.friction is None]].max())} for these laws, and tends to 4 for a skewed law and 8 for a "
        "symmetric one, whatever the law: late, both gaps are what is left of the first higher cumulant. At 1.3 times the critical friction it "
        "stays below 1. Below the critical friction x_t is Gaussian whenever the oscillation takes the signal out of it, and the ratio has no bound.",
        gaps(kept),
    ]


def _planes(plane: pd.DataFrame) -> list[str]:
    ratio = plane["learned"] / plane["floor"]
    lost = plane[ratio > 2]["target"].tolist()
    said = "All six are within twice the floor." if not lost else f"Not within twice the floor: {', '.join(lost)}."
    return [
        "## Learned scores in the plane",
        "![draws by a learned score over two densities](images/diffusion/learned-2d.png)",
        "2,000 particles from N(0, I), 200 steps of `reverse_exponential`, one score each, with quadratic spacing down to t = 0.001; W2 to as "
        f"many exact draws, mean of {int(plane['seeds'].iloc[0])} runs and its standard error (`mixrate run experiments/learned-2d.yaml`). The "
        "floor is what two samples of exact draws of that size score: most of it is that they do not have the same numbers of points in "
        "distant modes. The error of the score is relative, in L2 over all times (`mixrate train experiments/training/song-ermon.yaml`, and so "
        f"on; seconds on one thread of a machine that had other work). {said} The oracle is no nearer, within its standard errors: at this "
        "size neither the network nor the steps limit W2, and the errors of the scores, which differ, cannot be seen in it. On "
        "`song_ermon` W2 is little more than 14 times the root of the difference of two shares, which varies much from run to run.",
        learned(plane),
    ]


# Pictures.


def pictures(results: dict[str, Result], kept: pd.DataFrame) -> dict[str, Figure]:
    return {
        "annealed-weights": modes(kept),
        **{name: parts_of(results[name]) for name in ("error-split", "learned-score")},
        "orders": contest(kept),
        "cld-easier": diffusion_pictures.easier(LAWS, np.geomspace(0.003, 1.0, 241)),
        "learned-2d": draws(),
    }


def modes(kept: pd.DataFrame) -> Figure:
    """Plain and annealed Langevin beside exact draws."""
    share = chosen(kept, "annealed-weights", "share of mode 1").set_index("case")["measured"]
    point = {p.sampler.name: p for p in points("annealed-weights")}
    shown = []
    for name, said in (("ula", "plain Langevin"), ("annealed_langevin", "annealed Langevin")):
        target, x = diffusion_pictures.drawn(point[name])
        shown.append((f"{said}\n{100 * share[f'`{name}`']:.1f} % below", target, x))
    shown.append(
        (f"exact draws\n{100 * chosen(kept, 'annealed-weights')['stated'].min():.0f} % below", target, diffusion_pictures.exact(target, len(x)))
    )
    return diffusion_pictures.panels(shown, "4,000 particles and the share of the lower mode")


def parts_of(result: Result) -> Figure:
    """The stacked bars."""
    return next(figure for name, figure in figures(result).items() if "error-split" in name)


def contest(kept: pd.DataFrame) -> Figure:
    """Errors against scores, on positions and on (x, p)."""
    parts = {}
    for experiment, title in (("reverse-orders", "positions"), ("reverse-orders-phase", "positions and momenta")):
        strands, pens = [], dict[str, int]()
        for case, part in chosen(kept, experiment).groupby("case", sort=False):
            if len(part) < 2:
                continue
            quadratic = "quadratic" in str(case)
            which = str(case).split(",")[0] if quadratic else str(case)
            pen = PENS[pens.setdefault(which, len(pens))]
            strands.append(Strand(str(case).replace("`", "").replace("_", " "), pen, part.sort_values("scores"), quadratic))
        parts[title] = strands
    return diffusion_pictures.orders(parts, "total variation")


def draws() -> Figure:
    """Draws by a learned score over two of the densities, seed 0."""
    own = {p.target.name: p for p in points("learned-2d") if p.seed == 0 and p.sampler.params["score"] != "oracle"}
    shown = [(p.target.name.rsplit(".", 1)[-1].replace("_", " "), *diffusion_pictures.drawn(p)) for p in map(own.__getitem__, SHOWN)]
    return diffusion_pictures.panels(shown, "2,000 particles by a learned score, over the density")


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with one_thread():
        results = {name: result_of(name) for name in RUNS}
        kept = collected([(result, points(name)) for name, result in results.items() if name != "learned-2d"])
        plane = planes(results["learned-2d"], points("learned-2d"), trainings())
        for frame, path in ((kept, FIGURES), (plane, LEARNED)):
            frame.to_csv(path, index=False, lineterminator="\n", float_format="%.6g")
        with drawing.style():
            drawn = pictures(results, kept)
        print(publish(PAGE, page(), PICTURES, drawn))


if __name__ == "__main__":
    main()
