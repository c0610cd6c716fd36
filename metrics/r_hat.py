"""Potential scale reduction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import Unsupported
from ..laws.particles import Particles
from ..laws.propagate import Law
from ..samplers.noise import Stream
from ..targets.base import Target
from .base import Estimate, Metric
from .chains import chains, grouped


@dataclass(frozen=True)
class RHat(Metric):
    """Rank-normalised split R-hat of the recorded draws, the largest over coordinates: near 1 where chains agree.

    ``R-hat^2 = (N-1)/N + B / (N W)``, B and W the variances between and within halves of chains, of the ranks' normal scores
    and of those of the distances to the median; the larger of the two

    Particles are chains, at most the first 1000; the recorded laws up to this one, the start among them, are their draws.
    It sees chains that differ from each other or from their own first half, never a law that all of them miss. Interval,
    99 %: normal, from ten groups of chains; [0, inf] below 40 chains, or where a group stands still. Floor: what as many independent draws score.

    Cost: O(M N log(M N) d).
    Errors: `Unsupported` without a trajectory of at least four recorded laws, for a single chain, and where a coordinate never
        moves or has one value in all halves of chains.
    References: Vehtari, Gelman, Simpson, Carpenter, Buerkner, "Rank-normalization, folding, and localization: an improved
        R-hat for assessing convergence of MCMC" (2021), sections 3 and 4, https://doi.org/10.1214/20-BA1221
    """

    def sampled(self, p: Particles, target: Target) -> Estimate:
        raise Unsupported(f"{self.name} needs the trajectory: the recorded laws are its draws")

    def at(self, laws: Sequence[Law], i: int, target: Target) -> Estimate:
        draws = chains(self.name, laws[: i + 1])
        if len(draws) < 2:
            raise Unsupported(f"{self.name} compares chains and needs at least two particles, got {len(draws)}")
        values = np.array([r_hat(draws[:, :, j]) for j in range(draws.shape[2])])
        if np.isnan(values).any():
            raise Unsupported(f"{self.name} needs halves of chains that differ somewhere, and none do in coordinate {np.isnan(values).argmax()}")
        worst = int(values.argmax())
        value, s = float(values[worst]), grouped(draws[:, :, worst], r_hat, total=False)
        noise = Stream("r_hat", "floor").normal(draws.shape).numpy()
        floor = max(r_hat(noise[:, :, j]) for j in range(draws.shape[2]))
        return Estimate(value, max(0.0, value - s), value + s, floor=floor)


def r_hat(draws: np.ndarray) -> float:
    """R-hat of one coordinate, shape (chains, draws)."""
    from arviz_stats.base import array_stats

    with np.errstate(divide="ignore", invalid="ignore"):  # halves that stand still: inf, or NaN where all are at one place
        return float(array_stats.rhat(draws, method="rank"))
