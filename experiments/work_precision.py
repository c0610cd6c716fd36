"""Work-precision diagrams: the distance to the target against the evaluations of the score that it took."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from . import drawing
from .curves import label, swept
from .document import Document
from .drawing import GREY, PENS, Pen, plain
from .result import Result, records
from .typeset import quantity, typeset

#: Metrics of which less is not better.
NOT_DISTANCES = ("ess", "r_hat")
#: For more samplers than a figure usually has curves.
MORE = (
    Pen("#56B4E9", "X", (0, (4, 1, 1, 1))),
    Pen("#882255", "*", (0, (12, 2))),
    Pen("#999933", "<", (0, (2, 1))),
    Pen("#666666", "h", (0, (5, 1, 1, 1))),
    Pen("#117733", ">", (0, (1, 1))),
    Pen("#AA4499", "p", (0, (8, 1, 1, 1))),
    Pen("#332288", "d", (0, (3, 1, 3, 4))),
    Pen("#661100", "8", (0, (1, 3))),
)
#: Of these samplers a best value further below all others is cut off: one without bias would squeeze the rest into a line.
DEPTH = 1e-3


def contests(result: Result) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """(metric, setting, rows) of every distance recorded where samplers with several step sizes are run on one target.

    The rows have, besides those of the table, a `contestant` (the sampler by name, and by its other parameters where those vary) and
    its `step`; seeds are averaged. Nothing where the sweep does not vary both the sampler and its step size.
    """
    of_cell = dict(specs(result))
    names = {spec["name"] for spec in of_cell.values()}
    named = {index: contestant(spec, list(of_cell.values())) for index, spec in of_cell.items()}
    steps = pd.DataFrame({"contestant": named, "step": {i: float(spec.get("step_size", np.nan)) for i, spec in of_cell.items()}})
    if len(names) < 2 or steps.groupby("contestant")["step"].nunique().max() < 2:
        return
    rows = result.table[(result.table["check"] < 0) & (result.table["status"] == "ok") & (result.table["scores"] > 0)]
    rows = rows[~rows["quantity"].str.split("(").str[0].isin(NOT_DISTANCES)].join(steps, on="index")
    others = [column for column in swept(result.table) if column.split(".")[0] in ("target", "start")]
    for what, of_metric in rows.groupby("quantity", sort=False):
        places = of_metric.groupby(others, dropna=False, sort=False) if others else [((), of_metric)]
        for _, part in places:
            yield str(what), label(others, part), _over_seeds(part)


def specs(result: Result) -> Iterator[tuple[int, dict[str, Any]]]:
    """The sampler of every cell: that of the file, as the sweep changes it."""
    base = Document.parse(result.yaml, result.name).data["sampler"]
    for cell in records(result.table.drop_duplicates("index")):
        whole = cell.get("sampler")
        spec = whole if isinstance(whole, str) else base
        if isinstance(spec, str):
            spec = json.loads(spec) if spec.startswith("{") else {"name": spec}
        moved = {k.removeprefix("sampler."): v for k, v in cell.items() if k.startswith("sampler.") and v is not None and v == v}
        yield cell["index"], {**spec, **moved}


def contestant(spec: dict[str, Any], everything: list[dict[str, Any]], tuned: Sequence[str] = ("step_size",)) -> str:
    """A sampler's name, with what tells it from others of that name, those settings apart by which it is tuned."""
    same = [s for s in everything if s["name"] == spec["name"]]
    settings = [k for k, v in spec.items() if k in tuned and not (k == "inner" and isinstance(v, str))]  # a number of steps, or a sampler
    varied = [k for k in spec if k != "name" and k not in settings and any(s.get(k) != spec[k] for s in same)]
    words = [f"{k.replace('_', ' ')} = {plain(v) if isinstance(v, (int, float)) else v}" for k, v in spec.items() if k in varied]
    return ", ".join([spec["name"].replace("_", " ").replace(".", " "), *words])


def _over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    numbers = {**dict.fromkeys(("measured", "lower", "upper", "floor"), "mean"), "index": "first", "potentials": "first"}
    return rows.groupby(["contestant", "step", "scores"], sort=False, dropna=False).agg(numbers).reset_index()


def resolved(rows: pd.DataFrame) -> pd.DataFrame:
    """Those that can be told from zero: below its floor or numerical error no run is better than another."""
    return rows[(rows["measured"] > 0) & np.isfinite(rows["measured"]) & (rows["lower"] > 0) & (rows["measured"] > 2 * rows["floor"].fillna(0.0))]


def envelope(rows: pd.DataFrame) -> pd.DataFrame:
    """The least distance reached with at most so many evaluations, over all runs of one sampler: their lower envelope.

    One row per number of evaluations at which some run was measured: that of the run that did best until then (`attained` is
    where), so that its step size and interval come along.
    """
    rows = rows.sort_values(["scores", "measured"], ascending=[True, False])
    values = rows["measured"].to_numpy()
    record = values == np.minimum.accumulate(values)
    at = np.maximum.accumulate(np.where(record, np.arange(len(rows)), 0))
    best = rows.iloc[at].assign(attained=rows["scores"].to_numpy()[at], scores=rows["scores"].to_numpy())
    return best.drop_duplicates("scores", keep="last")


def needed(rows: pd.DataFrame, accuracy: float) -> pd.DataFrame:
    """Per sampler, in order: the fewest evaluations (among those recorded) at which some run is within `accuracy`, and its step size.

    Arguments:
        rows: of one contest.
        accuracy: a distance above the floor.
    """
    found = []
    for name, part in resolved(rows).groupby("contestant", sort=False):
        inside = envelope(part)
        inside = inside[inside["measured"] <= accuracy]
        first = inside.iloc[0] if len(inside) else {"scores": np.inf, "step": np.nan}
        found.append({"sampler": name, "scores": first["scores"], "step": first["step"]})
    return pd.DataFrame(found)


def diagrams(result: Result) -> dict[tuple[str, str], Figure]:
    """One figure for each contest, by its metric and setting; call it inside `drawing.style`."""
    found = ((what, setting, rows, resolved(rows)) for what, setting, rows in contests(result))
    return {(what, setting): _diagram(what, setting, rows, good) for what, setting, rows, good in found if len(good)}


def _diagram(what: str, setting: str, rows: pd.DataFrame, good: pd.DataFrame) -> Figure:
    """Every run faint, every sampler's envelope strong."""
    title = f"work and precision: {setting}" if setting else "work and precision"
    figure, axes = drawing.canvas(3.6, typeset(title, "mathtext"))
    pens = (*PENS, *MORE)
    parts = list(good.groupby("contestant", sort=False))
    best = [(str(name), part, envelope(part)) for name, part in parts[: len(pens)]]
    axes.set_xlabel("score evaluations of a chain")
    axes.set_ylabel(quantity(what))
    drawing.along(axes, good["scores"].to_numpy(float))
    lowest = sorted(line["measured"].min() for _, _, line in best)
    drawing.heights(axes, good[good["measured"] >= max(lowest[0], DEPTH * lowest[min(1, len(lowest) - 1)])])
    entries: list[Artist] = []
    for i, ((name, part, line), pen) in enumerate(zip(best, pens, strict=False)):
        for _, run in part.groupby("step"):
            axes.plot(run["scores"], run["measured"], color=pen.colour, lw=0.6, alpha=0.35, zorder=2)
        drawing.measured(axes, line["scores"].to_numpy(float), line, pen, i)
        each = float((part["potentials"] / part["scores"]).max())
        aside = f" (and {each:.3g} potential{'s' * (each > 1)} per score)" if each else ""
        entries.append(drawing.sample(typeset(name, "mathtext") + aside, pen))
    entries.append(Line2D([], [], color=GREY, lw=0.8, label="one step size"))
    left = f"; {len(parts) - len(best)} more are not shown" * (len(parts) > len(best))
    drawing.legend(figure, [*entries, *drawing.floor(axes, rows)], f"thick: the best of a sampler's step sizes{left}")
    return figure
