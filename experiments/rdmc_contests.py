"""Comparisons at equal cost for `docs/rdmc.md`: which runs are kept, and published values beside ours."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import MixrateError
from .budgeted import KEPT, Comparison, kept, recalled
from .diffusion_tables import number, table
from .result import Result
from .runner import load_result, run
from .schema import Experiment, read

#: Shown beside the first metric of every experiment.
BESIDE = "log_z_error"
#: Steps of the published reverse diffusions, and evaluations per score in the table.
STEPS, PER_SCORE = 25, (200, 1200, 4200, 10200)
#: What may be spent beyond a budget, and still counts as within it: chains come in whole numbers, squared where the score is recursive.
SLACK = 1.1
#: Published samplers, and what settings of ours have that are of the same kind.
ALIKE: dict[str, dict[str, Any]] = {
    "ZOD-MC": {"name": "rdmc", "inner": "rejection", "horizon": 2},
    "RDMC": {"name": "rdmc", "inner": "ula", "stop": 0.05},
    "RSDMC": {"name": "rdmc", "segments": 2},
    "SLIPS": {"name": "slips", "inner": "mala"},
    "AIS": {"name": "annealed_importance", "width": 5},
    "SMC": {"name": "sequential_monte_carlo", "width": 5},
    "parallel tempering": {"name": "parallel_tempering"},
    "proximal": {"name": "proximal"},
    "Langevin": {"name": "ula"},
}


def table_at(path: Path) -> pd.DataFrame:
    """The kept table; without rows where there is none."""
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=KEPT)


def finished(experiment: Experiment, runs: Path) -> Result | None:
    """The run of an experiment that is there already, if it is of the same text and of the same cells, whatever the version that ran it."""
    try:
        result = load_result(runs / experiment.name)
    except MixrateError:
        return None
    same = result.yaml == experiment.path.read_text(encoding="utf-8")
    return result if same and set(result.table["cell"]) == {point.key for point in experiment.points()} else None


def refreshed(before: pd.DataFrame, experiments: Path, runs: Path, compare: bool = False) -> pd.DataFrame:
    """The kept table with the rows of every ``compare-*.yaml`` whose run is finished, or that is run, put anew.

    The rows of the others stay; those of experiments that are gone do not.

    Arguments:
        compare: whether to run what is not finished.
    """
    parts = []
    for path in sorted(experiments.glob("compare-*.yaml")):
        experiment = read(path)
        result = finished(experiment, runs)
        if result is None and compare:
            result = run(experiment, runs)
        parts.append(before[before["experiment"] == experiment.name] if result is None else kept(result))
    full = [part for part in parts if len(part)]
    return pd.concat(full, ignore_index=True)[KEPT] if full else pd.DataFrame(columns=KEPT)


def shown(comparisons: pd.DataFrame) -> list[tuple[str, Comparison]]:
    """What is shown of a kept table, each comparison with its experiment."""
    found, first = recalled(comparisons), dict[str, str]()
    for name, c in found:
        first.setdefault(name, c.metric)
    return [(name, c) for name, c in found if c.metric in (first[name], BESIDE)]


def picture_of(name: str, c: Comparison) -> str:
    """The file of a comparison's picture."""
    return re.sub(r"[^a-z0-9]+", "-", f"{name} {c.metric} {c.setting}".lower()).strip("-")


def beside(published: pd.DataFrame, c: Comparison) -> str:
    """Published values by sampler and budget, ours in brackets.

    Arguments:
        published: columns sampler, budget (per score) and value.
    """
    values, rows = published.set_index(["sampler", "budget"])["value"], []
    for name, wanted in ALIKE.items():
        pairs = [(float(values.get((name, float(b)), math.nan)), ours(c, wanted, b)) for b in PER_SCORE]
        rows.append((name, *(f"{number(theirs)} ({number(own)})" for theirs, own in pairs)))
    return table(("sampler, as published", *(f"{b:,} per score" for b in PER_SCORE)), rows)


def ours(c: Comparison, wanted: dict[str, Any], per_score: int) -> float:
    """The least mean of settings that have what is wanted, of those that spend about that much, down to half of it; NaN without one."""
    settings = {spec: json.loads(spec) for spec in c.runs["spec"].unique()}
    alike = [spec for spec, found in settings.items() if all(found.get(key) == value for key, value in wanted.items())]
    most = SLACK * STEPS * per_score
    rows = c.runs[c.runs["spec"].isin(alike) & (c.runs["evaluations"] <= most) & (c.runs["evaluations"] > most / 2)]
    return float(rows["measured"].min()) if len(rows) else math.nan
