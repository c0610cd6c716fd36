"""Kernel Stein discrepancy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..errors import InvalidInput
from ..laws.particles import Particles
from ..targets.base import Target
from .base import Estimate, Metric
from .sampling import PAIRED, Quadratic, points, quadratic, squared_distances


@dataclass(frozen=True)
class KSD(Metric):
    """Kernel Stein discrepancy of the law from the target: needs the score alone, in 1/length.

    ``KSD(p, q)^2 = E h(X, X')``, X and X' independent of law p, s the score of q, ``u = c^2 + |x - y|^2``,
    ``h(x, y) = u^(-1/2) s(x).s(y) + u^(-3/2) (s(x) - s(y)).(x - y) + d u^(-3/2) - 3 u^(-5/2) |x - y|^2``

    the Stein kernel of the inverse multiquadric ``u^(-1/2)``. Particles: the square root of the U-statistic, clipped at 0,
    over the first 5000. Interval, 99 %: `Quadratic`. Floor: the root mean square score of exact draws, from the deviation
    of the U-statistic over a sample of them; where the target has none, from the law's own pairs, which is the deviation of
    the wild bootstrap, ``2 sum h_ij^2 / (n (n-1))^2``, and larger.

    Cost: O(min(n, 5000)^2 d), twice; 256 rows of the kernel matrix in memory.
    Arguments:
        scale: c > 0, in units of length: below it the kernel sees no detail.
    Errors: `InvalidInput` below 2 particles or where a score is not finite.
    References: Liu, Lee, Jordan, "A kernelized Stein discrepancy for goodness-of-fit tests" (2016), Theorem 3.6,
        https://arxiv.org/abs/1602.03253
        Chwialkowski, Strathmann, Gretton, "A kernel test of goodness of fit" (2016), https://arxiv.org/abs/1602.02964
        Gorham, Mackey, "Measuring sample quality with kernels" (2017), section 3, https://arxiv.org/abs/1703.01717
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise InvalidInput(f"scale must be positive and finite, got {self.scale}")

    def sampled(self, p: Particles, target: Target) -> Estimate:
        law = self._statistic(p, target)
        if "sample" in target.capabilities:
            n = min(p.n, PAIRED)
            return law.root(self._statistic(Particles.of_target(target, n, p.seed, "floor"), target).noise)
        return law.root(law.noise)

    def _statistic(self, p: Particles, target: Target) -> Quadratic:
        x = points(p, 2, target.dim)[:PAIRED]
        s = target.score(torch.as_tensor(x)).detach().numpy()
        if not np.isfinite(s).all():
            raise InvalidInput(f"the score of {target.name} is not finite at {int((~np.isfinite(s)).any(1).sum())} of {len(x)} particles")
        return stein(x, s, self.scale)


def stein(x: np.ndarray, s: np.ndarray, c: float) -> Quadratic:
    """The U-statistic of the Stein kernel at points x with scores s."""
    x = x - x.mean(0)  # differences are all that counts, and products of matrices lose digits far from the origin
    d, along = x.shape[1], (s * x).sum(1)

    def rows(lo: int, hi: int) -> np.ndarray:
        r2 = squared_distances(x[lo:hi], x)
        u = c * c + r2
        pull = along[lo:hi, None] + along[None, :] - s[lo:hi] @ x.T - x[lo:hi] @ s.T
        return np.asarray((s[lo:hi] @ s.T + (pull + d - 3 * r2 / u) / u) / np.sqrt(u))

    return quadratic(len(x), rows)
