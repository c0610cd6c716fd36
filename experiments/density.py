"""A picture of a density: a curve on the line, a map in the plane; in more dimensions what the target's structure allows.

Products show two of their coordinates, spherically symmetric targets the radius, fields and particles a few configurations. Of
the rest the first two coordinates of draws are shown, or, where there is no exact sampler, where each coordinate lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..targets.base import Batch, Target, Values
from ..theory.certificate.base import Effort, Subject
from ..theory.certificate.normaliser import round_
from . import drawing
from .drawing import PENS

#: Points of a picture: enough for the shape, and for the contour that holds 99 % of the mass.
EFFORT = Effort(draws=12_000, starts=0, climb=0, times=(), deep=True)
SIDE = 3.2  # inches: 480 pixels
#: Mass inside the edge of each shade, outermost first, and inside each line.
SHADES = (0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
LINES = (0.99, 0.9, 0.5)
#: Range of a window, before it is padded: of a normal density 99 % is inside, heavy tails leave it.
QUANTILES = (0.003, 0.997)
BLUES, BLUE, INK, PALE = matplotlib.colormaps["Blues"], PENS[0].colour, "#333", "#bbb"


class Plane(NamedTuple):
    """Two coordinates of known density: their potential, draws, the labels, and whether the axes are always of one length."""

    potential: Callable[[Batch], Values]
    draws: np.ndarray
    labels: tuple[str, str] = ("$x_1$", "$x_2$")
    square: bool = False


def picture(target: Target) -> Figure:
    """The density of a target; call it inside `drawing.style`."""
    subject = Subject(target, EFFORT, "picture")
    figure = Figure(figsize=(SIDE, SIDE), layout="constrained", dpi=drawing.DPI)
    axes = figure.add_subplot()
    side, x = getattr(target, "side", None), subject.x.numpy()
    sites = round(math.log(target.dim, side)) if side and side > 1 else 0  # the dimension of a lattice
    if hasattr(target, "positions"):
        _particles(axes, target.positions(subject.x[:4]).numpy())
    elif target.dim == 1:
        _line(axes, *_window(x), target, "$x$")
    elif target.dim == 2:
        _map(axes, Plane(target.potential, x))
    elif (plane := _plane(subject)) is not None:
        _map(axes, plane)
    elif round_(subject):
        _line(axes, np.zeros(1), 1.1 * np.quantile(np.linalg.norm(x, axis=1), QUANTILES[1:]), target, "radius $|x|$")
    elif sites > 1:
        _image(figure, axes, x[: 4 if sites == 2 else side].reshape(-1, *(side,) * sites))
    elif sites == 1 or (target.dim >= 8 and np.median(np.diag(np.corrcoef(x.T), 1)) > 0.5):  # neighbours move together: a field on a line
        _fields(axes, x[: 5 if sites else 12])
    elif subject.exact:
        axes.plot(x[:3000, 0], x[:3000, 1], ".", ms=2.6, color=BLUE, alpha=0.45, markeredgewidth=0, rasterized=True)
        _frame(axes, *_window(x[:, :2]))
    else:
        _intervals(axes, x)
    axes.tick_params(labelsize=9)
    return figure


def _window(x: np.ndarray, square: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Where the mass is, per column of x, padded; two axes of like length become of one length."""
    lo, hi = np.quantile(x, QUANTILES, axis=0)
    lo, hi = lo - 0.11 * (hi - lo), hi + 0.11 * (hi - lo)
    if square or (hi - lo).max() < 2 * (hi - lo).min():
        middle, half = (lo + hi) / 2, (hi - lo).max() / 2
        lo, hi = middle - half, middle + half
    return lo, hi


def _frame(axes: Axes, lo: np.ndarray, hi: np.ndarray, labels: tuple[str, str] = ("$x_1$", "$x_2$")) -> None:
    axes.set(xlim=(lo[0], hi[0]), ylim=(lo[1], hi[1]), xlabel=labels[0], ylabel=labels[1])
    if math.isclose(hi[0] - lo[0], hi[1] - lo[1]):
        axes.set_aspect("equal")
    _ticks(axes)


def _ticks(axes: Axes, whole: bool = False) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=whole, min_n_ticks=3))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], min_n_ticks=4))


def _on_axis(r: Batch, dim: int) -> Batch:
    """The points of these coordinates on the first axis."""
    return torch.nn.functional.pad(r[:, None], (0, dim - 1))


def _line(axes: Axes, lo: np.ndarray, hi: np.ndarray, target: Target, label: str) -> None:
    """The density on the line, or of the radius: normalised by the target where it can be, else within the window."""
    x = np.linspace(lo[0], hi[0], 802)[1:]
    v = target.potential(_on_axis(torch.as_tensor(x), target.dim)).numpy() - (target.dim - 1) * np.log(np.abs(x))
    p = np.exp(v.min() - v)
    p *= 1 / np.trapezoid(p, x) if target.dim > 1 or target.log_normalizer is None else np.exp(-v.min() - target.log_normalizer)
    axes.fill_between(x, p, color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(x, p, color=BLUE, linewidth=1.4)
    axes.set(xlim=(lo[0], x[-1]), ylim=(0, 1.05 * p.max()), xlabel=label, ylabel="density")
    _ticks(axes)


def _plane(subject: Subject) -> Plane | None:
    """Of a product a factor in the plane, or its two widest coordinates; of a rotated one, whose coordinates all look alike, the
    widest and the narrowest axis."""
    if (split := subject.target.split) is None:
        return None
    y = (subject.x if split.basis is None else subject.x @ split.basis).numpy()
    for factor, end in zip(split.factors, np.cumsum([f.dim for f in split.factors]), strict=True):
        if factor.dim == 2:
            return Plane(factor.potential, y[:, end - 2 : end], (f"$x_{{{end - 1}}}$", f"$x_{{{end}}}$"))
    if len(split.factors) < 2 or any(f.dim > 1 for f in split.factors):
        return None
    width = np.subtract(*np.quantile(y, (0.9, 0.1), axis=0))
    order = np.argsort(np.where(width > 0.85 * width.max(), -np.inf, -width), kind="stable")  # of like ones the first
    a, b = sorted(map(int, order[:2])) if split.basis is None else (int(width.argmax()), int(width.argmin()))
    first, second = split.factors[a].potential, split.factors[b].potential
    labels = (f"$x_{{{a + 1}}}$", f"$x_{{{b + 1}}}$") if split.basis is None else ("widest axis", "narrowest axis")
    return Plane(lambda z: first(z[:, :1]) + second(z[:, 1:]), y[:, [a, b]], labels, split.basis is not None)


def _map(axes: Axes, plane: Plane) -> None:
    """Shades and lines enclose given parts of the mass: the levels are quantiles of V over the draws."""
    lo, hi = _window(plane.draws, plane.square)
    even = [np.linspace(a, b, 360) for a, b in zip(lo, hi, strict=True)]
    at = [np.quantile(x, np.linspace(0, 1, 160)) for x in plane.draws.T]  # nodes in what is thinner than the mesh: a funnel's neck
    x, y = (np.unique(np.concatenate([e, q[(q > e[0]) & (q < e[-1])]])) for e, q in zip(even, at, strict=True))
    nodes = np.stack([g.ravel() for g in np.meshgrid(x, y)], axis=1)
    of_draws = plane.potential(torch.as_tensor(plane.draws)).numpy()
    v = np.minimum(plane.potential(torch.as_tensor(nodes)).numpy(), 1e300).reshape(len(y), len(x)) - of_draws.min()
    level = dict(zip(SHADES, np.quantile(of_draws - of_draws.min(), SHADES), strict=True))
    for mass in SHADES:
        axes.contourf(x, y, v, levels=[v.min() - 1, level[mass]], colors=[BLUES(0.2 + 0.76 * (1 - mass))], antialiased=True, zorder=-2)
    area = (np.gradient(x) * np.gradient(y)[:, None])[v < level[0.99]].sum() / np.prod(hi - lo)
    ink = BLUES(0.7) if area < 0.02 else INK  # of what is thin black lines would be all there is to see
    axes.contour(x, y, v, levels=sorted(level[m] for m in LINES), colors=[ink], linewidths=0.5, zorder=-1)
    axes.set_rasterization_zorder(0)  # one bitmap in a page: as paths they weigh a megabyte
    _frame(axes, lo, hi, plane.labels)


def _intervals(axes: Axes, x: np.ndarray) -> None:
    at = np.arange(1, x.shape[1] + 1)
    q = np.quantile(x, (0.025, 0.25, 0.5, 0.75, 0.975), axis=0)
    axes.axhline(0, color=PALE, linewidth=0.6)
    axes.vlines(at, q[0], q[4], color=BLUE, linewidth=1)
    axes.vlines(at, q[1], q[3], color=BLUE, linewidth=3)
    axes.plot(at, q[2], "o", color="white", ms=2.6, markeredgecolor=INK, markeredgewidth=0.6)
    axes.set(xlabel="coordinate", ylabel="median, middle 50 % and 95 %", xlim=(0.4, at[-1] + 0.6))
    _ticks(axes, whole=True)


def _fields(axes: Axes, x: np.ndarray) -> None:
    axes.axhline(0, color=PALE, linewidth=0.6)
    for row, shade in zip(x, np.linspace(0.45, 1.0, len(x)), strict=True):
        axes.plot(np.arange(1, len(row) + 1), row, color=BLUES(shade), linewidth=0.9)
    axes.set(xlabel="site", ylabel=f"field, {len(x)} configurations")
    _ticks(axes, whole=True)


def _image(figure: Figure, axes: Axes, fields: np.ndarray) -> None:
    """Four fields on a square lattice; fields on a cubic lattice layer by layer."""
    rows = fields.reshape(2, 2, *fields.shape[1:]) if fields.ndim == 3 else fields
    tiles = np.pad(rows, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)  # a gap between them
    whole = tiles.transpose(0, 2, 1, 3).reshape(tiles.shape[0] * tiles.shape[2], -1)[:-1, :-1]
    shown = axes.imshow(whole, cmap="Blues", interpolation="none")
    axes.set(xticks=[], yticks=[], xlabel="four configurations" if fields.ndim == 3 else "a row is a configuration, layer by layer")
    axes.xaxis.label.set_fontsize(9 if fields.ndim > 3 else 11)
    axes.spines[:].set_visible(False)
    figure.colorbar(shown, ax=axes, shrink=0.75, label="field").ax.tick_params(labelsize=9)


def _particles(axes: Axes, points: np.ndarray) -> None:
    """Four configurations, neighbours joined; the nearer to the eye, along the third coordinate, the darker."""
    points = points - points.mean(1, keepdims=True)
    apart = np.linalg.norm(points[:, :, None] - points[:, None], axis=3)
    near = 1.35 * np.median(np.where(apart > 0, apart, np.inf).min(2))
    depth = points[:, :, 2] if points.shape[2] > 2 else np.zeros(points.shape[:2])
    shade = 0.55 + 0.4 * depth / max(np.abs(depth).max(), 1e-9)
    half = 1.12 * np.abs(points[:, :, :2]).max()
    for k, one in enumerate(points):
        x, y = one[:, 0] + half * (2 * (k % 2) - 1), one[:, 1] + half * (1 - 2 * (k // 2))
        for i, j in zip(*np.nonzero(np.triu((apart[k] < near) & (apart[k] > 0))), strict=True):
            axes.plot(x[[i, j]], y[[i, j]], color="#999", linewidth=0.7, zorder=1)
        order = np.argsort(depth[k], kind="stable")
        axes.scatter(x[order], y[order], s=46, c=BLUES(shade[k, order]), edgecolors=INK, linewidths=0.6, zorder=2)
    axes.axhline(0, color=PALE, linewidth=0.7)
    axes.axvline(0, color=PALE, linewidth=0.7)
    axes.set(xticks=[], yticks=[], xlabel="four configurations", xlim=(-2 * half, 2 * half), ylim=(-2 * half, 2 * half), aspect="equal")
    axes.spines[:].set_visible(False)


def svg(target: Target, prefix: str) -> str:
    """The picture as SVG for a page."""
    with drawing.style():
        return drawing.svg(picture(target), prefix)
