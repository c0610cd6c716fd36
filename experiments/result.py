"""What a run leaves behind."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

#: Columns of a table before those of the sweep, in order. `scores` and `potentials` count the evaluations that one chain has spent
#: up to step k, as its sampler declares them; `seconds` is the wall time of the whole cell, whatever carried its law.
COLUMNS = (
    "cell", "index", "seed", "kind", "check", "theorem", "quantity", "k", "time", "scores", "potentials", "x", "measured", "lower", "upper", "floor",
    "side", "bound", "tolerance", "instrument", "status", "note", "seconds",
)  # fmt: skip


#: Columns of the verdicts, in order.
VERDICT_COLUMNS = (
    "check", "theorem", "parameters", "kind", "word", "expect", "as_expected", "tightness", "stated", "exponent", "low", "high", "judged", "why",
    "figures", "instrument", "statement", "source", "factor", "abscissa", "correction", "quantity",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """One experiment, run.

    Arguments:
        name: the YAML's stem.
        title, claim, yaml: as written.
        folder: where cells, table, verdicts, plots and report lie.
        table: one row per comparison or metric value; swept paths are columns of their own.
        verdicts: one row per entry of `theorems`.
        seconds: wall time of the cells, those found finished included.
    """

    name: str
    title: str
    claim: str
    yaml: str
    folder: Path
    table: pd.DataFrame
    verdicts: pd.DataFrame
    seconds: float

    @property
    def digest(self) -> str:
        """Hash of the table but for the times taken: the same whatever the workers, their order and what was resumed."""
        rows = pd.util.hash_pandas_object(self.table.drop(columns="seconds"), index=False)
        return hashlib.sha256(rows.to_numpy().tobytes()).hexdigest()[:16]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame by column."""
    return [{str(column): value for column, value in row.items()} for row in frame.to_dict("records")]


def ledger_table(results: Sequence[Result]) -> pd.DataFrame:
    """The verdicts of several experiments in one table, small enough to keep under version control."""
    kept = ["check", "theorem", "parameters", "factor", "expect", "word", "tightness", "stated", "exponent", "low", "high", "judged", "instrument"]
    judged = [r for r in results if len(r.verdicts)] or list(results)  # an empty frame would take the others' types away
    return pd.concat([r.verdicts[kept].assign(experiment=r.name) for r in judged], ignore_index=True)[["experiment", *kept]]
