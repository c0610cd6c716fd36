"""Writes `docs/kinetic.md`, its pictures and `results/work-precision.csv` from laws and runs: ``python docs/build_kinetic.py``."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mixrate.experiments import drawing, phase_portrait
from mixrate.experiments.page import publish, wrapped
from mixrate.experiments.result import Result
from mixrate.experiments.runner import one_thread, run
from mixrate.experiments.schema import read
from mixrate.experiments.work_precision import contests, diagrams, needed
from mixrate.laws.normal import Normal
from mixrate.targets.double_well import DoubleWell

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "kinetic.md"
PICTURES = ROOT / "docs" / "images" / "kinetic"
TABLE = ROOT / "results" / "work-precision.csv"

#: Distances asked for, by experiment.
ACCURACIES = {
    "work-precision-gaussian": (0.1, 0.01, 0.001),
    "work-precision-double-well": (0.1, 0.01, 0.003),
    "work-precision-particles": (1.0, 0.5, 0.2),
}
#: Frictions over the critical one of the picture, and of the table beside it.
DRAWN, LISTED = (0.25, 0.5, 0.9, 1.0, 2.0, 4.0), (0.25, 0.5, 0.8, 0.9, 0.95, 1.0, 2.0, 4.0)
TIMES = (2, 4, 6, 8, 12, 16)
HORIZONS = (2, 3, 4, 5, 6, 8, 10)
#: The start of x, and the variance of p there.
START, MOMENTUM = Normal([2.0], [[0.25]]), 0.04

TOP = """\
# Kinetic Langevin in pictures

<!-- Written by `make kinetic-page` from exact laws and the experiments named below: edit `docs/build_kinetic.py`. -->

`dx = p dt, dp = -grad V dt - gamma p dt + sqrt(2 gamma) dB`, of invariant law `exp(-V(x) - |p|^2/2)`: what the
friction gamma does, which friction is best and when, and what an evaluation of the score buys in each sampler.
`make kinetic-page` runs the experiments, draws the pictures and computes the numbers of every table.

## Friction in the phase plane

![paths on a Gaussian under three frictions](images/kinetic/paths-gaussian.png)

On N(0, 1), where `gamma = 2` is critical. Dashed: the path without noise, which on a Gaussian is that of the mean.
Below the critical friction it spirals in, rotating along the level lines of H; at it, it comes in fastest without
turning back; above it, it first loses its momentum and then creeps, at rate `1/gamma`. The coloured paths are driven by
the same Brownian motion: what costs the overdamped one its progress is its momentum, redrawn before it leads anywhere.

![paths on the double well under three frictions](images/kinetic/paths-double-well.png)

On the double well `V = (x^2 - 1)^2`, with frictions relative to `2 sqrt(V''(1))`. Without noise every path ends in the
well it started in.
"""


# Tables.


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ("---",) * len(head), *rows])


def number(value: float, digits: int = 3) -> str:
    return "-" if not math.isfinite(value) else f"{value:.{digits}g}".replace("e-0", "e-")


def distances() -> str:
    """W2 by friction and time; the least of a column in bold."""
    values = np.array([[phase_portrait.distance(law) for law in phase_portrait.laws(r, START, TIMES)] for r in LISTED])
    least = values.argmin(0)
    rows = [
        (f"{r:g}", *(f"**{number(v)}**" if least[j] == i else number(v) for j, v in enumerate(row)))
        for i, (r, row) in enumerate(zip(LISTED, values, strict=True))
    ]
    return table(("friction / critical", *(f"t = {t}" for t in TIMES)), rows)


@cache
def found(times: tuple[float, ...]) -> tuple[phase_portrait.Best, ...]:
    return tuple(phase_portrait.best(t, START, MOMENTUM) for t in times)


def frictions() -> str:
    head = ("t", "best friction / critical", "cos theta", "W2 there", "W2, critical", "best for the worst start", "sqrt(1 - pi^2/t^2)", "gain")
    rows = []
    for b in found(HORIZONS):
        half_turn = math.sqrt(1 - (math.pi / b.time) ** 2) if b.time > math.pi else math.nan
        known = phase_portrait.crossing(b.time)
        numbers = (f"{b.ratio:.4f}", f"{known:.4f}", number(b.least), number(b.critical), f"{b.uniform:.4f}")
        rows.append((f"{b.time:g}", *numbers, f"{half_turn:.4f}" if half_turn == half_turn else "-", number(b.gain)))
    return table(head, rows)


def costs(result: Result) -> pd.DataFrame:
    """Evaluations that each sampler needs for each accuracy."""
    [(metric, _, rows)] = contests(result)
    parts = [needed(rows, accuracy).assign(accuracy=accuracy) for accuracy in ACCURACIES[result.name]]
    return pd.concat(parts).assign(experiment=result.name, metric=metric)[["experiment", "metric", "accuracy", "sampler", "scores", "step"]]


def contest(frame: pd.DataFrame, name: str) -> str:
    """Score evaluations and, in brackets, the step size that needs so few; a sampler a row."""
    mine = frame[frame["experiment"] == name]
    symbol = {"w2": "W2", "gelbrich": "G"}[str(mine["metric"].iloc[0])]
    rows = []
    for sampler, part in mine.groupby("sampler", sort=False):
        of = part.set_index("accuracy")
        cells = [(float(of.loc[a, "scores"]), float(of.loc[a, "step"])) for a in ACCURACIES[name]]
        rows.append((str(sampler), *(f"{scores:.0f} ({step:g})" if math.isfinite(scores) else "-" for scores, step in cells)))
    return table(("sampler", *(f"{symbol} <= {a:g}" for a in ACCURACIES[name])), rows)


# The page.


def page() -> str:
    """The whole text; the costs are those kept in `results/work-precision.csv`."""
    kept = pd.read_csv(TABLE)
    return "\n\n".join([TOP.strip(), *map(wrapped, _time()), *map(wrapped, _work(kept))]) + "\n"


def _time() -> list[str]:
    return [
        "## The distance in time",
        "![W2 against time under six frictions](images/kinetic/decay.png)",
        "W2 of the law of x to N(0, 1), from x ~ N(2, 0.25) and p ~ N(0, 1): exact, no step size and no sample. Every other friction "
        "loses to the critical one in the end, since no other has the exponent 1 (below it the exponent is gamma/2, above it `gamma/2 - "
        "sqrt(gamma^2/4 - 1)`); but at every time in the table one of them is ahead of it (bold: the least). The experiment `damping` has "
        "the same in d = 2, with overdamped Langevin beside it, which on a single curvature falls like `exp(-t)` itself: momentum pays "
        "where curvatures differ.",
        distances(),
        "## Which friction is best, and when",
        "With `phi(t) = E x_t / E x_0` from p at rest or at equilibrium, `E x_t = 2 phi` and, from p ~ N(0, 1), `Var x_t = 1 - 0.75 "
        "phi^2`: W2 grows with |phi|. At the critical friction `phi = (1 + t) exp(-t)`. Below it, `gamma = 2 cos(theta)`, `phi = "
        "exp(-gamma t/2) sin(w t + theta)/w` with `w = sin(theta)`, which **vanishes** at `w t = pi - theta`: for every t > pi/2 there is "
        "a friction under which W2 is exactly 0 at that instant. It tends to the critical one like `cos(theta) = 1 - pi^2/(2 t^2)`, and "
        "at no time is it the critical one. The table is from p ~ N(0, 0.04), where W2 cannot vanish: with `exp(-2 cos(theta) t)` left of "
        "the variance, it falls with twice the exponent of the critical case.",
        "Nor is it the start alone. The norm of `exp(A t)`, the largest factor by which the flow stretches the difference of two starts "
        "(x, p), has the factor t at the critical friction; at `w t = pi` the flow is `-exp(-gamma t/2)` times the identity. That "
        "friction is `sqrt(1 - pi^2/t^2)` of the critical one, and the gain (norm at the critical friction over the least norm) grows "
        "like t.",
        "![the friction that is best at each time](images/kinetic/best-friction.png)",
        frictions(),
        "So a plan for a fixed time takes slightly less than the critical friction, and a plan for all times the critical one.",
    ]


def _work(kept: pd.DataFrame) -> list[str]:
    return [
        "## Work and precision",
        "Each thin line is one sampler at one step size; the thick one is the least distance that a sampler reaches with at most so many "
        "evaluations of the score, over its step sizes. A cell of the tables is that number of evaluations, the step size in brackets; "
        "`-`: not reached. Below a floor or a numerical error nothing is compared.",
        "![work and precision on a Gaussian](images/kinetic/work-precision-gaussian.png)",
        "N(0, P^-1) in d = 10 with eigenvalues of P from 1 to 100, from N(3, I); exact laws; critical friction (`mixrate run "
        "experiments/work-precision-gaussian.yaml`). The first-order schemes gain little over ULA: their steps must stay below gamma/M or "
        "about twice that, as ULA's below 2/M, and their bias is of order h too. The splittings take steps of order 1/sqrt(M).",
        contest(kept, "work-precision-gaussian"),
        "![work and precision on the double well](images/kinetic/work-precision-double-well.png)",
        "The double well from N(1.2, 0.05), friction 2; densities on a mesh, of (x, p) for the kinetic ones (`mixrate run "
        "experiments/work-precision-double-well.yaml`). BAOAB has a bias here, the smallest of the unadjusted ones.",
        contest(kept, "work-precision-double-well"),
        "![work and precision of samplers that accept and reject](images/kinetic/work-precision-particles.png)",
        "The Gaussian again, by 4,000 particles and in Gelbrich's distance, a lower bound of W2 that is W2 between Gaussians: samplers "
        "that accept and reject have no affine step. HMC and MALT take 10 leapfrog steps (`mixrate run "
        "experiments/work-precision-particles.yaml`). HMC's trajectories of one length are resonant: where `cos(length sqrt(eigenvalue))` "
        "is near -1 or 1 a coordinate is merely reflected or returns. The noise along MALT's breaks that.",
        contest(kept, "work-precision-particles"),
    ]


# Pictures.


def pictures(results: list[Result]) -> dict[str, Figure]:
    with drawing.style():
        work = {r.name: next(iter(diagrams(r).values())) for r in results}
        return {
            "paths-gaussian": phase_portrait.portraits(phase_portrait.STANDARD, 0.0, (3.0, 0.0), 15.0, 3),
            "paths-double-well": phase_portrait.portraits(DoubleWell(), 1.0, (-1.7, 0.0), 40.0, 3),
            "decay": phase_portrait.decay(DRAWN, START, np.linspace(0.0, 20.0, 401)),
            "best-friction": phase_portrait.horizons(found(tuple(np.arange(2.0, 12.01, 0.25).tolist()))),
            **work,
        }


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    results = [run(read(ROOT / "experiments" / f"{name}.yaml"), ROOT / "results" / "runs") for name in ACCURACIES]
    pd.concat([costs(r) for r in results]).to_csv(TABLE, index=False, lineterminator="\n")
    with one_thread():
        drawn = pictures(results)
        print(publish(PAGE, page(), PICTURES, drawn))


if __name__ == "__main__":
    main()
