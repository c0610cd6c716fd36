"""Chi-square divergence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..laws.grid import Grid
from ..laws.normal import Normal
from ..laws.particles import Particles
from ..targets.base import Target
from .base import Estimate, Metric
from .renyi import Renyi


@dataclass(frozen=True)
class Chi2(Metric):
    """Chi-square divergence of the law from the target, a pure number.

    ``chi2(p || q) = int (p - q)^2 / q dx = int p^2 / q dx - 1 = exp(R_2(p || q)) - 1``

    Normal and grid: ``expm1`` of the Renyi divergence of order 2, which neither loses digits near zero (on a grid it is
    the log1p of a sum of ``(p - q)^2 / q``) nor overflows before the result does. Particles: likewise, a lower value, with the interval's ends
    and the floor mapped.

    Cost: O(d^3); O(nodes); as `renyi`.
    Errors: those of `renyi`.
    References: Pearson, "On the criterion that a given system of deviations ..." (1900),
        https://doi.org/10.1080/14786440009463897
        van Erven, Harremoes, "Renyi divergence and Kullback-Leibler divergence" (2014), https://arxiv.org/abs/1206.2459
    """

    def normal(self, p: Normal, q: Normal) -> Estimate:
        return self._of(Renyi(2.0).normal(p, q))

    def grid(self, p: Grid, q: Grid) -> Estimate:
        return self._of(Renyi(2.0).grid(p, q))

    def sampled(self, p: Particles, target: Target) -> Estimate:
        return self._of(Renyi(2.0).sampled(p, target))

    def particles(self, p: Particles, q: Particles, floor: Particles) -> Estimate:
        return self._of(Renyi(2.0).particles(p, q, floor))

    def _of(self, renyi: Estimate) -> Estimate:
        with np.errstate(over="ignore"):  # beyond 1.8e308 the number is inf in double precision
            value, lower, upper, floor = (float(np.expm1(r)) for r in (renyi.value, renyi.lower, renyi.upper, renyi.floor))
        return Estimate(value, lower, upper, floor, renyi.side)
