"""How figures look: one style, legible in greyscale; axes, legends, and SVG small enough to stand in a page."""

from __future__ import annotations

import hashlib
import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from .typeset import typeset

#: Of bitmaps, and of the layout: text that was measured at this resolution is not measured again.
DPI = 150
#: The face has the widths of Times, so that a page without it keeps the layout (`FACES` in `svg`).
RC: Any = {
    "font.family": "STIXGeneral", "mathtext.fontset": "stix", "font.size": 11, "axes.labelsize": 11, "xtick.labelsize": 10, "ytick.labelsize": 10,
    "legend.fontsize": 10, "axes.linewidth": 0.7, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#444",
    "axes.axisbelow": True, "xtick.color": "#444", "ytick.color": "#444", "xtick.labelcolor": "#111", "ytick.labelcolor": "#111",
    "xtick.major.width": 0.7, "ytick.major.width": 0.7, "xtick.major.size": 3, "ytick.major.size": 3, "grid.color": "#e4e4e4", "grid.linewidth": 0.6,
    "hatch.linewidth": 0.4, "legend.frameon": False, "legend.handlelength": 2.6, "legend.columnspacing": 1.6, "legend.labelspacing": 0.35,
    "svg.fonttype": "none", "path.simplify": True, "path.simplify_threshold": 0.5,
}  # fmt: skip
FACES = "STIXGeneral,'STIX Two Text','Times New Roman','Liberation Serif',Times,serif"

WIDTH = 5.6
RED, GREY = "#b2182b", "#8a8a8a"


class Pen(NamedTuple):
    """Colour (Okabe-Ito, light ones last), marker and dash: each alone tells the curves apart."""

    colour: str
    marker: str
    dash: Any


PENS = (
    Pen("#0072B2", "o", "-"),
    Pen("#D55E00", "s", (0, (6, 2))),
    Pen("#009E73", "^", (0, (6, 2, 1.5, 2))),
    Pen("#CC79A7", "D", (0, (3, 1.5))),
    Pen("#000000", "v", (0, (10, 2, 2, 2, 2, 2))),
    Pen("#E69F00", "P", (0, (9, 2))),
)
#: A bound or what is allowed: thin, dotted, hollow marker.
THIN: dict[str, Any] = {"lw": 1.0, "ls": (0, (1, 1.6)), "mfc": "white", "mew": 0.9}


@contextmanager
def style() -> Iterator[None]:
    """The settings under which figures are drawn and written."""
    with matplotlib.rc_context(RC):
        yield


def canvas(height: float, title: str, statement: str = "") -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes; under its title the statement, in at most two lines."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained", dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(True)
    lines = textwrap.wrap(statement, 98, max_lines=2, placeholder=" ...")
    figure.suptitle("\n".join([title, *(typeset(line, "mathtext") for line in lines)]), fontsize=10.5)
    return figure, axes


def legend(figure: Figure, handles: Sequence[Artist], title: str = "") -> None:
    """Entries below the axes, in as many columns as their words allow; the figure grows by their height."""
    longest = max(len(re.sub(r"[${}^_\\]|mathrm", "", str(h.get_label()))) for h in handles)
    columns = max(1, min(3, len(handles), int((72 * WIDTH + 16) / (50 + 4.3 * longest))))  # points: a handle and a gap, then 4.3 a character
    rows = -(-len(handles) // columns) + bool(title)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.2 * rows)
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, title=title or None, title_fontsize=10, alignment="left")
    figure.draw_without_rendering()  # the layout is found once, and kept for every format
    figure.set_layout_engine(None)


def sample(label: str, pen: Pen | None = None, thin: bool = False) -> Line2D:
    """A legend entry: a curve of its own, or in black what all thick or thin ones are."""
    pen = pen or Pen("#444", "o", "-")
    if thin:
        return Line2D([], [], color=pen.colour, marker=pen.marker, ms=6, label=label, **THIN)
    return Line2D([], [], color=pen.colour, marker=pen.marker, ms=4, ls=pen.dash, lw=1.7, label=label)


def log_axis(axis: Axis, low: float, high: float) -> None:
    """A logarithmic axis from low to high whose labels do not crowd."""
    axes = axis.axes
    (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
    (axes.set_xlim if axis is axes.xaxis else axes.set_ylim)(low, high)
    axis.set_minor_locator(NullLocator())
    decades = np.log10(high / low)
    if decades > 2.5:
        axis.set_major_locator(LogLocator(numticks=7))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"$10^{{{np.log10(value):.0f}}}$"))
        return
    inside: list[float] = []
    for subs in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        inside = [t for t in np.outer(powers, subs).ravel() if low <= t <= high]
        if len(inside) >= 3:
            break
    if len(inside) < 3:
        inside = [t for t in MaxNLocator(4).tick_values(low, high) if low <= t <= high]
    axis.set_major_locator(FixedLocator(inside))
    axis.set_major_formatter(FuncFormatter(lambda value, _: typeset(plain(value), "mathtext")))


def plain(value: float) -> str:
    """A number of few digits; with a power of ten, as `typeset` reads it, where it is very small or large."""
    if value == 0 or 1e-3 <= abs(value) < 1e5 or not np.isfinite(value):
        return f"{value:.{5 if abs(value) >= 1e4 else 4}g}"  # four digits of 10000 would be 1e+04
    digits, _, exponent = f"{value:.3e}".partition("e")
    digits = f"{float(digits):g}"
    return f"{'' if digits == '1' else f'{digits} × '}10^{{{int(exponent)}}}"


# What several figures draw of a table.


def along(axes: Axes, x: np.ndarray, time: bool = False) -> None:
    """A horizontal axis around x: linear in time, logarithmic for all else that spans more than two decades."""
    positive = x[x > 0]
    if not time and len(positive) and positive.max() / positive.min() > 100:
        log_axis(axes.xaxis, positive.min() / 1.2, positive.max() * 1.2)
        return
    whole = not time and bool((x == np.round(x)).all())
    if whole:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    pad = max(0.02 * np.ptp(x), 0.3 if whole else 0.0) or 0.05 * abs(x[0]) or 0.5
    axes.set_xlim(x.min() - pad, x.max() + pad)


def floor(axes: Axes, rows: pd.DataFrame) -> Iterator[Artist]:
    """Grey hatch up to where nothing is resolved: an estimator's floor, or the numerical error of an exact route."""
    unresolved = rows.loc[rows["lower"] <= 0, "upper"] - rows.loc[rows["lower"] <= 0, "measured"]
    level = max((0.0, *rows["floor"].dropna().to_numpy(), *unresolved[np.isfinite(unresolved)].to_numpy()))
    bottom, top = axes.get_ylim()
    if bottom < level < top:
        hatched: dict[str, Any] = {"facecolor": "none", "edgecolor": "#b5b5b5", "hatch": "////", "lw": 0}
        axes.axhspan(bottom, level, zorder=0, **hatched)
        name = "below the floor" if rows["floor"].max() > 0 else "numerical error"
        yield Patch(label=name + " (the largest)" * (rows["index"].nunique() > 1), **hatched)


def heights(axes: Axes, rows: pd.DataFrame, *columns: str) -> None:
    """A logarithmic axis around the resolved values; a plain one where nothing is positive."""
    values = rows["measured"].to_numpy()
    resolved = values[(values > 0) & np.isfinite(values) & (rows["lower"] > 0)]
    others = np.concatenate([rows[c].to_numpy() for c in columns]) if columns else np.array([])
    others = others[(others > 0) & np.isfinite(others)]
    if not len(resolved):
        resolved = values[(values > 0) & np.isfinite(values)]
    if not len(resolved) and not len(others):
        return
    low, high = min([*resolved, *others]), max([*resolved, *others])
    if len(resolved) and len(others):  # a bound far away is not worth the curve's detail
        low, high = max(low, resolved.min() * 1e-4), min(high, resolved.max() * 1e4)
        high = max(high, 1.5 * resolved.max())
    unresolved = rows.loc[rows["lower"] <= 0, "upper"]
    noise = max((0.0, *rows["floor"].dropna().to_numpy(), *unresolved[np.isfinite(unresolved)].to_numpy()))
    low = min(max(low, 0.03 * noise), 0.3 * noise) if 1e-3 * low < noise < high else low
    pad = max(1.25, (high / low) ** 0.05)
    log_axis(axes.yaxis, low / pad, high * pad)


def measured(axes: Axes, x: np.ndarray, rows: pd.DataFrame, pen: Pen, shift: int, joined: bool = True) -> None:
    """A curve with its interval as a band."""
    y, lower, upper = (rows[c].where(rows[c] > 0).to_numpy() for c in ("measured", "lower", "upper"))
    x = np.where(x > 0, x, np.nan) if axes.get_xscale() == "log" else x
    every = max(1, len(x) // 8)
    axes.plot(x, y, color=pen.colour, marker=pen.marker, ms=4, ls=pen.dash if joined else "none", lw=1.7, markevery=(shift % every, every), zorder=3)
    lower = np.where(np.isnan(lower) & (rows["floor"] > 0), axes.get_ylim()[0], lower)  # an exact route's error is hatched instead
    upper = np.where(np.isposinf(upper) & np.isfinite(y), axes.get_ylim()[1], upper)
    finite = np.isfinite(y) & np.isfinite(lower) & np.isfinite(upper)
    wide = np.divide(upper - lower, y, out=np.zeros_like(y), where=finite) > 0.02 if finite.any() else finite
    if wide.any():
        if len(x) > 1 and joined:
            axes.fill_between(x, lower, upper, color=pen.colour, alpha=0.16, lw=0, zorder=1)
        else:
            axes.vlines(x, lower, upper, color=pen.colour, lw=1.2)


# SVG for a page.


def svg(figure: Figure, prefix: str) -> str:
    """The figure as an `svg` element: nothing is fetched, coordinates are to a hundredth of a point.

    Arguments:
        prefix: a name of the figure; figures of different names share no id.
    """
    stream = io.StringIO()
    with matplotlib.rc_context(RC | {"svg.hashsalt": prefix}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)  # a style element would reach the whole page
    text = re.sub(r"<text([^>]*)>((?:\s*<tspan[^>]*>[^<]*</tspan>)+)\s*</text>", _merged, text)
    stem = "p" + hashlib.sha256(prefix.encode()).hexdigest()[:8]
    used = dict.fromkeys(re.findall(r"(?:href=\"|url\()#([^\")]+)", text))
    names = {name: f"{stem}-{i}" for i, name in enumerate(used)}
    text = re.sub(r' id="([^"]+)"', lambda m: f' id="{names[m[1]]}"' if m[1] in names else "", text)
    text = re.sub(r"(href=\"|url\()#([^\")]+)", lambda m: f"{m[1]}#{names[m[2]]}", text)
    text = re.sub(r"<[^>]+>", lambda m: _shorter(m.group()), text)
    text = re.sub(r">\s+<", "><", text)
    while (flat := re.sub(r"<g></g>|<g>(<g[^>]*>(?:(?!</?g).)*</g>)</g>", r"\1", text)) != text:
        text = flat
    return text.replace("<svg ", f'<svg style="font-family:{FACES};stroke-linejoin:round" role="img" ', 1).strip()


def _shorter(tag: str) -> str:
    """A tag without what the page says once, its coordinates to a hundredth."""
    tag = re.sub(r" transform=\"rotate\(-0 [^)]*\)\"", "", re.sub(r"\s+", " ", tag))
    tag = re.sub(r' d="[^"]*"', lambda m: " " + re.sub(r" ?([MLCQz]) ?", r"\1", m.group()[1:]), tag)
    tag = tag.replace("xlink:href", "href").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    tag = re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m.group()):.2f}".rstrip("0").rstrip("."), tag)
    tag = re.sub(r"font-family: [^;\"]*|font: ([\d.]+px) [^;\"]*", lambda m: f"font-size: {m[1]}" if m[1] else "", tag)
    tag = re.sub(
        r"style=\"[^\"]*\"", lambda m: 'style="' + ";".join(filter(None, re.split(r"\s*;\s*", m.group()[7:-1].replace(": ", ":")))) + '"', tag
    )
    return tag.replace(' style=""', "").replace(' "', '"').replace('="-0"', '="0"')


def _merged(match: re.Match[str]) -> str:
    """Runs of one-glyph elements of one size and height as one element with a list of places."""
    runs: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for x, y, shape, glyph in re.findall(r'<tspan x="([^"]*)" y="([^"]*)" style="([^"]*)">([^<]*)</tspan>', match[2]):
        if glyph.strip():
            xs, glyphs = runs.setdefault((y, shape), ([], []))
            xs.append(x)
            glyphs.append(glyph)
    spans = [f'<tspan x="{" ".join(xs)}" y="{y}" style="{shape}">{"".join(glyphs)}</tspan>' for (y, shape), (xs, glyphs) in runs.items()]
    return f"<text{match[1]}>{''.join(spans)}</text>"
