"""A picture of a density: the curve on the line, a map in the plane, draws in more dimensions."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import Unsupported
from ..targets.base import Target
from ..theory.certificate.base import Effort, Subject
from . import drawing
from .drawing import PENS

#: Points of a picture: enough to see the shape.
EFFORT = Effort(draws=4000, starts=0, climb=0, times=(), deep=True)
SIDE = 3.2


def picture(target: Target) -> Figure:
    """The density of a target; call it inside `drawing.style`."""
    subject = Subject(target, EFFORT, "picture")
    figure = Figure(figsize=(SIDE, SIDE), layout="constrained")
    axes = figure.add_subplot()
    if target.dim == 1:
        _curve(axes, subject)
    elif hasattr(target, "positions"):
        _particles(axes, subject)
    elif target.dim == 2:
        _map(axes, subject)
    elif target.dim >= 32:
        _fields(axes, subject)
    else:
        _draws(axes, subject)
    axes.tick_params(labelsize=9)
    return figure


def _window(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Where the mass is: the range of the draws without the last thousandth, widened a little, or less where the box is smaller."""
    x = subject.x[:, :2].numpy()
    lo, hi = np.quantile(x, 0.001, axis=0), np.quantile(x, 0.999, axis=0)
    pad = 0.08 * (hi - lo)
    lo, hi = lo - pad, hi + pad
    try:
        box = subject.target.extent()
        lo, hi = np.maximum(lo, box[0][:2]), np.minimum(hi, box[1][:2])
    except Unsupported:
        pass
    return lo, hi


def _curve(axes: Axes, subject: Subject) -> None:
    lo, hi = _window(subject)
    x = np.linspace(lo[0], hi[0], 600)
    v = subject.target.potential(torch.as_tensor(x[:, None])).numpy()
    p = np.exp(v.min() - v)
    p = p / np.trapezoid(p, x)
    axes.fill_between(x, p, color=PENS[0].colour, alpha=0.15, linewidth=0)
    axes.plot(x, p, color=PENS[0].colour, linewidth=1.4)
    axes.set_ylim(0)
    axes.set_xlabel("$x$")
    axes.set_ylabel("density")


def _map(axes: Axes, subject: Subject) -> None:
    lo, hi = _window(subject)
    grid = [np.linspace(a, b, 240) for a, b in zip(lo, hi, strict=True)]
    nodes = np.stack([g.ravel() for g in np.meshgrid(*grid, indexing="ij")], axis=1)
    v = subject.target.potential(torch.as_tensor(nodes)).numpy().reshape(240, 240)
    shade = np.sqrt(np.exp(v.min() - v))  # the root shows what is faint
    axes.imshow(shade.T, origin="lower", extent=(lo[0], hi[0], lo[1], hi[1]), aspect="auto", cmap="Blues", interpolation="bilinear", rasterized=True)
    axes.contour(grid[0], grid[1], (v - v.min()).T, levels=[0.5, 2.0, 4.5, 8.0], colors="#333", linewidths=0.5)
    axes.set_xlabel("$x_1$")
    axes.set_ylabel("$x_2$")


def _draws(axes: Axes, subject: Subject) -> None:
    lo, hi = _window(subject)
    x = subject.x[:1500, :2].numpy()
    axes.plot(x[:, 0], x[:, 1], ".", ms=2.2, color=PENS[0].colour, alpha=0.5, markeredgewidth=0, rasterized=True)
    axes.set_xlim(lo[0], hi[0])
    axes.set_ylim(lo[1], hi[1])
    axes.set_xlabel("$x_1$")
    axes.set_ylabel("$x_2$")


def _fields(axes: Axes, subject: Subject) -> None:
    """Draws against the coordinate's index: what a high-dimensional point looks like."""
    x = subject.x[:12].numpy()
    for row in x:
        axes.plot(np.arange(1, x.shape[1] + 1), row, color=PENS[0].colour, linewidth=0.6, alpha=0.6)
    axes.set_xlabel("coordinate")
    axes.set_ylabel("value, 12 points")


def _particles(axes: Axes, subject: Subject) -> None:
    """Particles of three configurations, the first two coordinates in space."""
    points = subject.target.positions(subject.x[:3])[:, :, :2].numpy()  # type: ignore[attr-defined]
    for one, pen in zip(points, PENS, strict=False):
        axes.plot(one[:, 0], one[:, 1], pen.marker, color=pen.colour, ms=7, alpha=0.7)
    axes.set_aspect("equal", "datalim")
    axes.set_xlabel("particles of three configurations")


def svg(target: Target, prefix: str) -> str:
    """The picture as SVG for a page."""
    with drawing.style():
        return drawing.svg(picture(target), prefix)
