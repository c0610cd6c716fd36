"""How friction acts: paths in the phase plane, the distance to the target in time, and the friction that is best at a given time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..laws.normal import AffineMap, Normal, affine_map, lifted, position
from ..laws.propagate import propagate
from ..metrics.w2 import W2
from ..samplers.baoab import BAOAB
from ..samplers.base import Momentum
from ..samplers.noise import Noise, Probe, Stream
from ..samplers.recipe_diffusion import RecipeDiffusion
from ..targets.base import Target
from ..targets.gaussian import Gaussian
from . import drawing
from .drawing import GREY, PENS, Pen
from .typeset import quantity, typeset

#: Frictions of the portraits, as multiples of the critical one, in words.
REGIMES = {"underdamped": 0.2, "critical": 1.0, "overdamped": 5.0}
#: A step of the paths, in units of 1/omega: BAOAB's positions have the exact law on Gaussians, and look smooth at this size.
STEP = 0.02
#: Heights above the bottom at which H is drawn, in nats.
LEVELS = (0.25, 1.0, 2.25, 4.0, 6.25, 9.0)
#: Colours of the regimes: below, at, above the critical friction.
INKS = dict(zip(REGIMES, PENS, strict=False))

#: The target of what is computed here: one coordinate tells all, since coordinates of N(0, I) do not feel each other.
STANDARD = Gaussian([0.0], [[1.0]])


# Paths.


def curvature(target: Target, x: float) -> float:
    """V'' at a point of the line, by differences of the score."""
    at = torch.tensor([[x - 1e-4], [x + 1e-4]], dtype=torch.float64)
    return float(-(target.score(at)[1] - target.score(at)[0]) / 2e-4)


def path(target: Target, friction: float, start: tuple[float, float], time: float, step: float, seed: int | None) -> np.ndarray:
    """(x, p) along one chain of BAOAB, shape (n + 1, 2); without noise where `seed` is None. Equal seeds drive any friction alike."""
    sampler = BAOAB(step, friction)
    state = sampler.place(target, *torch.tensor(start, dtype=torch.float64).reshape(2, 1, 1))
    stream = None if seed is None else Stream(seed, "portrait")
    points = [start]
    for k in range(round(time / step)):
        noise: Noise = Probe(basis=False) if stream is None else stream.at(k)
        state = sampler.step(target, state, noise)
        points.append((float(state.x), float(state.p)))
    return np.array(points)


def portraits(target: Target, bottom: float, start: tuple[float, float], turns: float, seed: int) -> Figure:
    """Paths from one start, driven by the same noise, under each friction of `REGIMES`, over the level lines of H = V + p^2/2.

    Arguments:
        target: on the line. bottom: a minimum of V, whose curvature omega^2 makes the friction 2 omega critical.
        start: (x, p). turns: length in units of 1/omega.
    """
    omega = curvature(target, bottom) ** 0.5
    paths = {name: [path(target, 2 * r * omega, start, turns / omega, STEP / omega, s) for s in (seed, None)] for name, r in REGIMES.items()}
    everything = np.concatenate([p for both in paths.values() for p in both])
    low, high = everything.min(0), everything.max(0)
    pad = 0.08 * (high - low)
    figure = Figure(figsize=(7.6, 3.1), layout="constrained", dpi=drawing.DPI)
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(REGIMES), sharex=True, sharey=True)
    for axes, (name, ratio) in zip(panels, REGIMES.items(), strict=True):
        _levels(axes, target, bottom, low - pad, high + pad)
        noisy, smooth = paths[name]
        axes.plot(*noisy.T, color=INKS[name].colour, lw=0.8, alpha=0.9, zorder=2)
        axes.plot(*smooth.T, color="black", lw=1.5, ls=(0, (4, 1.5)), zorder=3)
        axes.plot(*start, "o", color="black", ms=5, zorder=4)
        axes.set_title(typeset(f"{name}: gamma = {2 * ratio * omega:.3g}", "mathtext"), fontsize=10.5)
        axes.set(xlabel="$x$", xlim=(low[0] - pad[0], high[0] + pad[0]), ylim=(low[1] - pad[1], high[1] + pad[1]))
    panels[0].set_ylabel("$p$")
    handles = [
        Line2D([], [], color="black", marker="o", ms=5, ls="none", label="start"),
        Line2D([], [], color="#444", lw=0.8, label="path (colour), the same noise in all three"),
        Line2D([], [], color="black", lw=1.5, ls=(0, (4, 1.5)), label="without noise"),
        Line2D([], [], color=GREY, lw=0.6, label="level lines of $H$"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, columnspacing=1.2, handlelength=2.0)
    return figure


def _levels(axes: Axes, target: Target, bottom: float, low: np.ndarray, high: np.ndarray) -> None:
    x, p = (np.linspace(a, b, 241) for a, b in zip(low, high, strict=True))
    least = float(target.potential(torch.tensor([[bottom]], dtype=torch.float64)))
    energy = target.potential(torch.as_tensor(x)[:, None]).numpy()[None, :] + 0.5 * p[:, None] ** 2 - least
    axes.contour(x, p, energy, levels=LEVELS, colors=[GREY], linewidths=0.5, zorder=1)


# Laws in time, exact.


def distance(law: Normal) -> float:
    """W2 of a law of x to N(0, 1)."""
    assert STANDARD.moments is not None
    return W2().normal(law, Normal(*(m.numpy() for m in STANDARD.moments))).value


def laws(ratio: float, start: Normal, times: Sequence[float]) -> list[Normal]:
    """The law of x on N(0, 1) at each time (multiples of a step of 1/20), from p ~ N(0, 1); mass 1.

    Arguments:
        ratio: friction over the critical one.
    """
    flow = RecipeDiffusion.cld(0.05, 2.0 * ratio)
    found = propagate(start, flow, STANDARD, [round(20 * t) for t in times])
    return [law for law in found if isinstance(law, Normal)]


def decay(ratios: Sequence[float], start: Normal, times: np.ndarray) -> Figure:
    """W2 against time, exact.

    Arguments:
        ratios: frictions over the critical one. times: as for `laws`.
    """
    figure, axes = drawing.canvas(3.4, typeset("W2 of the position to N(0, 1), by friction over the critical friction", "mathtext"))
    values = {}
    for ratio in ratios:
        values[ratio] = np.array([distance(law) for law in laws(ratio, start, times.tolist())])
    everything = np.concatenate(list(values.values()))
    drawing.along(axes, times, time=True)
    drawing.log_axis(axes.yaxis, everything.min() / 1.5, everything.max() * 1.5)
    axes.set(xlabel="time $t$", ylabel=quantity("w2", continuous=True))
    handles = []
    for (ratio, curve), pen in zip(values.items(), PENS, strict=False):
        axes.plot(times, curve, color=pen.colour, ls=pen.dash, lw=1.7)
        word = "underdamped" if ratio < 1 else "critical" if ratio == 1 else "overdamped"
        handles.append(Line2D([], [], color=pen.colour, ls=pen.dash, lw=1.7, label=f"{ratio:g} ({word})"))
    drawing.legend(figure, handles)
    return figure


class Best(NamedTuple):
    """What friction, over the critical one, is best at a time.

    ratio: of the least W2 from one start, `least`; under the critical friction it is `critical`.
    uniform: of the least norm of e^(A t), the largest factor by which a difference of two starts (x, p) is stretched; under the
        critical friction that is `gain` times as large.
    """

    time: float
    ratio: float
    least: float
    critical: float
    uniform: float
    gain: float


def best(time: float, start: Normal, momentum: float) -> Best:
    """Minimises over the friction, from exact laws.

    Arguments:
        start: of x. momentum: variance of p at the start, below 1: from 1 the least W2 is 0, and found at several frictions.
    """

    def flow(ratio: float) -> AffineMap:
        return affine_map(RecipeDiffusion.cld(time, 2.0 * ratio), STANDARD)

    def w2(ratio: float) -> float:
        return distance(position(flow(ratio)(lifted(start, Momentum(momentum, 1.0))), 1))

    def norm(ratio: float) -> float:
        return float(np.linalg.norm(flow(ratio).linear, 2))

    ratio, uniform = least(w2, time), least(norm, time)
    return Best(time, ratio, w2(ratio), w2(1.0), uniform, norm(1.0) / norm(uniform))


def least(of: Callable[[float], float], time: float) -> float:
    """The friction over the critical one at which a function is least: Brent's method around every low point of a grid.

    Below the critical friction the grid is even in the phase ``w t`` of the oscillation, w = sin theta, cos theta the friction over
    the critical one: at late times all that matters lies within 1/t^2 of 1.
    """
    from scipy import optimize

    phases = np.linspace(0.1, min(2 * np.pi, 0.9999 * time), 25)
    grid = np.sort(np.concatenate([np.sqrt(1.0 - (phases / time) ** 2), np.linspace(1.0, 1.5, 5)]))
    values = np.array([of(r) for r in grid])
    ends = np.concatenate([[np.inf], values, [np.inf]])
    found = []
    for i in np.flatnonzero((values <= ends[:-2]) & (values <= ends[2:])).tolist():
        bounds = grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)]
        fit = optimize.minimize_scalar(of, bounds=bounds, method="bounded", options={"xatol": 1e-9 * (bounds[1] - bounds[0])})
        found.append((float(fit.fun), float(fit.x)))
    return min(found)[1]


def crossing(time: float) -> float:
    """cos theta with ``time = (pi - theta)/sin theta``: the largest friction over critical at which the mean of x, started at rest, has
    just reached 0; 0 at pi/2, before which no friction brings it there.

    With ``gamma = 2 cos theta`` the mean is ``e^(-gamma t/2) (cos w t + (gamma/2 w) sin w t)``, w = sin theta: 0 at ``w t = pi - theta``.
    As t grows, theta goes like pi/t: cos theta = 1 - pi^2/(2 t^2) + O(1/t^3).
    """
    from scipy import optimize

    if time <= np.pi / 2:
        return 0.0
    return float(np.cos(optimize.brentq(lambda theta: (np.pi - theta) / np.sin(theta) - time, 1e-9, np.pi / 2)))


def horizons(found: Sequence[Best]) -> Figure:
    """The best friction against the time at which it is best."""
    figure, axes = drawing.canvas(3.0, "the friction that is best at a time, over the critical friction")
    times = np.array([b.time for b in found])
    drawing.along(axes, times, time=True)
    axes.set(xlabel="time $t$", ylabel=r"$\gamma / \gamma_{\mathrm{critical}}$", ylim=(0, 1.06))
    axes.axhline(1.0, color=GREY, lw=0.8)
    series: list[tuple[str, list[float], Pen]] = [
        ("least W2 from this start", [b.ratio for b in found], PENS[0]),
        ("least amplification, whatever the start", [b.uniform for b in found], PENS[1]),
    ]
    for i, (_, values, pen) in enumerate(series):
        axes.plot(times, values, color=pen.colour, ls=pen.dash, lw=1.7, marker=pen.marker, ms=4, markevery=(2 * i, 4))
    axes.plot(times, [crossing(b.time) for b in found], color="black", lw=1.2, ls=(0, (1, 1.6)))
    handles = [drawing.sample(typeset(name, "mathtext"), pen) for name, _, pen in series]
    dotted = Line2D([], [], color="black", lw=1.2, ls=(0, (1, 1.6)), label=typeset("the mean just reaches 0", "mathtext"))
    drawing.legend(figure, [*handles, dotted])
    return figure
