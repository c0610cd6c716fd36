"""Reverse diffusions in pictures: modes found, orders, the gap of the velocity's score, draws by a learned score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..laws.particles import Particles
from ..laws.propagate import propagate
from ..samplers.noise import Stream
from ..targets.base import Batch, Target
from ..targets.gaussian_mixture import GaussianMixture
from ..theory.cld_easier import Gaps
from ..theory.phase_mixture import coordinates, process, standardised
from . import drawing
from .cell import start_law
from .components import build
from .drawing import GREY, PENS, Pen
from .schema import Point

#: Nodes of a density's map per axis, and the power that lets faint modes be seen.
NODES, POWER = 240, 0.4
ORANGE = PENS[1].colour


def drawn(point: Point) -> tuple[Target, Batch]:
    """The target of a point whose law is a sample, and the particles after its last step."""
    target = build("target", point.target.name, point.target.params)
    sampler = build("sampler", point.sampler.name, point.sampler.params)
    [law] = propagate(start_law(point, target, sampler), sampler, target, [point.steps[-1]])
    assert isinstance(law, Particles)
    return target, law.x


def exact(target: Target, n: int) -> Batch:
    """As many exact draws."""
    return target.sample(n, Stream(0, "picture"))


# Draws in the plane.


def panels(shown: Sequence[tuple[str, Target, Batch]], title: str) -> Figure:
    """Draws over the density, one panel each; a label has the name and what is below it, by lines."""
    figure = Figure(
        figsize=(1.03 * drawing.WIDTH, 1.03 * drawing.WIDTH / len(shown) + (0.8 if any("\n" in label for label, *_ in shown) else 0.5)),
        layout="constrained",
        dpi=drawing.DPI,
    )
    FigureCanvasAgg(figure)
    every = np.atleast_1d(figure.subplots(1, len(shown)))
    every[0].set_ylabel("$x_2$")
    for axes, (label, target, x) in zip(every, shown, strict=True):
        _draws(axes, target, x)
        axes.set_title(label, fontsize=10)
    figure.suptitle(title, fontsize=10.5)
    return figure


def _draws(axes: Axes, target: Target, x: Batch) -> None:
    seen = exact(target, 4000).numpy()
    middle, half = (seen.min(0) + seen.max(0)) / 2, 0.56 * float(np.ptp(seen, axis=0).max())
    lo, hi = middle - half, middle + half
    grid = [np.linspace(a, b, NODES) for a, b in zip(lo, hi, strict=True)]
    nodes = np.stack([g.ravel() for g in np.meshgrid(*grid)], axis=1)
    density = torch.exp(-target.potential(torch.as_tensor(nodes))).numpy().reshape(NODES, NODES)
    box = (lo[0], hi[0], lo[1], hi[1])
    axes.imshow(density**POWER, extent=box, origin="lower", cmap="Blues", vmax=1.5 * density.max() ** POWER, aspect="equal", interpolation="bilinear")
    axes.plot(*x.double().numpy().T, ls="none", marker=".", ms=2.0, mew=0, color="black", alpha=0.55)
    axes.set(xlim=box[:2], ylim=box[2:], xlabel="$x_1$")
    axes.tick_params(labelsize=8)


# Orders.


class Strand(NamedTuple):
    """Errors of one sampler at several numbers of steps.

    Arguments:
        rows: columns `scores` and `measured`.
        light: whether it is the lighter one of two with the same pen.
    """

    label: str
    pen: Pen
    rows: pd.DataFrame
    light: bool = False


def orders(parts: Mapping[str, Sequence[Strand]], symbol: str) -> Figure:
    """Error against score evaluations, a panel for each part."""
    figure = Figure(figsize=(1.25 * drawing.WIDTH, 4.3), layout="constrained", dpi=drawing.DPI)
    FigureCanvasAgg(figure)
    every = [s.rows for strands in parts.values() for s in strands]
    low, high = min(r["measured"].min() for r in every), max(r["measured"].max() for r in every)
    for i, (axes, (title, strands)) in enumerate(zip(figure.subplots(1, len(parts), sharey=True), parts.items(), strict=True)):
        axes.grid(True)
        x = np.concatenate([s.rows["scores"].to_numpy() for s in strands])
        drawing.log_axis(axes.xaxis, x.min() / 1.25, x.max() * 1.25)
        drawing.log_axis(axes.yaxis, low / 4, high * 1.6)
        for s in strands:
            look: dict[str, Any] = {"mfc": "white", "lw": 1.0, "ls": (0, (1, 1.6))} if s.light else {"lw": 1.6, "ls": s.pen.dash}
            axes.plot(s.rows["scores"], s.rows["measured"], color=s.pen.colour, marker=s.pen.marker, ms=4.5, label=s.label, **look)
        start, ends = 30 * low, np.array([x.min() * 1.6, x.min() * 8])  # below all curves
        for order in (1, 2):
            line = start * (ends / ends[0]) ** -order
            axes.plot(ends, line, color=GREY, lw=0.9)
            axes.annotate(f"order {order}", (ends[1], line[1]), (4, -3), textcoords="offset points", fontsize=8.5, color="#555")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("score evaluations")
        if not i:
            axes.set_ylabel(symbol)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.19), fontsize=8.5, ncols=2 if len(strands) > 4 else 1, handlelength=3.0)
    return figure


# The velocity's score.


class Law(NamedTuple):
    """A law of the data on the line, and the friction of the process it is noised by.

    Arguments:
        data: of which the first coordinate is taken, standardised.
        friction: Gamma, None for the critical one.
    """

    label: str
    data: GaussianMixture
    friction: float | None


def ratios(law: Law, times: Sequence[float] | np.ndarray, mass: float = 0.25, momentum: float = 0.04, beta: float = 4.0) -> np.ndarray:
    """The velocity's gap over the position's (`cld_easier.Gaps`) at each time."""
    sde = process(mass, law.friction, momentum, beta)
    parts = coordinates(law.data)
    assert parts is not None
    gaps = [Gaps(sde, float(t), standardised(parts[0])) for t in times]
    return np.array([g.velocity().value / g.position().value for g in gaps])


def crossing(law: Law, last: float = 1.0) -> float | None:
    """The first time at which the ratio is 1, by bisection; None where it stays below on (0, last]."""
    times = np.geomspace(1e-3, last, 41)
    above = np.flatnonzero(ratios(law, times) >= 1.0)
    if not len(above):
        return None
    low, high = times[above[0] - 1], times[above[0]]
    while high - low > 1e-5 * high:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if ratios(law, [middle])[0] >= 1.0 else (middle, high)
    return float(high)


def easier(laws: Sequence[Law], times: np.ndarray) -> Figure:
    """The ratio in time, logarithmic, with the line that it crosses."""
    figure, axes = drawing.canvas(3.3, "how far from a Gaussian's: the velocity's score over the position's")
    drawing.log_axis(axes.xaxis, times.min(), times.max())
    drawing.log_axis(axes.yaxis, 1e-4, 1e2)
    axes.axhline(1.0, color="black", lw=1.0, ls=(0, (1, 1.6)))
    for i, (law, pen) in enumerate(zip(laws, PENS, strict=False)):
        axes.plot(times, ratios(law, times), color=pen.colour, ls=pen.dash, marker=pen.marker, ms=4, markevery=(7 * i, 40), lw=1.6)
    axes.set(xlabel="time $t$", ylabel="velocity's gap / position's gap")
    entries = [drawing.sample(law.label, pen) for law, pen in zip(laws, PENS, strict=False)]
    drawing.legend(figure, [*entries, Line2D([], [], color="black", lw=1.0, ls=(0, (1, 1.6)), label="as far as each other")])
    return figure
