"""Error of the weights of a mixture's modes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from ..errors import Unsupported
from ..laws.particles import Particles
from ..targets.base import Target
from ..targets.gaussian_mixture import GaussianMixture
from .base import Estimate, Metric
from .sampling import LEVEL, frequencies, points

#: Exact draws that measure the masses of overlapping cells.
DRAWS = 100_000

#: Up to this probability of a draw in another component's cell, the cells' masses are the weights.
SEPARATE = 1e-4


@dataclass(frozen=True)
class ModeWeightError(Metric):
    """Total variation distance between the shares of a mixture's modes, in [0, 1]; a lower value of TV.

    ``1/2 sum_k |p(A_k) - q(A_k)|``, A_k the points for which component k has the largest responsibility

    Particles: shares of the sample. The masses q(A_k) are the weights where ``sum_{j<k} sqrt(w_j w_k) int sqrt(N_j N_k)``,
    which bounds the probability of a draw in another component's cell, is below 1e-4; else those of 100 000 exact draws.
    Either error is in the interval. Floor: exact, the mean under equality; interval, 99 % at any n: `frequencies`.

    Cost: O(n K d^2).
    Errors: `Unsupported` for targets that are no Gaussian mixtures.
    References: Bhattacharyya, "On a measure of divergence between two statistical populations ..." (1943), Bull. Calcutta
        Math. Soc. 35, for the overlap
    """

    def sampled(self, p: Particles, target: Target) -> Estimate:
        if not isinstance(target, GaussianMixture):
            raise Unsupported(f"{self.name} needs a gaussian_mixture, got {target.name}")
        counts = cells(points(p, dim=target.dim), target)
        masses, error = cell_masses(target, p.seed)
        return frequencies(counts, masses, error)


def cells(x: np.ndarray, target: GaussianMixture) -> np.ndarray:
    """How many points each component claims, shape (K,)."""
    logs = np.empty((len(target.weights), len(x)))
    for k, (weight, mean, cov) in enumerate(zip(target.weights.numpy(), target.means.numpy(), target.covs.numpy(), strict=True)):
        factor = np.linalg.cholesky(cov)
        z = linalg.solve_triangular(factor, (x - mean).T, lower=True)
        logs[k] = np.log(weight) - np.log(np.diag(factor)).sum() - 0.5 * (z * z).sum(0)
    return np.bincount(logs.argmax(0), minlength=len(logs))


def cell_masses(target: GaussianMixture, seed: int) -> tuple[np.ndarray, float]:
    """(q(A_k), bound on half the sum of their errors, 99 % where it is measured)."""
    bound = overlap(target)
    if bound <= SEPARATE:
        return target.weights.numpy(), bound
    counts = cells(Particles.of_target(target, DRAWS, seed, "cells").x.numpy(), target)
    # the mean of the error, and how far one draw's influence of 1/n lets it stray (see `frequencies`)
    stray = 0.5 * np.sqrt((len(counts) - 1) / DRAWS) + np.sqrt(np.log(1 / (1 - LEVEL)) / (2 * DRAWS))
    return counts / DRAWS, float(stray)


def overlap(target: GaussianMixture) -> float:
    """``sum_{j<k} sqrt(w_j w_k) int sqrt(N_j N_k)`` for Gaussian components."""
    w, mu, cov = target.weights.numpy(), target.means.numpy(), target.covs.numpy()
    total = 0.0
    for j in range(len(w)):
        for k in range(j + 1, len(w)):
            middle = (cov[j] + cov[k]) / 2
            shift = mu[j] - mu[k]
            dets = [np.linalg.slogdet(c)[1] for c in (middle, cov[j], cov[k])]
            total += float(np.sqrt(w[j] * w[k]) * np.exp(-shift @ np.linalg.solve(middle, shift) / 8 - (dets[0] - (dets[1] + dets[2]) / 2) / 2))
    return total
