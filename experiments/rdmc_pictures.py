"""Reverse diffusion Monte Carlo in pictures: the inner problem, its samplers by time, budgets by time, two modes that move apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..samplers.diffusion.diagnosis import least_curvature, log_concave_until
from ..samplers.diffusion.posterior import Posterior
from ..samplers.rdmc import RDMC
from ..targets.gaussian_mixture import GaussianMixture
from . import drawing
from .drawing import GREY, PENS
from .rdmc_tables import EVALUATIONS, INNER, PLANS, SUBJECTS, chosen

#: Of the posterior on the line and in the plane: nodes, times, and the noised point.
NODES, LINE, PLANE = 401, (0.03, 0.2, 0.6, 2.0), (0.1, 0.5, 2.0)
AT, AT_PLANE = 0.4, (3.0, 2.0)
MODES = GaussianMixture.two_modes(separation=6, weight=0.3)


def canvas(rows: int, columns: int, height: float, title: str) -> tuple[Figure, np.ndarray]:
    """Panels beside each other, wider than one pair of axes."""
    figure = Figure(figsize=(1.25 * drawing.WIDTH, height), layout="constrained", dpi=drawing.DPI)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10.5)
    every = figure.subplots(rows, columns, squeeze=False)
    for axes in every.ravel():
        axes.grid(True)
        axes.tick_params(labelsize=8.5)
    return figure, every


def below(axes: Axes, entries: Sequence[Line2D] | None = None, columns: int = 2) -> None:
    """The legend of one panel under its axis."""
    handles = list(entries) if entries is not None else axes.get_legend_handles_labels()[0]
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=8.5, ncols=columns, handlelength=3.0)


# The inner problem.


def density(target: GaussianMixture, x: Sequence[float], t: float, points: np.ndarray) -> np.ndarray:
    """``q_t(x_0 | x)`` at points (N, d), up to a factor: 1 at the largest."""
    q = Posterior(target, torch.tensor([list(x)], dtype=torch.float64), math.exp(-t), -math.expm1(-2 * t), len(points))
    potential = q.potential(torch.as_tensor(points)).numpy()
    return np.exp(potential.min() - potential)


def curvatures(target: GaussianMixture, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Certified, ``m + 1/(e^2t - 1)`` (NaN without m), and the least found on a grid."""
    actual = []
    for t in times:
        sampler = RDMC(1, float(t), inner="importance")
        actual.append(least_curvature(sampler, target, 0))
    m = target.constant("m")
    return (math.nan if m is None else m) + 1 / np.expm1(2 * times), np.array(actual)


def inner_problem(times: np.ndarray) -> Figure:
    """The posterior of two modes on the line at several times, and its least curvature in time beside that of zod_mc."""
    figure, ((left, right),) = canvas(1, 2, 3.6, "the law of the clean point given the noised one")
    nodes = np.linspace(-6.5, 6.5, NODES)
    for t, pen in zip(LINE, PENS, strict=False):
        values = density(MODES, [AT], t, nodes[:, None])
        left.plot(nodes, values / (values.sum() * (nodes[1] - nodes[0])), color=pen.colour, ls=pen.dash, lw=1.6, label=f"t = {t:g}")
    left.axvline(AT, color=GREY, lw=0.9)
    left.annotate("$x$", (AT, 1.0), (0, 2), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center", fontsize=9, color="#555")
    left.set(xlabel="$x_0$", ylabel="$q_t(x_0\\,|\\,x)$", ylim=(0, None))
    left.set_title(f"two modes 6 apart, x = {AT:g}", fontsize=10, pad=12)
    below(left)
    drawing.log_axis(right.xaxis, times.min(), times.max())
    right.set_yscale("symlog", linthresh=1.0)
    right.axhline(0.0, color="black", lw=0.8)
    for (name, target), pen in zip((("two modes", MODES), ("zod mc", SUBJECTS["zod_mc"].target)), PENS, strict=False):
        certified, actual = curvatures(target, times)
        if np.isfinite(certified).all():
            right.plot(times, certified, color=pen.colour, lw=3.5, alpha=0.3, label=f"{name}, certified")
        right.plot(times, actual, color=pen.colour, ls=pen.dash, lw=1.5, label=f"{name}, on a grid")
    right.axvline(log_concave_until(MODES), color="black", lw=1.0, ls=(0, (1, 1.6)), label="two modes, certified until")
    right.set(xlabel="time $t$", ylabel="least curvature")
    right.set_yticks([-100, -10, -1, 0, 1, 10, 100], ["-100", "-10", "-1", "0", "1", "10", "100"])
    right.set_title("log-concave above 0", fontsize=10, pad=12)
    below(right)
    return figure


def planes() -> Figure:
    """The posterior on zod_mc at several times, with the noised point."""
    target = SUBJECTS["zod_mc"].target
    figure, (every,) = canvas(1, len(PLANE), 3.0, f"zod mc: the law of the clean point given x = ({AT_PLANE[0]:g}, {AT_PLANE[1]:g})")
    lo, hi = (float(v) for v in (min(target.extent()[0]), max(target.extent()[1])))
    grid = np.linspace(lo, hi, NODES)
    nodes = np.stack([g.ravel() for g in np.meshgrid(grid, grid)], axis=1)
    for axes, t in zip(every, PLANE, strict=True):
        values = density(target, AT_PLANE, t, nodes).reshape(NODES, NODES)
        axes.grid(False)
        axes.imshow(values**0.4, extent=(lo, hi, lo, hi), origin="lower", cmap="Blues", vmax=1.2, aspect="equal", interpolation="bilinear")
        axes.plot(*AT_PLANE, ls="none", marker="+", ms=8, mew=1.4, color=PENS[1].colour)
        axes.set_title(f"t = {t:g}", fontsize=10)
        axes.set_xlabel("$x_1$", fontsize=9.5)
    every[0].set_ylabel("$x_2$", fontsize=9.5)
    return figure


# Inner samplers by time.


def inner_samplers(kept: pd.DataFrame) -> Figure:
    """Errors of the score above, effective numbers of points below; a target a column."""
    figure, every = canvas(2, len(SUBJECTS), 6.0, "the score's error, and the points that it is made of, by time")
    sizes = {"importance": ("importance", f"importance, of {EVALUATIONS:,}"), "ULA, resampled": ("ULA, resampled", "resampling, of 128")}
    sizes["rejection"] = ("rejection", "rejection, of 128")
    for column, name in enumerate(SUBJECTS):
        top, low = every[:, column]
        for case, pen in zip(INNER, PENS, strict=True):
            rows = chosen(kept, "inner", "error", target=name, case=case)
            top.plot(rows["x"], rows["measured"].where(rows["measured"] > 0), color=pen.colour, ls=pen.dash, marker=pen.marker, ms=3.5, lw=1.4)
            if case in sizes:
                rows = chosen(kept, "inner", "ess", target=name, case=case)
                low.plot(rows["x"], rows["measured"], color=pen.colour, ls=pen.dash, marker=pen.marker, ms=3.5, lw=1.4, label=sizes[case][1])
        x = chosen(kept, "inner", "error")["x"]
        for axes in (top, low):
            drawing.log_axis(axes.xaxis, x.min() / 1.15, x.max() * 1.15)
        drawing.log_axis(top.yaxis, 3e-3, 15.0)
        drawing.log_axis(low.yaxis, 0.1, EVALUATIONS * 1.5)
        top.set_title(name.replace("_", " "), fontsize=10)
        low.set_xlabel("time $t$")
    every[0, 0].set_ylabel("error of the score")
    every[1, 0].set_ylabel("effective points")
    every[1, 0].legend(loc="lower left", fontsize=8.5, handlelength=3.0)
    drawing.legend(figure, [drawing.sample(case, pen) for case, pen in zip(INNER, PENS, strict=True)])
    return figure


def budgets(kept: pd.DataFrame) -> Figure:
    """Inner chains and steps that a budget is spread over, by time."""
    figure, (every,) = canvas(1, 2, 3.2, f"{EVALUATIONS:,} evaluations per time on average, from resampled draws")
    for axes, quantity in zip(every, ("chains", "steps"), strict=True):
        for name, pen in zip(SUBJECTS, PENS, strict=False):
            rows = chosen(kept, "budget", quantity, target=name, case=PLANS[0])
            axes.plot(rows["x"], rows["measured"], color=pen.colour, ls=pen.dash, marker=pen.marker, ms=3.5, lw=1.4, label=name.replace("_", " "))
        values = chosen(kept, "budget", quantity, case=PLANS[0])["measured"]
        drawing.log_axis(axes.yaxis, values.min() / 1.3, values.max() * 1.3)
        axes.set(xlabel="time $t$", ylabel=f"inner {quantity}")
    every[0].legend(loc="best", fontsize=8.5, handlelength=3.0)
    return figure


def apart(kept: pd.DataFrame) -> Figure:
    """Evaluations to a fixed TV by half the separation, with the growth that is stated of Langevin."""
    figure, axes = drawing.canvas(3.6, "evaluations to TV as two modes move apart (ULA, importance: 0.2; resampled: 0.15)")
    mine = chosen(kept, "apart", "evaluations")
    drawing.log_axis(axes.yaxis, mine["measured"].min() / 2, mine["measured"].max() * 3)
    axes.set(xlabel="half the separation $a$", ylabel="evaluations a particle", xlim=(mine["x"].min() - 0.1, mine["x"].max() + 0.1))
    entries = []
    for i, case in enumerate(("ULA", *sorted(set(mine["case"]) - {"ULA"}))):
        rows = mine[mine["case"] == case].sort_values("x").assign(floor=np.nan)
        drawing.measured(axes, rows["x"].to_numpy(), rows, PENS[i], 0)
        entries.append(drawing.sample(case, PENS[i]))
    first = mine[mine["case"] == "ULA"].sort_values("x").iloc[0]
    a = np.linspace(mine["x"].min(), mine["x"].max(), 101)
    growth = np.exp(a**2 / 2) / a
    axes.plot(a, first["measured"] * growth / growth[0], color="black", lw=1.0, ls=(0, (1, 1.6)))
    entries.append(Line2D([], [], color="black", lw=1.0, ls=(0, (1, 1.6)), label="exp$(a^2/2)/a$, through the first of ULA"))
    drawing.legend(figure, entries)
    return figure
