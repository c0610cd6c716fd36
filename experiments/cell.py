"""One cell: a point of a sweep, propagated, measured and compared. What cannot be computed is a row that says why."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from ..errors import Diverged, MixrateError, Unsupported
from .components import build
from .result import COLUMNS
from .schema import CoupledLaw, GridLaw, ParticlesLaw, Point, Start


def run_point(point: Point, ticks: Callable[[int], None] | None = None) -> pd.DataFrame:
    """The rows of one cell. What cannot be computed is a row that says why; nothing is dropped.

    Arguments:
        ticks: told of particle-steps as they are done.
    """
    from ..laws.propagate import propagate
    from ..theory.base import Case

    began = time.perf_counter()
    rows: list[dict[str, Any]] = []
    target = build("target", point.target.name, point.target.params)
    sampler = build("sampler", point.sampler.name, point.sampler.params)
    metrics = [build("metric", m.name, m.params) for m in point.metrics]
    theorems = [(build("theorem", t.id, t.params), t.factor) for t in point.theorems]
    try:
        start = start_law(point, target, sampler)
    except FAILURES as error:
        rows += _everything(error, metrics, theorems)
    else:
        try:
            case = Case(target, sampler, point.steps, propagate(start, sampler, target, point.steps, ticks))
        except FAILURES as error:
            still = Case(target, sampler, (0,), [start])
            rows += [_note(error, "metric", -1, "", m.name) for m in metrics]
            rows += [_unpropagated(error, still, t, i) for i, (t, _) in enumerate(theorems)]
        else:
            for metric in metrics:
                rows += _metric_rows(case, metric)
            for i, (theorem, factor) in enumerate(theorems):
                rows += _theorem_rows(case, theorem, factor, i)
    seconds = time.perf_counter() - began
    common = {"cell": point.key, "index": point.index, "seed": point.seed, "seconds": seconds}
    frame = pd.DataFrame([{**dict.fromkeys(COLUMNS), **row, **common} for row in rows])
    # of a chain that has taken k steps; what a sampler evaluates where it starts, and then carries, is not counted
    scores, potentials = sampler.evaluations(target)
    frame["scores"], frame["potentials"] = frame["k"] * scores, frame["k"] * potentials
    return frame[list(COLUMNS)].astype(_TYPES)


#: What a cell may meet without taking the run down: it becomes a row with its reason. Anything else is a mistake in mixrate.
FAILURES = (MixrateError, ArithmeticError, MemoryError, np.linalg.LinAlgError, IndexError, ValueError, RuntimeError)


def _one_line(error: Exception) -> str:
    message = " ".join(str(error).split())
    return message if isinstance(error, MixrateError) else f"{type(error).__name__}: {message}"


_TYPES = {
    **dict.fromkeys(("x", "measured", "lower", "upper", "floor", "bound", "tolerance", "time", "scores", "potentials", "seconds"), "float64"),
    **dict.fromkeys(("index", "seed", "check", "k"), "int64"),
    **dict.fromkeys(("cell", "kind", "theorem", "quantity", "side", "instrument", "status", "note"), "str"),
}

_EMPTY = {
    "k": 0, "time": 0.0, "x": np.nan, "measured": np.nan, "lower": np.nan, "upper": np.nan, "floor": np.nan, "side": "exact", "bound": np.nan,
    "tolerance": 0.0, "instrument": "", "status": "ok", "note": "",
}  # fmt: skip


def start_law(point: Point, target: Any, sampler: Any) -> Any:
    """The start of a point as a law of its kind."""
    from ..laws.coupling import Coupled
    from ..laws.grid import Grid
    from ..laws.normal import Normal
    from ..laws.particles import Particles
    from ..laws.propagate import mesh_for

    if point.start == "forward":
        return _forward(point, target, sampler)
    tilt = (point.start.tilt or 0.0) if isinstance(point.start, Start) else 0.0
    normal = point.start.normal(target.dim) if isinstance(point.start, Start) and point.start.tilt is None else None
    if tilt and isinstance(point.law, (ParticlesLaw, CoupledLaw)):
        raise Unsupported("a tilted start has no exact draws; use law: grid, or normal on a Gaussian target")
    if isinstance(point.law, CoupledLaw):
        pairs = point.law
        return Coupled.starting("target" if normal is None else normal, target, pairs.n, point.seed, pairs.coupling, pairs.lag, pairs.horizon)
    if isinstance(point.law, ParticlesLaw):
        drawn = Particles.of_target(target, point.law.n, point.seed) if normal is None else Particles.of_normal(normal, point.law.n, point.seed)
        return drawn.to(point.law.dtype, point.law.device)
    if isinstance(point.law, GridLaw):
        mesh = mesh_for(target, sampler, normal, point.law.nodes, None if point.law.box is None else (point.law.box[0], point.law.box[1]))
        return Grid.of_target(target, mesh, tilt) if normal is None else Grid.of_normal(normal, mesh)
    if normal is not None:
        return normal
    if not target.is_gaussian or target.moments is None:
        raise Unsupported(f"this start with law: normal needs a Gaussian target, and {target.name} is not; use law: grid or particles")
    mean, cov = (moment.numpy() for moment in target.moments)
    return Normal(mean + tilt * cov.sum(1), cov)


def _forward(point: Point, target: Any, sampler: Any) -> Any:
    """The forward law at the horizon of a reverse sampler."""
    from ..laws.origin import grid_origin, normal_origin, particles_origin

    law = point.law
    if isinstance(law, CoupledLaw):
        raise Unsupported("start: forward is for normal, grid and particle laws, got coupled")
    if isinstance(law, ParticlesLaw):
        return particles_origin(sampler, target, law.n, point.seed).to(law.dtype, law.device)
    if isinstance(law, GridLaw):
        return grid_origin(sampler, target, law.nodes, None if law.box is None else (law.box[0], law.box[1]))
    return normal_origin(sampler, target)


def _everything(error: Exception, metrics: list[Any], theorems: list[tuple[Any, float]]) -> list[dict[str, Any]]:
    rows = [_note(error, "metric", -1, "", m.name) for m in metrics]
    return rows + [_note(error, t.kind, i, t.id, t.quantity) for i, (t, _) in enumerate(theorems)]


def _unpropagated(error: Exception, case: Any, theorem: Any, check: int) -> dict[str, Any]:
    """The row of a theorem on a law that could not be carried: not applicable where a hypothesis fails at the start already."""
    try:
        unmet = theorem.unmet(case)
    except FAILURES:
        unmet = []
    if unmet:
        return {**_EMPTY, "kind": theorem.kind, "check": check, "theorem": theorem.id, "status": "not applicable", "note": "; ".join(unmet)}
    return _note(error, theorem.kind, check, theorem.id, theorem.quantity)


def _note(error: Exception, kind: str, check: int, theorem: str, quantity: str) -> dict[str, Any]:
    row = {**_EMPTY, "kind": kind, "check": check, "theorem": theorem, "quantity": quantity, "note": _one_line(error)}
    if isinstance(error, Diverged):
        return row | {"status": "diverged", "k": error.step}
    return row | {"status": "unsupported"}


def _metric_rows(case: Any, metric: Any) -> list[dict[str, Any]]:
    rows = []
    for i, (k, t) in enumerate(zip(case.steps, case.t, strict=True)):
        try:
            e = metric.at(case.laws, i, case.target)
        except FAILURES as error:
            rows.append(_note(error, "metric", -1, "", metric.name) | {"k": k, "time": float(t), "instrument": case.instrument})
        else:
            values = {"measured": e.value, "lower": e.lower, "upper": e.upper, "floor": e.floor, "side": e.side}
            rows.append(
                {
                    **_EMPTY,
                    **values,
                    "kind": "metric",
                    "check": -1,
                    "theorem": "",
                    "quantity": _label(metric),
                    "k": k,
                    "time": float(t),
                    "instrument": case.instrument,
                }
            )
    return rows


def _label(component: Any) -> str:
    """A component's name with the parameters that are not at their defaults."""
    name = getattr(component, "id", "") or component.name
    changed = [f"{f.name}={getattr(component, f.name):g}" for f in dataclasses.fields(component) if getattr(component, f.name) != f.default]
    return f"{name}({', '.join(changed)})" if changed else name


def _theorem_rows(case: Any, theorem: Any, factor: float, check: int) -> list[dict[str, Any]]:
    head = {
        "kind": theorem.kind,
        "check": check,
        "theorem": theorem.id,
        "quantity": theorem.quantity,
        "instrument": getattr(theorem, "instrument", case.instrument),
    }
    try:
        unmet = theorem.unmet(case)
        if unmet:
            return [{**_EMPTY, **head, "status": "not applicable", "note": "; ".join(unmet)}]
        found = theorem.rows(case, factor)
    except FAILURES as error:
        return [_note(error, theorem.kind, check, theorem.id, theorem.quantity) | {"instrument": head["instrument"]}]
    rows = []
    for row in found:
        values = dataclasses.asdict(row)
        label = values.pop("label")
        rows.append({**_EMPTY, **head, **values, "quantity": label or theorem.quantity})
    return rows or [{**_EMPTY, **head, "status": "not applicable", "note": "no recorded step lies where the theorem says something"}]
