"""Order in the step size of the randomized midpoint: of its coupling with the diffusion, and of its variance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..laws.moments import Coordinates, pair, settled
from ..laws.normal import Normal
from ..metrics.base import Estimate
from ..samplers.randomized_midpoint import RandomizedMidpoint
from .base import Case, Rate, Source
from .rate_kinetic import SHEN
from .verdict import Row, Verdict, judge_rate


@dataclass(frozen=True)
class _Order(Rate):
    """On Gaussian targets, from the second moments of the stationary pair (chain, diffusion) of `laws/moments.py`: no sampling
    error, and the chain's law itself, a mixture over its uniform numbers, is not needed.

    Arguments:
        claimed: None: the stated order. Else another one, a negative control.
    """

    samplers: ClassVar[tuple[str, ...]] = ("randomized_midpoint",)
    instruments: ClassVar[str] = "AP"
    abscissa: ClassVar[str] = "step size h"

    claimed: float | None = None

    @property
    def instrument(self) -> str:
        """Affine maps given the uniform numbers, whatever law the case carries."""
        return "A"

    def hypotheses(self, case: Case) -> list[str]:
        return [] if case.target.is_gaussian else ["the target is Gaussian"]

    def stationary(self, case: Case) -> tuple[float, float]:
        """(``E|X - X*|^2``, ``sum_i |Var X_i - Var X*_i|``)."""
        square = variance = 0.0
        d, sampler = case.dim, settled(case.sampler, case.target)
        for curvature in Coordinates.of(case.target, Normal(np.zeros(d), np.eye(d))).curvatures:
            one = pair(sampler, float(curvature))
            moments = one.step.stationary().mean
            square += one.square(moments)
            variance += abs(one.variance(moments) - 1.0 / float(curvature))
        return square, variance

    def judge(self, rows: Sequence[Row]) -> Verdict:
        return judge_rate(rows, self.stated if self.claimed is None else self.claimed, self.sense, self.correction)


@dataclass(frozen=True)
class OrderMidpoint(_Order):
    """``(E|X - X*|^2)^(1/2) ~ h^(3/2)`` for the stationary chain X and the diffusion X*, coupled step by step: an upper value of
    W2(pi_h, pi), and what the theorem bounds."""

    id: ClassVar[str] = "rate-midpoint-coupling"
    statement: ClassVar[str] = "randomized midpoint: E|X - X*|^2 of the coupling with the diffusion ~ h^3, its root ~ h^(3/2)"
    source: ClassVar = SHEN
    stated: ClassVar[float] = 1.5
    correction: ClassVar[float | None] = -1.0
    abscissa: ClassVar[str] = "step in units of the fastest oscillation, h sqrt(M/mass)"
    quantity: ClassVar[str] = "distance of the coupling"

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        value = self.stationary(case)[0] ** 0.5
        assert isinstance(case.sampler, RandomizedMidpoint)
        return [(case.h * (case.constant("M") / case.sampler.mass) ** 0.5, Estimate(value, value * (1 - 1e-9), value * (1 + 1e-9), side="upper"))]


@dataclass(frozen=True)
class OrderMidpointVariance(_Order):
    """``|Var X - Var X*| ~ h^3``: on a coordinate of curvature l the variance is ``1/l + l h^3/(24 gamma M^2) + O(h^4)``, twice the
    order that the coupling lets one expect. Given the midpoint the force is off by a term of mean zero over the uniform number."""

    id: ClassVar[str] = "rate-midpoint-variance"
    statement: ClassVar[str] = "randomized midpoint on a Gaussian: Var X - 1/l = l h^3/(24 gamma mass^2) + O(h^4)"
    source: ClassVar = Source(
        "Langevin Monte Carlo for strongly log-concave distributions: randomized midpoint revisited",
        "Yu, Karagulyan, Dalalyan",
        2023,
        "the algorithm; the order by the expansion in samplers/randomized_midpoint.py",
        "https://arxiv.org/abs/2306.08494",
    )
    stated: ClassVar[float] = 3.0
    quantity: ClassVar[str] = "bias of the variance"

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        return [(case.h, Estimate.within(self.stationary(case)[1], 1e-14))]
