"""What a metric is: a number between two laws, with its uncertainty, its floor and its side."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np

from ..errors import Diverged, InvalidInput, Unsupported
from ..laws.coupling import Coupled
from ..laws.grid import Grid
from ..laws.normal import Normal
from ..laws.particles import Particles
from ..laws.propagate import Law
from ..targets.base import Target

Side = Literal["lower", "exact", "upper"]


@dataclass(frozen=True)
class Estimate:
    """A measured value.

    Arguments:
        value: the number; inf where the divergence is infinite, never NaN.
        lower, upper: the interval: numerical error of an exact route, or a confidence interval of an estimator.
        floor: what exact draws of the same size score; 0 on exact routes.
        side: ``lower`` or ``upper`` where the value is a one-sided estimate of the metric, else ``exact``.
    """

    value: float
    lower: float
    upper: float
    floor: float = 0.0
    side: Side = "exact"

    def __post_init__(self) -> None:
        if np.isnan(self.value) or np.isnan(self.lower) or np.isnan(self.upper):
            raise ArithmeticError(f"a metric produced NaN: {self.value} in [{self.lower}, {self.upper}]")

    @classmethod
    def within(cls, value: float, error: float) -> Estimate:
        """An exact route's non-negative value with its numerical error."""
        value = max(0.0, float(value))
        if np.isinf(value):
            return cls(value, value, value)
        return cls(value, max(0.0, value - error), value + error)


class Metric(ABC):
    """A divergence or distance ``D(p, q)`` between laws; on (law, target) it is ``D(law || target)``.

    A concrete metric is a frozen dataclass, one per file; it overrides the hook of each kind of law on which it is
    defined. Both laws handed to a hook are of that kind.
    """

    version: ClassVar[int] = 1

    def normal(self, p: Normal, q: Normal) -> Estimate:
        """Between two Gaussians."""
        raise Unsupported(f"{self.name} has no closed form between Gaussians here")

    def grid(self, p: Grid, q: Grid) -> Estimate:
        """Between two densities on one mesh."""
        raise Unsupported(f"{self.name} is not defined on grid laws")

    def particles(self, p: Particles, q: Particles, floor: Particles) -> Estimate:
        """Between two samples; `floor` is a third sample, of the law of `q` and of the size of `p`."""
        raise Unsupported(f"{self.name} is not estimated from particles")

    def sampled(self, p: Particles, target: Target) -> Estimate:
        """Between a sample and a density. Default: against exact draws of the target."""
        reference, floor = (Particles.of_target(target, p.n, p.seed, key) for key in ("reference", "floor"))
        return self.particles(p, reference, floor)

    def coupled(self, p: Coupled, target: Target) -> Estimate:
        """From pairs of chains, an upper bound. Default: between the chain under study, as a sample, and the density."""
        return self.sampled(p.sample, target)

    def at(self, laws: Sequence[Law], i: int, target: Target) -> Estimate:
        """At `laws[i]`, the trajectory before it at hand. Default: of that law alone."""
        return self(laws[i], target)

    @property
    @final
    def name(self) -> str:
        """Name in a YAML: the module's."""
        return type(self).__module__.rsplit(".", 1)[-1]

    @final
    def between(self, p: Law, q: Law) -> Estimate:
        """``D(p || q)`` of two laws of one kind (grids on one mesh; of samples, q at least twice as large: half is the floor)."""
        if isinstance(p, Normal) and isinstance(q, Normal):
            return self.normal(p, q)
        if isinstance(p, Grid) and isinstance(q, Grid):
            if p.mesh != q.mesh:
                raise Unsupported("the two grid laws live on different meshes")
            return self.grid(p, q)
        if isinstance(p, Particles) and isinstance(q, Particles):
            if q.n < 2 * p.n:
                raise InvalidInput(f"the second sample must be at least twice as large as the first (half of it is the floor), got {q.n} for {p.n}")
            return self.particles(_whole(p), Particles(q.x[p.n :], q.seed), Particles(q.x[: p.n], q.seed))
        raise Unsupported(f"{self.name} between a {type(p).__name__} and a {type(q).__name__} law is not defined")

    @final
    def __call__(self, law: Law, target: Target) -> Estimate:
        """``D(law || target)``.

        Errors: `Diverged` for particles of which some have diverged: no metric is taken over survivors.
        """
        if isinstance(law, Particles):
            return self.sampled(_whole(law), target)
        if isinstance(law, Coupled):
            _whole(law.sample)
            return self.coupled(law, target)
        return self.between(law, reference_law(law, target))


def _whole(law: Particles) -> Particles:
    """The sample, if none of it has diverged."""
    if law.diverged > 0:
        raise Diverged(f"{law.diverged:.2%} of the particles diverged, the first at step {law.first_diverged}", law.first_diverged or 0, law.diverged)
    return law


def reference_law(law: Law, target: Target) -> Law:
    """The target as a law of the kind (and on the mesh) of `law`."""
    if isinstance(law, Grid):
        return Grid.of_target(target, law.mesh)
    if isinstance(law, Normal):
        if not target.is_gaussian or target.moments is None:
            raise Unsupported(f"{target.name} is not Gaussian, so a normal law has no closed-form distance to it; use law: grid")
        return Normal(*(moment.numpy() for moment in target.moments))
    return Particles.of_target(target, law.n, law.seed, "reference")
