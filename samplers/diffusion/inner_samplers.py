"""Any sampler that a step size suffices for as an inner one: which ones there are, their steps on a posterior, and what they cost."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, replace
from functools import lru_cache, partial
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import torch

from ...errors import InvalidInput, Unsupported
from ...targets.base import Batch, Constant, Target, Values
from ..base import Sampler
from ..noise import Noise, Probe
from ..scheduled import Scheduled
from .estimators import INNER, Draws, Plan, chains
from .posterior import Posterior

if TYPE_CHECKING:
    from ..rdmc import RDMC

#: The package whose modules are looked through: that of the samplers, without the folders in it.
PACKAGE = __name__.rsplit(".", 2)[0]
#: Rows of the trial.
ROWS = 2


class Chains(NamedTuple):
    """A sampler that may run inner chains; costs are (scores, potentials) per chain.

    kind: its class.
    step: of one step, as it declares.
    start: of its `init`, once.
    scored: whether its state carries the score where it stands, so that an identity need not compute it again.
    """

    kind: type[Sampler]
    step: tuple[float, float]
    start: tuple[int, int]
    scored: bool

    def scores(self, steps: int, identity: int) -> float:
        """Per chain of so many steps; `identity` is 1 where the average needs the score at the end."""
        return steps * self.step[0] + self.start[0] + identity * (not self.scored)

    def potentials(self, steps: int) -> float:
        """Per chain of so many steps."""
        return steps * self.step[1] + self.start[1]


class _Trial(Target):
    """N(0, 1), which counts the calls, and is given one row per particle as a posterior must be. No other capability than a posterior's."""

    def __init__(self) -> None:
        self.scores = self.potentials = 0

    @property
    def dim(self) -> int:
        return 1

    @property
    def constants(self) -> Mapping[str, Constant]:
        return {name: Constant(1.0, "exact", "the variance is 1") for name in ("m", "M")}

    def potential(self, x: Batch) -> Values:
        self.potentials += 1
        return 0.5 * (self._admitted(x) ** 2).sum(1)

    def score(self, x: Batch) -> Batch:
        self.scores += 1
        return -self._admitted(x)

    def _admitted(self, x: Batch) -> Batch:
        if len(x) != ROWS:
            raise Unsupported(f"a posterior is evaluated at one point per chain, got {len(x)} for {ROWS}")
        return x


@lru_cache(maxsize=128)
def known(name: str) -> Chains | None:
    """The sampler of this YAML name, tried on N(0, 1); None where there is none, or a step size does not suffice for it.

    What else it has must have defaults, which are kept; it is homogeneous in time, moves each particle by itself, evaluates its target at
    one point per particle, uses no more of it than potential and score, and its costs are the same on every target.
    """
    kind = _kind(importlib.import_module(f"{PACKAGE}.{name}")) if name in _modules() else None
    if kind is None or kind.interacts or issubclass(kind, Scheduled) or kind.evaluations is not Sampler.evaluations:
        return None
    given, needed = {f.name for f in fields(kind)}, {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}  # type: ignore[arg-type]
    if needed != {"step_size"} and given != {"scale"}:
        return None
    sampler, target, noise = built(kind, Plan(1, 0.5)), _Trial(), Probe(basis=False, given=0.5)
    try:
        sampler.admit(target)
        state = sampler.init(target, torch.ones((ROWS, 1), dtype=torch.float64), noise)
        start = target.scores, target.potentials
        state = sampler.step(target, state, noise)
    except (InvalidInput, Unsupported):
        return None
    score = getattr(state, "score", None)
    scored = score is not None and torch.equal(score, -state.x)
    return Chains(kind, (sampler.score_evaluations, sampler.potential_evaluations), start, scored)


def _modules() -> list[str]:
    return [info.name for info in pkgutil.iter_modules(importlib.import_module(PACKAGE).__path__) if not info.ispkg]


def _kind(module: ModuleType) -> type[Sampler] | None:
    """The one concrete sampler that a module defines."""
    for cls in vars(module).values():
        own = isinstance(cls, type) and cls.__module__ == module.__name__ and "__dataclass_fields__" in vars(cls) and cls.__name__[0] != "_"
        if own and issubclass(cls, Sampler) and not inspect.isabstract(cls):
            return cls
    return None


def others() -> list[str]:
    """The names beside those of `INNER`."""
    return [name for name in _modules() if name not in INNER and known(name) is not None]


def built(kind: type[Sampler], plan: Plan) -> Sampler:
    """The sampler with the plan's step h, the time of an overdamped diffusion; or sqrt(h), where its step is the time of a dynamics with a
    mass or a momentum, or a length (`scale`). A friction that is a number is in units of 1/sqrt(time scale); a critical one stays so.

    Ten leapfrog steps (hmc) turn the stiffest direction by ``10 sqrt(inner_step)``: a quarter of a period at 0.025; near a whole one, 0.39,
    chains end where they began.
    """
    names, h = {f.name for f in fields(kind)}, plan.step_size  # type: ignore[arg-type]
    if "step_size" not in names:
        return kind(scale=h**0.5)  # type: ignore[call-arg]
    sampler = kind(step_size=h)  # type: ignore[call-arg]
    if "mass" not in names and sampler.momentum is None:
        return sampler
    sampler = kind(step_size=h**0.5)  # type: ignore[call-arg]
    friction = getattr(sampler, "friction", None)
    return replace(sampler, friction=friction / plan.unit**0.5) if isinstance(friction, (int, float)) else sampler  # type: ignore[type-var]


def drawn(name: str) -> Callable[[Posterior, Plan, Noise], Draws]:
    """The inner sampler of this name."""
    found = None if name in INNER else known(name)
    return INNER[name] if found is None else partial(_run, found.kind)


def _run(kind: type[Sampler], q: Posterior, plan: Plan, noise: Noise) -> Draws:
    return chains(built(kind, plan), q, plan, noise)


def admit_name(name: str) -> None:
    """Raise one line unless there is an inner sampler of this name, or it is the oracle."""
    own = (*INNER, "oracle")
    if name not in own and known(name) is None:
        raise InvalidInput(f"inner must be one of {', '.join(own)}, or a sampler that a step size suffices for ({', '.join(others())}), got {name!r}")


def admit_inner(sampler: RDMC, target: Target) -> None:
    """Raise one line where its chains cannot run on the posterior at the horizon, the least curved of all: a critical friction needs m > 0."""
    found = None if sampler.inner in INNER else known(sampler.inner)
    if found is None:
        return
    q = sampler.posterior(target, 0, torch.zeros((1, target.dim), dtype=torch.float64))
    try:
        built(found.kind, sampler.plan(q, 0)).admit(q)
    except (InvalidInput, Unsupported) as error:
        raise type(error)(f"inner must not be {sampler.inner} on {target.name}: at the horizon, {error}") from error
