"""What a theorem is: hypotheses that are checked, a bound with its constants, a source, and a verdict."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal, final

import numpy as np

from ..errors import Unsupported
from ..laws.coupling import Coupled
from ..laws.grid import Grid
from ..laws.normal import Normal
from ..laws.propagate import Law, averages, propagate, stationary
from ..metrics.base import Estimate, Metric
from ..samplers.base import Sampler
from ..targets.base import Target
from .verdict import USELESS, Row, Verdict, judge_bound, judge_identity, judge_rate


@dataclass(frozen=True)
class Source:
    """Where a statement comes from.

    Arguments:
        where: the statement's number in the work.
        also: further works that state or sharpen it.
    """

    title: str
    authors: str
    year: int
    where: str
    link: str
    also: str = ""

    def __str__(self) -> str:
        extra = f"; also {self.also}" if self.also else ""
        return f"{self.authors}, “{self.title}” ({self.year}), {self.where}, {self.link}{extra}"


@dataclass(eq=False)
class Case:
    """One point of a sweep, propagated: what theorems are checked on.

    Arguments:
        target, sampler: the pair.
        steps: numbers of steps, increasing, starting with 0.
        laws: the law after each.
    """

    target: Target
    sampler: Sampler
    steps: tuple[int, ...]
    laws: list[Law]
    _measured: dict[str, list[Estimate]] = field(default_factory=dict)

    @property
    def start(self) -> Law:
        """The law at step 0."""
        return self.laws[0]

    @property
    def dim(self) -> int:
        """Dimension d of the space."""
        return self.target.dim

    @property
    def h(self) -> float:
        """Time of the diffusion that one step covers."""
        return self.sampler.time_step

    @property
    def k(self) -> np.ndarray:
        """Steps as floats, shape (len(steps),)."""
        return np.asarray(self.steps, float)

    @property
    def t(self) -> np.ndarray:
        """Times k h."""
        return self.k * self.h

    def has(self, name: str) -> bool:
        """Whether the target declares this constant."""
        return name in self.target.constants

    def constant(self, name: str) -> float:
        """A declared constant of the target; theorems ask only after their hypotheses passed."""
        value = self.target.constant(name)
        if value is None:
            raise Unsupported(f"{self.target.name} declares no {name}")
        return value

    def measure(self, metric: Metric) -> list[Estimate]:
        """``D(law || target)`` at every step; computed once per metric."""
        key = f"{metric.name}:{metric!r}"
        if key not in self._measured:
            self._measured[key] = [metric.at(self.laws, i, self.target) for i in range(len(self.laws))]
        return self._measured[key]

    def initial(self, metric: Metric) -> float:
        """The metric of the start, as it enters a bound: by its upper end, which makes the bound larger. Pairs that start at
        a Gaussian with a Gaussian target take the closed form: their coupling's distance would be compared with itself."""
        start = self.start
        if isinstance(start, Coupled) and start.origin is not None and self.target.is_gaussian:
            return metric(start.origin, self.target).upper
        return self.measure(metric)[0].upper

    @cached_property
    def stationary(self) -> Law:
        """The sampler's own stationary law."""
        return stationary(self.start, self.sampler, self.target)

    @cached_property
    def averages(self) -> list[Law]:
        """The average of the laws after steps 1..k, for each k >= 1 in `steps`."""
        return averages(self.start, self.sampler, self.target, [k for k in self.steps if k > 0])

    def onward(self, steps: int = 1) -> list[Law]:
        """Each law, `steps` steps later."""
        return [propagate(law, self.sampler, self.target, [steps])[0] for law in self.laws]

    @property
    def instrument(self) -> str:
        """A (affine law), G (grid law), P (particles) or C (pairs of coupled chains)."""
        kinds = ((Normal, "A"), (Grid, "G"), (Coupled, "C"))
        return next((letter for kind, letter in kinds if isinstance(self.start, kind)), "P")


class Theorem(ABC):
    """A statement with hypotheses. A concrete theorem is a frozen dataclass of its parameters.

    Class attributes:
        id: name in a YAML; default, the module's with hyphens.
        statement: the formula, in the notation of docs/notation.md.
        source: where it comes from.
        samplers: names of the samplers it speaks of; empty means any.
        instruments: letters of the laws it can be checked on.
    """

    version: ClassVar[int] = 1
    id: ClassVar[str] = ""
    statement: ClassVar[str]
    source: ClassVar[Source]
    samplers: ClassVar[tuple[str, ...]] = ()
    instruments: ClassVar[str] = "AG"
    kind: ClassVar[Literal["bound", "identity", "rate"]]
    quantity: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        if "id" not in cls.__dict__:
            cls.id = cls.__module__.rsplit(".", 1)[-1].replace("_", "-")

    @abstractmethod
    def hypotheses(self, case: Case) -> list[str]:
        """The hypotheses that `case` does not meet, in words; empty where all hold."""

    @abstractmethod
    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        """The comparisons on `case`; `factor` multiplies the stated side (a negative control has factor < 1)."""

    @abstractmethod
    def judge(self, rows: Sequence[Row]) -> Verdict:
        """The verdict over the rows of all cases of a sweep."""

    @final
    def unmet(self, case: Case) -> list[str]:
        """All unmet hypotheses, the choice of sampler and law included; and that the target passes its certificate, in short."""
        found = []
        if self.samplers and case.sampler.name not in self.samplers:
            found.append(f"speaks of {' or '.join(self.samplers)}, not of {case.sampler.name}")
        if case.instrument not in self.instruments:
            found.append(f"is checked on laws {'/'.join(self.instruments)}, got {case.instrument}")
        return found or self.hypotheses(case) or _objections(case.target)


class Bound(Theorem):
    """An upper bound on a metric along a trajectory."""

    kind = "bound"
    metric: ClassVar[Metric]

    @abstractmethod
    def bound(self, case: Case) -> np.ndarray:
        """The bound at every step of `case`, shape (len(steps),); NaN where the theorem says nothing."""

    def measured(self, case: Case) -> list[Estimate]:
        """What is bounded, at every step. Default: the metric of the last iterate."""
        return case.measure(self.metric)

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        bounds = self.bound(case) * factor
        return [
            Row.of(e, b, k=k, time=float(t), label=self.quantity or self.metric.name)
            for k, t, e, b in zip(case.steps, case.t, self.measured(case), bounds, strict=True)
            if k > 0 and not np.isnan(b)  # at k = 0 a bound that starts from the start says nothing
        ]

    def judge(self, rows: Sequence[Row]) -> Verdict:
        return judge_bound(rows)


class Identity(Theorem):
    """Two sides that agree.

    Class attributes:
        useless: measurement error, relative to the larger side, above which nothing is decided.
    """

    kind = "identity"
    useless: ClassVar[float] = USELESS

    def judge(self, rows: Sequence[Row]) -> Verdict:
        return judge_identity(rows, self.useless)


class Rate(Theorem):
    """A stated exponent against a fitted one.

    Class attributes:
        sense: whether the stated exponent is the exponent or a bound of it.
        correction: known order of the finite-size term, ``y ~ x^e (1 + b x^-correction)``; None: a power law where it is one.
    """

    kind = "rate"
    stated: ClassVar[float]
    sense: ClassVar[Literal["equal", "at most", "at least"]] = "equal"
    abscissa: ClassVar[str]
    correction: ClassVar[float | None] = None

    @abstractmethod
    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        """Pairs (x, y) of this case."""

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        return [Row.of(e, np.nan, x=x, label=self.quantity) for x, e in self.points(case)]

    def judge(self, rows: Sequence[Row]) -> Verdict:
        return judge_rate(rows, self.stated, self.sense, self.correction)


def _objections(target: Target) -> list[str]:
    """What the short certificate finds wrong with a target: no statement is checked on a density that is not what it says."""
    from .certificate.certify import objections

    return [f"the target passes its certificate; it fails in {objection}" for objection in objections(target)]


def needs(case: Case, **constants: str) -> list[str]:
    """Unmet hypotheses among declared constants: ``needs(case, m="strongly log-concave")`` also asks m > 0."""
    found = []
    for name, words in constants.items():
        value = case.target.constant(name)
        if value is None:
            found.append(f"{words} ({name}): {case.target.name} has no such constant")
        elif value <= 0:
            found.append(f"{words} ({name} > 0): {case.target.name} has {name} = {value:.6g}")
    return found


def step_at_most(case: Case, limit: float, formula: str) -> list[str]:
    """Unmet if the step size exceeds `limit`."""
    return [] if case.h <= limit * (1 + 1e-12) else [f"step_size at most {formula} = {limit:.6g}, got {case.h:.6g}"]


def with_step(sampler: Sampler, h: float) -> Sampler:
    """The same sampler at another step size."""
    return dataclasses.replace(sampler, step_size=h)  # type: ignore[type-var]
