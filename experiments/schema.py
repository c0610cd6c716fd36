"""One YAML, one claim: read, checked against the schema, and expanded into the points of its sweep.

Every error is one line, ``file:line:col: path: message``. `read` and `load` know the keys only; `validate` builds the
components, so that a misspelt parameter or a covariance that is not positive definite is found before anything runs.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..errors import InvalidInput, MixrateError
from .components import Kind, Where, build, names
from .document import Document, Loc, dotted
from .fields import (
    FIELDS,
    LIMIT,
    SECTIONS,
    ComponentSpec,
    CoupledLaw,
    GridLaw,
    NormalLaw,
    ParticlesLaw,
    Range,
    Schema,
    Start,
    Sweep,
    TheoremSpec,
    field,
)
from .ranges import plain
from .routes import check_route
from .wording import came, culprit, suggest

KINDS: dict[str, Kind] = {"target": "target", "sampler": "sampler", "metrics": "metric", "theorems": "theorem"}


@dataclass(frozen=True)
class Point:
    """The resolved settings of one point of a sweep, with one seed.

    Arguments:
        index: position in the sweep, from 0.
        sweep: the swept paths and their values here.
        steps: checkpoints, increasing, the first is 0.
        seed: key of all randomness.
        key: hash of all that determines the result: the same under another title, file name, key order or spelling of a number.
    """

    index: int
    sweep: dict[str, Any]
    target: ComponentSpec
    sampler: ComponentSpec
    start: Start | Literal["target", "forward"]
    law: NormalLaw | GridLaw | ParticlesLaw | CoupledLaw
    steps: tuple[int, ...]
    metrics: tuple[ComponentSpec, ...]
    theorems: tuple[TheoremSpec, ...]
    seed: int
    key: str


@dataclass(frozen=True)
class Experiment:
    """A checked experiment file.

    Arguments:
        path: the file.
        title, claim, tier: as written.
        resolved: each point with the places its values come from.
    """

    path: Path
    title: str
    claim: str
    tier: Literal["smoke", "full"]
    resolved: tuple[tuple[Point, Document], ...]

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    def points(self) -> list[Point]:
        """The points of the sweep times the seeds, in the order of the file."""
        return [point for point, _ in self.resolved]


def load(path: str | Path, overrides: Sequence[str] = ()) -> list[Experiment]:
    """The experiment in a file, or those in all ``*.yaml`` of a folder."""
    path = Path(path)
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    if not files:
        raise InvalidInput(f"{path}: there is no *.yaml in this folder")
    return [read(file, overrides) for file in files]


def read(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment in one file, with overrides ``sampler.step_size=0.1`` (values as in YAML) put in before it is checked."""
    document = Document.read(Path(path))
    if not isinstance(document.data, dict):
        got = "an empty file" if document.data is None else came(document.data)
        raise InvalidInput(f"{document.at(())}: an experiment is a mapping with title, target, sampler, start, law and steps, got {got}")
    for override in overrides:
        document = _override(document, override)
    for key in document.data:
        if key not in FIELDS:
            raise document.fail((key,), f"unknown key, an experiment has {', '.join(FIELDS)}{suggest(key, FIELDS)}", True)
    title, claim, tier, sweep, seeds = (field(document, name) for name in ("title", "claim", "tier", "sweep", "seeds"))
    if len(set(seeds)) < len(seeds):
        raise document.fail(("seeds",), f"must differ, got {seeds}")
    return Experiment(Path(path), title, claim, tier, tuple(_resolve(document, sweep, seeds)))


def validate(experiment: Experiment) -> None:
    """Build the components of every point, admit each target to its sampler and lay out each start.

    Errors: `InvalidInput` at the place of the offending value, the first one found.
    """
    done: set[str] = set()
    recent: dict[str, Any] = {}  # as large as a sweep's inner loop usually is

    def component(document: Document, loc: Loc, spec: ComponentSpec | TheoremSpec) -> Any:
        signature = f"{loc[0]} {_canonical(_plain(spec))}"
        if signature not in recent:
            if len(recent) >= 64:
                del recent[next(iter(recent))]
            name = spec.name if isinstance(spec, ComponentSpec) else spec.id
            recent[signature] = build(KINDS[str(loc[0])], name, spec.params, _where(document, loc))
        return recent[signature]

    def fresh(*parts: Any) -> bool:
        signature = _canonical([_plain(part) for part in parts])
        return not (signature in done or done.add(signature))  # type: ignore[func-returns-value]

    for point, document in experiment.resolved:
        if fresh("admit", point.target, point.sampler):
            target, sampler = component(document, ("target",), point.target), component(document, ("sampler",), point.sampler)
            _placed(document, ("sampler",), point.sampler.params, partial(sampler.admit, target))
        if fresh("start", point.target, point.start, point.law):
            dim = component(document, ("target",), point.target).dim
            if isinstance(point.start, Start) and point.start.tilt is None:
                _placed(document, ("start",), ("mean", "cov"), partial(point.start.normal, dim))
            box = point.law.box if isinstance(point.law, GridLaw) else None
            if isinstance(point.law, GridLaw) and (dim > 2 or (box and len(box[0]) != dim)):
                raise document.fail(("law", "box") if box else ("law",), f"a grid has the dimension of the target, which is {dim}, and at most 2")
        if fresh("route", point.target, point.sampler, point.law, point.start, point.steps):
            target, sampler = component(document, ("target",), point.target), component(document, ("sampler",), point.sampler)
            _placed(document, ("law",), ("device",), partial(check_route, point, target, sampler))
        for section in ("metrics", "theorems"):
            for i, spec in enumerate(getattr(point, section)):
                if fresh(section, spec):
                    component(document, (section, i), spec)


def json_schema() -> dict[str, Any]:
    """JSON Schema of an experiment file, for editors; the names of this installation are offered as examples."""
    schema = Schema.model_json_schema()
    for section, kind in KINDS.items():
        entry = schema["properties"][section]
        entry.get("items", entry)["examples"] = list(names(kind))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


# Sweeps.


class _Cell(NamedTuple):
    """A value of a sweep, and where its key and itself are written."""

    value: Any
    key: Loc
    at: Loc


def _resolve(document: Document, sweep: Sweep, seeds: list[int]) -> Iterator[tuple[Point, Document]]:
    shared: dict[str, tuple[Any, str]] = {}  # equal sections of different points are one object; with their canonical text
    seen: dict[str, dict[str, Any]] = {}
    for cells in _assignments(document, sweep, len(seeds)):
        values = {path: cell.value for path, cell in cells.items()}
        here, moved = document, {}
        for path, cell in sorted(cells.items(), key=lambda item: item[0].count(".")):  # whole sections before their parts
            try:
                if path.split(".")[0] not in SECTIONS:
                    raise InvalidInput(f"a sweep path begins with {', '.join(SECTIONS)}{suggest(path.split('.')[0], SECTIONS)}")
                loc = here.resolve(path)
                here, moved[loc] = here.put(loc, cell.value), (cell.key, cell.at)
            except InvalidInput as error:
                raise document.fail(cell.key, str(error), True) from None
        here = replace(here, moved=moved)
        sections: dict[str, Any] = {}
        texts: dict[str, str] = {}
        for name in SECTIONS:
            signature = f"{name} {json.dumps(here.data.get(name))}"
            if signature not in shared:
                value = field(here, name)
                shared[signature] = value, _canonical(_plain(value))
            sections[name], texts[name] = shared[signature]
        if not sections["metrics"] and not sections["theorems"]:
            raise here.fail((), "an experiment needs at least one entry in metrics or theorems")
        for seed in seeds:
            content = ",".join(f'"{name}":{text}' for name, text in sorted({**texts, "seed": str(seed)}.items()))  # canonical JSON of all
            key = hashlib.sha256(f"{{{content}}}".encode()).hexdigest()[:16]
            if key in seen:
                at = next((cell.at for cell in cells.values()), ("sweep",))
                raise document.fail(at, f"two points are the same: {seen[key]} and {values}")
            seen[key] = values
            yield Point(len(seen) - 1, values, seed=seed, key=key, **sections), replace(here, data=None)


def _assignments(document: Document, sweep: Sweep, seeds: int) -> list[dict[str, _Cell]]:
    """The swept cells of each point."""
    axes: list[list[dict[str, _Cell]]] = [[{path: cell} for cell in _cells("matrix", path, axis)] for path, axis in sweep.matrix.items()]
    together = {path: _cells("zip", path, axis) for path, axis in sweep.zip.items()}
    for path, cells in together.items():
        first, length = next((p, len(c)) for p, c in together.items())
        if path in sweep.matrix:
            raise document.fail(("sweep", "zip", path), "is in matrix too", True)
        if len(cells) != length:
            raise document.fail(("sweep", "zip", path), f"lists in zip walk together: {first} has {length} values, this one {len(cells)}")
    if together:
        axes.append([dict(zip(together, row, strict=True)) for row in zip(*together.values(), strict=True)])
    count = (math.prod(map(len, axes)) + len(sweep.include)) * seeds
    if count > LIMIT:
        raise document.fail(("sweep",), f"at most {LIMIT} points, got {count}", True)
    points = [{path: cell for part in parts for path, cell in part.items()} for parts in itertools.product(*axes)]
    if not axes and sweep.include:
        points = []
    for i, rule in enumerate(sweep.exclude):
        for path in rule:
            if path not in sweep.matrix and path not in sweep.zip:
                raise document.fail(("sweep", "exclude", i, path), f"is not swept{suggest(path, [*sweep.matrix, *sweep.zip])}", True)
        kept = [cells for cells in points if any(cells[path].value != value for path, value in rule.items())]
        if len(kept) == len(points):
            raise document.fail(("sweep", "exclude", i), "matches no point")
        points = kept
    for i, rule in enumerate(sweep.include):
        points.append({path: _Cell(value, at := ("sweep", "include", i, path), at) for path, value in rule.items()})
    if not points:
        raise document.fail(("sweep", "exclude"), "every point is excluded", True)
    return points


def _cells(part: str, path: str, axis: list[Any] | Range) -> list[_Cell]:
    key: Loc = ("sweep", part, path)
    if isinstance(axis, Range):
        return [_Cell(value, key, key) for value in axis.values()]
    return [_Cell(value, key, (*key, i)) for i, value in enumerate(axis)]


# Errors and their places.


def _override(document: Document, text: str) -> Document:
    path, equals, value = text.partition("=")
    name = f"override {text!r}"
    if not equals or not path:
        raise InvalidInput(f"{name}: must read path=value, for example sampler.step_size=0.1")
    if path.split(".")[0] not in FIELDS:
        raise InvalidInput(f"{name}: unknown path{suggest(path.split('.')[0], FIELDS)}")
    sweep = document.data.get("sweep")
    for part in ("matrix", "zip"):
        if isinstance(sweep, dict) and path in (sweep.get(part) or ()):
            raise InvalidInput(f"{name}: is swept in the file; override sweep.{part}.{path}, or drop the sweep with sweep={{}}")
    try:
        loc = document.resolve(path)
        kept = {at: mark for at, mark in document.marks.items() if at[: len(loc)] != loc}
        return document.put(loc, Document.parse(value, name).data, kept | {loc: (name, name)})
    except InvalidInput as error:
        raise InvalidInput(str(error) if str(error).startswith(name) else f"{name}: {error}") from None


def _where(document: Document, loc: Loc) -> Where:
    """Places of a component's parameters; of its name for what is about the whole of it."""

    def where(parameter: str, at_key: bool) -> str:
        name = "id" if loc[0] == "theorems" else "name"
        return f"{document.at((*loc, parameter or name), at_key)}: {dotted((*loc, parameter) if parameter else loc)}"

    return where


def _placed(document: Document, loc: Loc, parameters: Any, check: Callable[[], Any]) -> None:
    """Run a check whose message may begin with the name of a parameter, and place that message."""
    try:
        check()
    except MixrateError as error:
        parameter = culprit(str(error), parameters)
        raise InvalidInput(f"{_where(document, loc)(parameter, False)}: {str(error).removeprefix(f'{parameter} ')}") from error


def _plain(value: Any) -> Any:
    """Models as mappings without their empty entries, numbers in their one spelling."""
    if hasattr(value, "model_dump"):
        return {k: _plain(v) for k, v in value.model_dump(exclude_none=True).items()}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return plain(value) if isinstance(value, float) else value


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
