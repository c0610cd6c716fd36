"""Effective sample size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import Unsupported
from ..laws.particles import Particles
from ..laws.propagate import Law
from ..targets.base import Target
from .base import Estimate, Metric
from .chains import chains, grouped

#: Fewest recorded laws whose halves have a correlation to sum.
LEAST = 10


@dataclass(frozen=True)
class ESS(Metric):
    """Bulk effective sample size of the recorded draws, the smallest over coordinates, in draws.

    ``ESS = M N / (1 + 2 sum_t rho_t)`` of rank-normalised draws of split chains, rho_t their autocorrelation (Geyer's sums)

    Particles are chains, at most the first 1000; the recorded laws up to this one, the start among them, are their draws.
    A draw is a recorded step: recording every tenth step thins by ten. Interval, 99 %: normal, from ten groups of chains,
    whose sizes add up, and how far the two halves of the record, added, are off, which shows most of the bias of short chains;
    [0, inf] below 40 chains. Floor: what independent draws score, their number.

    Cost: O(M N log N d).
    Errors: `Unsupported` without a trajectory of at least ten recorded laws, or where a coordinate never moves. In halves of
        fewer than five draws Geyer's sum has no term, and the size is ``M N log10(M N)`` whatever the chains.
    References: Vehtari, Gelman, Simpson, Carpenter, Buerkner, "Rank-normalization, folding, and localization: an improved
        R-hat for assessing convergence of MCMC" (2021), section 4, https://doi.org/10.1214/20-BA1221
        Geyer, "Practical Markov chain Monte Carlo" (1992), section 3.3, https://doi.org/10.1214/ss/1177011137
    """

    def sampled(self, p: Particles, target: Target) -> Estimate:
        raise Unsupported(f"{self.name} needs the trajectory: the recorded laws are its draws")

    def at(self, laws: Sequence[Law], i: int, target: Target) -> Estimate:
        draws = chains(self.name, laws[: i + 1], LEAST)
        sizes = np.array([ess(draws[:, :, j]) for j in range(draws.shape[2])])
        worst = int(sizes.argmin())
        value, s = float(sizes[worst]), grouped(draws[:, :, worst], ess, total=True)
        s += abs(value - sum(ess(half[:, :, worst]) for half in np.array_split(draws, 2, axis=1)))
        return Estimate(value, max(0.0, value - s), value + s, floor=float(draws.shape[0] * draws.shape[1]))


def ess(draws: np.ndarray) -> float:
    """Bulk effective sample size of one coordinate, shape (chains, draws)."""
    from arviz_stats.base import array_stats

    return float(array_stats.ess(draws, method="bulk"))
