"""The figures of a run: bounds, rates, identities, metrics that no theorem speaks of, and samplers side by side."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from . import budgeted, drawing, work_precision
from .curves import SYMBOLS, Curve, curves, swept
from .drawing import PENS, RED, THIN
from .rate_plot import rate
from .result import Result, records
from .stacked import splits, stacked
from .typeset import quantity, typeset

#: Names of the figures of a folder, in order.
INDEX = "index.json"
CROSS: dict[str, Any] = {"marker": "x", "ms": 7, "mew": 1.5, "color": RED, "zorder": 5}


def figures(result: Result) -> dict[str, Figure]:
    """All figures of a run by a name fit for a file; none is kept open anywhere."""
    ok = result.table[result.table["status"] == "ok"]
    ok = ok.assign(quantity=ok["quantity"].str.split(";").str[0])
    found: dict[str, Figure] = {}
    with drawing.style():
        for verdict in records(result.verdicts):
            rows = ok[(ok["check"] == verdict["check"]) & (ok["theorem"] == verdict["theorem"])]
            title = _title(verdict)
            name = f"{verdict['check']}-{verdict['theorem']}"
            if rows.empty:
                continue
            if splits(rows):
                found[_slug(name)] = stacked(verdict, rows, title)
            elif verdict["kind"] == "bound":
                for what, part in rows.groupby("quantity", sort=False):
                    found[_slug(f"{name}-{what}")] = _bound(result, verdict, str(what), part, title)
            elif verdict["kind"] == "rate":
                found[_slug(name)] = rate(result, verdict, rows, title)
            elif len(rows) > 1:
                found[_slug(name)] = _identity(result, verdict, rows, title)
        compared = budgeted.diagrams(result)
        found |= {_slug(f"equal-cost-{what}-{setting}"): figure for (what, setting), figure in compared.items()}
        if not compared:
            compared = work_precision.diagrams(result)
            found |= {_slug(f"work-precision-{what}-{setting}"): figure for (what, setting), figure in compared.items()}
        bounded = {*ok.loc[ok["kind"] == "bound", "quantity"], *(what for what, _ in compared)}
        metrics = ok[(ok["check"] < 0) & ~ok["quantity"].isin(bounded)]
        for what, rows in metrics.groupby("quantity", sort=False):
            found[_slug(f"metric-{what!s}")] = _metric(result, str(what), rows)
    return found


def save(result: Result, png: bool = True) -> list[Path]:
    """Every figure as SVG, and as PNG unless told not to, in the folder `plots` of the run; those of an earlier run go."""
    folder = result.folder / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("*.png"), *folder.glob("*.svg"), folder / INDEX]:
        old.unlink(missing_ok=True)
    paths = []
    drawn = figures(result)
    for name, figure in drawn.items():
        if png:
            with drawing.style():
                figure.savefig(folder / f"{name}.png", dpi=drawing.DPI)
            paths.append(folder / f"{name}.png")
        (folder / f"{name}.svg").write_text(drawing.svg(figure, f"{result.name}-{name}"), encoding="utf-8")
        paths.append(folder / f"{name}.svg")
    (folder / INDEX).write_text(json.dumps(list(drawn)), encoding="utf-8")  # last: it says that all are there
    return paths


def pictures(result: Result) -> dict[str, str]:
    """The figures as SVG to stand in a page: as saved, where that was after the table was written, else drawn now."""
    folder = result.folder / "plots"
    try:
        if (folder / INDEX).stat().st_mtime >= (result.folder / "table.parquet").stat().st_mtime:
            names = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            return {name: (folder / f"{name}.svg").read_text(encoding="utf-8") for name in names}
    except OSError:
        pass
    return {name: drawing.svg(figure, f"{result.name}-{name}") for name, figure in figures(result).items()}


def _title(verdict: dict[str, Any]) -> str:
    extra = [typeset(verdict["parameters"].replace("=", " = ").replace("_", " "), "mathtext")] if verdict["parameters"] else []
    extra += [f"control: stated side times {verdict['factor']:g}"] if verdict["factor"] != 1 else []
    aside = f" ({'; '.join(extra)})" if extra else ""
    return f"{verdict['theorem']}{aside}: {verdict['word']}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def _abscissa(result: Result, rows: pd.DataFrame, theorem: str = "") -> tuple[str, str]:
    """Column and label of the horizontal axis of trajectories: time for a diffusion, else steps."""
    continuous = "langevin_diffusion" in result.yaml or "recipe_diffusion" in result.yaml
    if theorem.startswith("ld-") or (not theorem.startswith("ula-") and continuous):
        return "time", "time $t$"
    return "k", "step $k$"


def _bound(result: Result, verdict: dict[str, Any], what: str, rows: pd.DataFrame, title: str) -> Figure:
    figure, axes = drawing.canvas(3.3, title, verdict["statement"])
    column, along = _abscissa(result, rows, verdict["theorem"])
    order = (re.findall(r"order=([\d.]+)", verdict["parameters"]) or [""])[0]
    axes.set_ylabel(quantity(what, column == "time", order))
    sizes, note, joined = rows.groupby("index").size(), "", True
    if len(sizes) > 1 and sizes.max() == 1:  # one comparison a cell: the sweep itself is the horizontal axis
        rows, along, joined = _over_sweep(rows)
        column, drawn = "position", [Curve("", PENS[0], rows)]
    else:
        drawn, note = curves(result.table, rows)
    shown = pd.concat([c.rows for c in drawn])
    axes.set_xlabel(along)
    drawing.along(axes, shown[column].to_numpy(float), time=column == "time")
    drawing.heights(axes, shown, "bound")
    side = {"lower": " (an estimate from below)", "upper": " (an estimate from above)"}.get(str(rows["side"].iloc[0]), "")
    alone = drawn[0].pen if len(drawn) == 1 else None
    entries: list[Artist] = [drawing.sample(f"measured{side}", alone), drawing.sample("bound", alone, thin=True)]
    broken = False
    for i, curve in enumerate(drawn):
        x, bound = curve.rows[column].to_numpy(float), curve.rows["bound"].where(curve.rows["bound"] > 0).to_numpy()
        every = max(1, len(x) // 8) if joined else 1
        drawing.measured(axes, x, curve.rows, curve.pen, i, joined)
        axes.plot(x, bound, color=curve.pen.colour, marker=curve.pen.marker, ms=6.5, markevery=(i % every, every), zorder=2, **THIN)
        if (bad := curve.violated).any():
            y = curve.rows["measured"].to_numpy()
            axes.fill_between(x, bound, y, where=bad, color=RED, alpha=0.12 if alone else 0.06, lw=0, zorder=0, interpolate=True)
            some = np.flatnonzero(bad)[:: 1 if len(drawn) * bad.sum() <= 30 else every]  # a cross on every one would hide the curves
            axes.plot(x[some], y[some], ls="none", **CROSS)
            broken = True
        if len(drawn) > 1:
            entries.append(drawing.sample(typeset(curve.label, "mathtext"), curve.pen))
    if broken:
        entries.append(Line2D([], [], ls="none", label="above the bound", **CROSS))
    drawing.legend(figure, [*entries, *drawing.floor(axes, shown)], note)
    return figure


def _over_sweep(rows: pd.DataFrame) -> tuple[pd.DataFrame, str, bool]:
    """The rows by the one swept number, its label, and True; else by their order, with which no line makes sense."""
    varied = [c for c in swept(rows) if pd.api.types.is_numeric_dtype(rows[c])]
    if len(varied) == 1 and rows[varied[0]].is_unique:
        name = varied[0].rsplit(".", 1)[-1]
        rows = rows.assign(position=rows[varied[0]].astype(float)).sort_values("position")
        return rows, f"{name.replace('_', ' ')} {typeset(SYMBOLS.get(name, ''), 'mathtext')}".strip(), True
    return rows.assign(position=np.arange(1.0, len(rows) + 1)), "cell of the sweep", False


def _metric(result: Result, what: str, rows: pd.DataFrame) -> Figure:
    figure, axes = drawing.canvas(3.0, "no theorem: the metric alone")
    column, along = _abscissa(result, rows)
    drawn, note = curves(result.table, rows)
    shown = pd.concat([c.rows for c in drawn])
    axes.set_xlabel(along)
    axes.set_ylabel(quantity(what, column == "time"))
    drawing.along(axes, shown[column].to_numpy(float), time=column == "time")
    drawing.heights(axes, shown)
    for i, curve in enumerate(drawn):
        drawing.measured(axes, curve.rows[column].to_numpy(float), curve.rows, curve.pen, i)
    alone = len(drawn) == 1
    entries: list[Artist] = [drawing.sample("measured" if alone else typeset(c.label, "mathtext"), c.pen) for c in drawn]
    drawing.legend(figure, [*entries, *drawing.floor(axes, shown)], note)
    return figure


def _identity(result: Result, verdict: dict[str, Any], rows: pd.DataFrame, title: str) -> Figure:
    """The difference of the two sides of every comparison, against what is allowed."""
    figure, axes = drawing.canvas(2.3, title, verdict["statement"])
    error = np.fmax(rows["upper"] - rows["measured"], rows["measured"] - rows["lower"])
    rows = rows.assign(difference=(rows["measured"] - rows["bound"]).abs(), allowed=rows["tolerance"] + error)
    column, along = _abscissa(result, rows, verdict["theorem"])
    joined = rows["quantity"].nunique() == 1 and rows.groupby("index").size().max() > 1
    if joined:
        drawn, note = curves(result.table, rows)
    else:
        column, along, note = "position", "comparison", ""
        parts = [part.assign(position=np.arange(1.0, len(part) + 1)) for _, part in rows.groupby("quantity", sort=False)]
        drawn = [Curve(str(p["quantity"].iloc[0]), PENS[i % len(PENS)], p) for i, p in enumerate(parts)]
    shown = pd.concat([c.rows for c in drawn])
    positive = [v for v in [*shown["difference"], *shown["allowed"]] if 0 < v < np.inf]
    low, high = (min(positive), max(positive)) if positive else (1e-16, 1e-15)
    drawing.log_axis(axes.yaxis, low / 10, high * 4)
    axes.set_xlabel(along)
    axes.set_ylabel("difference")
    drawing.along(axes, shown[column].to_numpy(float), time=column == "time")
    alone = drawn[0].pen if len(drawn) == 1 else None
    broken = False
    entries: list[Artist] = [drawing.sample("difference (0 at the edge)", alone), drawing.sample("allowed", alone, thin=True)]
    for curve in drawn:
        x, gap = curve.rows[column].to_numpy(float), curve.rows["difference"].to_numpy()
        look: dict[str, Any] = {"color": curve.pen.colour, "marker": curve.pen.marker}
        axes.plot(x, np.fmax(gap, low / 10), ms=4, ls=curve.pen.dash if joined else "none", lw=1.2, clip_on=False, **look)
        axes.plot(x, curve.rows["allowed"], ms=6, zorder=2, **look, **THIN)
        bad = gap > curve.rows["allowed"].to_numpy()
        broken = broken or bool(bad.any())
        axes.plot(x[bad], gap[bad], ls="none", **CROSS)
        if alone is None:
            entries.append(drawing.sample(typeset(curve.label, "mathtext"), curve.pen))
    drawing.legend(figure, [*entries, *[Line2D([], [], ls="none", label="beyond what is allowed", **CROSS)] * broken], note)
    return figure
