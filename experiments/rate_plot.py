"""The figure of a rate: measured values on two logarithmic axes, the fitted exponent and the stated one."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon

from ..theory.verdict import Fit, fit_corrected, fit_exponent
from . import drawing
from .curves import comparisons, label, settings, swept
from .drawing import GREY, PENS, Pen
from .judge import series
from .result import Result
from .typeset import quantity, typeset


def rate(result: Result, verdict: dict[str, Any], rows: pd.DataFrame, title: str) -> Figure:
    """Measured values against the abscissa, the fit over its regime with a slope triangle, and the stated slope beside it."""
    figure, axes = drawing.canvas(3.3, title, verdict["statement"])
    axes.set_xlabel(typeset(verdict["abscissa"], "mathtext"))
    axes.set_ylabel(quantity(verdict["quantity"]))
    axes.set_xscale("log")
    parts = [part.sort_values("x") for _, part in series("rate", rows, settings(result.table))]
    seen = rows[(rows["measured"] > 0) & np.isfinite(rows["measured"]) & (rows["x"] > 0)]
    if seen.empty:
        return figure
    drawing.log_axis(axes.xaxis, seen["x"].min() / 1.25, seen["x"].max() * 1.25)
    spread = max(2.0, float(seen["measured"].max() / seen["measured"].min()))
    drawing.log_axis(axes.yaxis, seen["measured"].min() / spread**0.16 / 1.15, seen["measured"].max() * spread**0.2 * 1.15)
    entries: list[Artist] = []
    for i, part in enumerate(parts):
        entries.append(_draw(axes, result, verdict, part, PENS[i % len(PENS)], alone=len(parts) == 1))
    if np.isfinite(verdict["stated"]):
        sense = re.match(r"at most|at least|", verdict["why"])
        stated = f"stated exponent: {sense.group() if sense else ''} {verdict['stated']:g}".replace(":  ", " ").replace("-", "−")
        entries.append(Line2D([], [], color=GREY, lw=1.2, ls=(0, (5, 3)), label=stated))
    if any(len(fitted(part, verdict.get("correction", np.nan))[0]) < len(part) for part in parts):
        entries.append(Line2D([], [], color="#444", ls="none", marker="o", mfc="white", label="left out of the fit"))
    drawing.legend(figure, [*entries, *drawing.floor(axes, rows)])
    return figure


def fitted(part: pd.DataFrame, correction: float = np.nan) -> tuple[pd.DataFrame, Fit | None]:
    """The rows over which the exponent of a series is fitted, as the verdict does, and the fit."""
    resolved = (part["measured"] > 2 * part["floor"]) & (part["upper"] - part["lower"] < 0.5 * part["measured"])
    if np.isfinite(correction):
        fit = fit_corrected(comparisons(part), correction)
        return (part[resolved] if fit else part.iloc[:0]), fit
    fit = fit_exponent(comparisons(part))
    ends = re.search(r"x = (\S+?)\.\.(\S+)$", fit.regime) if fit else None
    if ends is None:
        return part.iloc[:0], fit
    return part[resolved & (part["x"] >= 0.99 * float(ends[1])) & (part["x"] <= 1.01 * float(ends[2]))], fit


def _draw(axes: Axes, result: Result, verdict: dict[str, Any], part: pd.DataFrame, pen: Pen, alone: bool) -> Artist:
    """One series; returns its entry in the legend."""
    used, fit = fitted(part, verdict.get("correction", np.nan))
    exponent, low, high = (verdict[c] for c in ("exponent", "low", "high"))
    if not alone or not np.isfinite(exponent):
        exponent, low, high = (fit.exponent, fit.low, fit.high) if fit else (np.nan,) * 3
    part = part[(part["measured"] > 0) & np.isfinite(part["measured"]) & (part["x"] > 0)]
    x, y = part["x"].to_numpy(), part["measured"].to_numpy()
    bars = np.clip([y - np.fmax(part["lower"], 0.05 * y), part["upper"] - y], 0, None)
    axes.errorbar(x, y, bars, fmt="none", ecolor=pen.colour, elinewidth=1.0, capsize=2.5, zorder=2)
    inside = part.index.isin(used.index)
    axes.plot(x[~inside], y[~inside], ls="none", marker=pen.marker, ms=5.5, mfc="white", mec=pen.colour, zorder=3)
    axes.plot(x[inside], y[inside], ls="none", marker=pen.marker, ms=5.5, color=pen.colour, zorder=4)
    words = f"slope {interval(exponent, low, high)}" if np.isfinite(exponent) else "no fit"
    fixed = [c for c in swept(result.table) if part[c].nunique(dropna=False) == 1]  # what is the same along a series sets it apart
    name = "measured and fitted" if alone else f"{typeset(label(fixed, part), 'mathtext')}: {words}"
    if len(used) and np.isfinite(exponent):
        u, v = np.log(used["x"].to_numpy()), np.log(used["measured"].to_numpy())
        ends = np.array([u.min() - 0.04 * np.ptp(u), u.max() + 0.04 * np.ptp(u)])
        bend = fit.bend if fit else 0.0

        def shape(at: np.ndarray, steepness: float) -> np.ndarray:
            return steepness * at + (bend * np.exp(-verdict.get("correction", np.nan) * at) if bend else 0.0)

        def line(at: np.ndarray, steepness: float) -> np.ndarray:
            return np.exp(shape(at, steepness) + (v - shape(u, steepness)).mean())

        along = np.linspace(ends[0], ends[1], 60) if bend else ends
        axes.plot(np.exp(along), line(along, exponent), color=pen.colour, lw=1.4, ls="-" if alone else pen.dash, zorder=2)
        bottom, top = axes.get_ylim()
        apart = (top / bottom) ** 0.075
        if np.isfinite(verdict["stated"]):
            axes.plot(np.exp(along), line(along, verdict["stated"]) * apart, color=GREY, lw=1.2, ls=(0, (5, 3)), zorder=1)
        if alone:
            _triangle(axes, ends, lambda at: line(at, exponent) / apart, exponent, words.replace(" [", "\n["), pen)
    return Line2D([], [], color=pen.colour, marker=pen.marker, ms=5, lw=1.4, ls="-" if alone else pen.dash, label=name)


def interval(exponent: float, low: float, high: float) -> str:
    """A fitted exponent with its interval; empty where there is none."""
    return f"{exponent:.3f} [{low:.3f}, {high:.3f}]".replace("-", "−") if np.isfinite(exponent) else ""


def _triangle(axes: Axes, ends: np.ndarray, line: Any, exponent: float, words: str, pen: Pen) -> None:
    """A slope triangle under the fitted line, its words on the side that the line leaves free."""
    rising = exponent >= 0
    a, b = ends[0] + np.ptp(ends) * (np.array([0.42, 0.64]) if rising else np.array([0.40, 0.62]))
    (ya, yb), (xa, xb) = line(np.array([a, b])), np.exp([a, b])
    corner = (xb, ya) if rising else (xa, yb)
    axes.add_patch(Polygon([(xa, ya), (xb, yb), corner], closed=True, fill=False, ec=pen.colour, lw=0.9, zorder=2))
    axes.annotate(
        words,
        (corner[0], corner[1]),
        xytext=(6 if rising else -6, 0),
        textcoords="offset points",
        ha="left" if rising else "right",
        va="bottom" if abs(exponent) > 0.2 else "top",
        fontsize=10,
        linespacing=1.25,
        gid="slope",
    )
