"""The keys of an experiment file, the values they take, and how a wrong one is refused."""

from __future__ import annotations

import re
import typing
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from ..errors import InvalidInput
from .document import Document, Loc
from .ranges import Number, Spacing, geometric, linear, whole_steps
from .wording import came, culprit, suggest

if TYPE_CHECKING:
    from ..laws.normal import Normal

#: Points of a sweep, checkpoints of a run: more than this is a slip.
LIMIT = 100_000

Word = Literal["holds", "violated", "inconclusive", "not applicable"]
#: Squares of what is larger than this overflow.
LARGEST = 1e100
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-LARGEST, le=LARGEST)]
Positive = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """No unknown keys, no conversions but whole number to number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ComponentSpec(BaseModel):
    """A component's name; every other key is a parameter of its constructor."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    name: str

    @property
    def params(self) -> dict[str, Any]:
        """The parameters by name."""
        return dict(self.model_extra or {})


class TheoremSpec(BaseModel):
    """A theorem's id, what is expected of it, and a factor on its bound; every other key is a parameter of its own."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    id: str
    factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    expect: Word = "holds"

    @property
    def params(self) -> dict[str, Any]:
        """The parameters by name."""
        return dict(self.model_extra or {})


class Start(Strict):
    """The start N(mean, cov), or the target tilted.

    In `mean` a number stands for mean * ones, in `cov` for cov * I. A `tilt` b multiplies the target's density by
    exp(b (x_1 + ... + x_d)): its Renyi divergences from the target are finite wherever tails beat an exponential, which
    a Gaussian start's are not on a target with quartic tails.
    """

    mean: Finite | list[Finite] | None = None
    cov: Finite | list[Finite] | list[list[Finite]] | None = None
    tilt: Finite | None = None

    @model_validator(mode="after")
    def _check(self) -> Start:
        given = [name for name in ("mean", "cov", "tilt") if getattr(self, name) is not None]
        if given not in (["mean", "cov"], ["tilt"]):
            raise ValueError(f"must have mean and cov, or tilt alone, got {' and '.join(given) or 'none of them'}")
        return self

    def normal(self, dim: int) -> Normal:
        """The law in `dim` dimensions."""
        import numpy as np

        from ..laws.normal import Normal

        if len({len(row) for row in self.cov if isinstance(row, list)} if isinstance(self.cov, list) else ()) > 1:
            raise InvalidInput("cov must be a matrix, got rows of unequal lengths")
        mean, cov = np.asarray(self.mean, float), np.asarray(self.cov, float)
        mean = np.full(dim, mean) if mean.ndim == 0 else mean
        cov = cov * np.eye(dim) if cov.ndim == 0 else np.diag(cov) if cov.ndim == 1 else cov
        if mean.shape != (dim,):
            raise InvalidInput(f"mean must have the target's dimension {dim}, got {mean.size} numbers")
        if cov.shape != (dim, dim):
            raise InvalidInput(f"cov must be {dim} x {dim} like the target, got {' x '.join(map(str, cov.shape))}")
        if not np.allclose(cov, cov.T, rtol=1e-10) or np.linalg.eigvalsh(cov)[0] < -1e-12 * np.abs(cov).max():
            raise InvalidInput(f"cov must be symmetric and positive semidefinite, its smallest eigenvalue is {np.linalg.eigvalsh(cov)[0]:.6g}")
        return Normal(mean, cov)


class NormalLaw(Strict):
    """Mean and covariance, exact."""

    kind: Literal["normal"] = "normal"


class GridLaw(Strict):
    """A density on a mesh; nodes and box are chosen from the target, the start and the step where they are not given."""

    kind: Literal["grid"] = "grid"
    nodes: Annotated[int, Field(ge=5, le=20001)] | None = None
    box: Annotated[list[list[Finite]], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="after")
    def _check(self) -> GridLaw:
        if self.nodes is not None and self.nodes % 2 == 0:
            raise ValueError(f"nodes must be odd, got {self.nodes}")
        if self.box and (len(self.box[0]) != len(self.box[1]) or not all(a < b for a, b in zip(*self.box, strict=True))):
            raise ValueError(f"box must be two corners [[lo, ...], [hi, ...]] with lo < hi, got {self.box}")
        return self


class ParticlesLaw(Strict):
    """A sample of n particles, their precision and the device that they are on."""

    kind: Literal["particles"] = "particles"
    n: Annotated[int, Field(ge=2, le=10**8)] = 1000
    dtype: Literal["float64", "float32"] = "float64"
    device: Literal["cpu", "cuda"] = "cpu"


class CoupledLaw(Strict):
    """n pairs of chains: a coupling bounds the distance to the target from above.

    At lag 0 the second chain is stationary; with a lag L it is the first, L steps behind, and pairs that have not met after
    `horizon` steps are given up.
    """

    kind: Literal["coupled"] = "coupled"
    n: Annotated[int, Field(ge=2, le=10**8)] = 1000
    coupling: Literal["synchronous", "reflection"] = "synchronous"
    lag: Annotated[int, Field(ge=0, le=10**9)] = 0
    horizon: Annotated[int, Field(ge=1, le=10**9)] = 10_000


class Steps(Strict):
    """Checkpoints at equal ratios or distances."""

    last: Annotated[int, Field(ge=1, le=10**12)]
    first: Positive = 1
    count: Annotated[int, Field(ge=2, le=LIMIT)] = 20
    spacing: Spacing = "log"

    @model_validator(mode="after")
    def _check(self) -> Steps:
        if self.first >= self.last:
            raise ValueError(f"first must be below last, got {self.first} and {self.last}")
        return self


class Range(Strict):
    """Values of a sweep at equal ratios (`geometric`) or distances (`linear`), both ends included."""

    geometric: Annotated[list[Finite], Field(min_length=2, max_length=2)] | None = None
    linear: Annotated[list[Finite], Field(min_length=2, max_length=2)] | None = None
    count: Annotated[int, Field(ge=2, le=LIMIT)]

    @model_validator(mode="after")
    def _check(self) -> Range:
        if (self.geometric is None) == (self.linear is None):
            raise ValueError("give either geometric: [first, last] or linear: [first, last]")
        if self.geometric is not None and min(self.geometric) <= 0:
            raise ValueError(f"geometric must have positive ends, got {self.geometric}")
        if len({*(self.geometric or self.linear or ())}) < 2:
            raise ValueError("the two ends must differ")
        return self

    def values(self) -> list[Number]:
        """The values in order."""
        first, last = self.geometric or self.linear or (0.0, 1.0)  # one of the two is given
        return geometric(first, last, self.count) if self.geometric else linear(first, last, self.count)


Axis = Annotated[list[Any], Field(min_length=1)] | Range


class Sweep(Strict):
    """The product of `matrix` and of the lists in `zip` walked together, less `exclude`, plus `include`.

    Keys are paths (``sampler.step_size``, ``metrics.renyi.order``, ``theorems.0.factor``). An exclude removes every point
    that agrees with it on the keys it names. With neither matrix nor zip, the included points are all there are.
    """

    matrix: dict[str, Axis] = {}
    zip: dict[str, Axis] = {}
    include: list[dict[str, Any]] = []
    exclude: list[dict[str, Any]] = []


def _checkpoints(given: int | list[int] | Steps) -> tuple[int, ...]:
    if isinstance(given, Steps):
        return (0, *whole_steps(given.first, given.last, given.count, given.spacing))
    if (given if isinstance(given, int) else len(given)) > LIMIT:
        raise ValueError(f"at most {LIMIT} checkpoints, got {given if isinstance(given, int) else len(given)}; give {{last, count}} instead")
    return tuple(range(given + 1)) if isinstance(given, int) else tuple(sorted({0, *given}))


LAWS: dict[str, type[Strict]] = {"normal": NormalLaw, "grid": GridLaw, "particles": ParticlesLaw, "coupled": CoupledLaw}
Law = Annotated[
    Literal["normal", "grid", "particles", "coupled"] | Annotated[NormalLaw | GridLaw | ParticlesLaw | CoupledLaw, Field(discriminator="kind")],
    AfterValidator(lambda v: LAWS[v]() if isinstance(v, str) else v),
]
Component = Annotated[str | ComponentSpec, AfterValidator(lambda v: ComponentSpec(name=v) if isinstance(v, str) else v)]
TheoremEntry = Annotated[str | TheoremSpec, AfterValidator(lambda v: TheoremSpec(id=v) if isinstance(v, str) else v)]


class Schema(Strict):
    """An experiment file."""

    title: Annotated[str, Field(min_length=1)]
    claim: str = ""
    tier: Literal["smoke", "full"] = "full"
    target: Component
    sampler: Component
    start: Literal["target", "forward"] | Start
    law: Law
    steps: Annotated[Positive | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | Steps, AfterValidator(_checkpoints)]
    metrics: Annotated[list[Component], AfterValidator(tuple)] = []
    theorems: Annotated[list[TheoremEntry], AfterValidator(tuple)] = []
    sweep: Sweep = Sweep()
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]


FIELDS = {name: TypeAdapter(hint) for name, hint in typing.get_type_hints(Schema, include_extras=True).items() if name in Schema.model_fields}
SECTIONS = ("target", "sampler", "start", "law", "steps", "metrics", "theorems")

#: What pydantic's errors about types ask for.
_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def field(document: Document, name: str) -> Any:
    """The value of one key of the file, checked; its default where it is not given."""
    known = Schema.model_fields[name]
    if name not in document.data:
        if known.is_required():
            raise document.fail((), f"missing key {name!r}")
        return known.get_default() if name not in ("metrics", "theorems") else ()
    try:
        return FIELDS[name].validate_python(document.data[name], strict=True)
    except ValidationError as error:
        raise _refusal(document, name, error) from None


def _refusal(document: Document, name: str, error: ValidationError) -> InvalidInput:
    """The most telling of the errors of a section: an unknown key, else the deepest, else the one that is not about a type.

    pydantic reports one error per member of a union, and names the member in the location: these names are dropped.
    """
    found = []
    for e in error.errors():
        loc: Loc = (name,)
        here = document.data[name]
        for part in e["loc"]:
            if (isinstance(here, dict) and part in here) or (isinstance(here, list) and isinstance(part, int)):
                loc, here = (*loc, part), here[part]  # type: ignore[index]
        about_type = e["type"].endswith("_type") or e["type"] == "literal_error"
        found.append((e["type"] == "extra_forbidden", len(loc), not about_type, loc, here, e))
    unknown, _, special, loc, here, e = max(found, key=lambda f: f[:3])
    context = e.get("ctx", {})
    if unknown:
        models: dict[str, type[BaseModel]] = {"Start": Start, "Steps": Steps, "Range": Range, **LAWS}
        tags = [re.findall(r"\w+", part)[-1:] for part in e["loc"] if isinstance(part, str)]
        model = next((models[tag[0]] for tag in reversed(tags[:-1]) if tag and tag[0] in models), Sweep)
        return document.fail(loc, f"unknown key, accepted: {', '.join(model.model_fields)}{suggest(str(loc[-1]), model.model_fields)}", True)
    if e["type"] in ("missing", "union_tag_not_found"):
        return document.fail(loc, f"missing key {e['loc'][-1] if e['type'] == 'missing' else 'kind'!r}")
    if e["type"] == "value_error":
        message = str(context["error"])
        part = culprit(message, here) if isinstance(here, dict) else ""
        return document.fail((*loc, part) if part else loc, message.removeprefix(f"{part} "))
    if e["type"] == "union_tag_invalid":
        return document.fail((*loc, "kind"), f"must be one of {context['expected_tags']}, got {came(here['kind'])}{suggest(str(here['kind']), LAWS)}")
    if special:
        return document.fail(loc, f"{e['msg'].replace('Input should', 'must').replace('List should', 'must').split(' after')[0]}, got {came(here)}")
    same = [f[5] for f in found if f[3] == loc and not f[2]]
    wanted = dict.fromkeys(_WANTED.get(e["type"], e.get("ctx", {}).get("expected", e["msg"])) for e in same)
    words = re.findall("'([^']*)'", " ".join(wanted))
    return document.fail(loc, f"must be {' or '.join(wanted)}, got {came(here)}{suggest(here, words) if isinstance(here, str) else ''}")
