"""The figure of an error that splits: its parts stacked over the sweep, the whole beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..theory.error_split import PARTS
from . import drawing
from .curves import SYMBOLS, settings
from .drawing import PENS
from .typeset import quantity, typeset


def splits(rows: pd.DataFrame) -> bool:
    """Whether the rows hold the parts of an error."""
    return set(PARTS) <= set(rows["quantity"])


def stacked(verdict: dict[str, Any], rows: pd.DataFrame, title: str) -> Figure:
    """One bar per cell: the parts upon each other, in the order in which they are switched on; a dot for the distance itself."""
    figure, axes = drawing.canvas(3.3, title, verdict["statement"])
    cells = rows[rows["quantity"] == "w2"].sort_values("index")
    positions = np.arange(len(cells))
    bottom = np.zeros(len(cells))
    for part, pen in zip(PARTS, PENS, strict=False):
        heights = rows[rows["quantity"] == part].set_index("index")["measured"].reindex(cells["index"]).to_numpy(float)
        axes.bar(positions, heights, bottom=bottom, width=0.62, color=pen.colour, edgecolor="white", linewidth=0.6, label=part)
        bottom = bottom + heights
    axes.plot(positions, cells["measured"], ls="none", marker="o", ms=6, mfc="white", mec="black", zorder=4)
    numbers = [c for c in settings(rows) if pd.api.types.is_numeric_dtype(cells[c]) and cells[c].nunique() == len(cells)]
    varied = numbers[0] if numbers else None
    names = [f"{v:g}" for v in (cells[varied] if varied else cells["index"])]
    axes.set_xticks(positions, names)
    name = varied.rsplit(".", 1)[-1] if varied else "cell of the sweep"
    axes.set_xlabel(f"{name.replace('_', ' ')} {typeset(SYMBOLS.get(name, ''), 'mathtext')}".strip())
    axes.set_ylabel(quantity("w2"))
    entries = [Patch(facecolor=pen.colour, label=part) for part, pen in zip(PARTS, PENS, strict=False)]
    whole = Line2D([], [], ls="none", marker="o", ms=6, mfc="white", mec="black", label="the distance itself")
    drawing.legend(figure, [*entries, whole], "")
    return figure
