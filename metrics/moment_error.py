"""Errors of the mean and the covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import linalg

from ..errors import InvalidInput, Unsupported
from ..laws.grid import Grid
from ..laws.normal import Normal
from ..laws.particles import Particles
from ..targets.base import Target
from .base import Estimate, Metric
from .numerics import EPS, inverse_norm
from .sampling import Z, points


@dataclass(frozen=True)
class MomentError(Metric):
    """Errors of the law's mean and covariance, in the units of the target's: pure numbers.

    ``delta = L^-1 (m_p - m_q)``, ``E = L^-1 (C_p - C_q) L^-T``, ``C_q = L L^T``; mean: ``|delta|``, covariance:
    ``||E||_F / sqrt(2)``, both: ``sqrt(|delta|^2 + ||E||_F^2 / 2)``, which is ``sqrt(2 KL)`` between near Gaussians

    In d = 1: how many standard deviations the mean is off, and the relative error of the variance over sqrt(2). Normal and
    grid: closed form. Particles: sample mean and covariance (n - 1) against the target's moments. Floor: the root mean
    square score of exact draws, ``sqrt(tr Cov(phi) / n)`` with ``phi = (z, (z z^T - I) / sqrt(2))``, z a standardised draw;
    the spread of phi from exact draws, or from the law where there are none. Interval, 99 %: ``[v - f - 2.58 s, v + 2.58 s]``,
    s the deviation of phi along the error found, f the law's own ``sqrt(tr Cov(phi) / n)``: noise adds at most f on average.

    Cost: O(d^3); O(nodes); O(n d^2).
    Arguments:
        moment: mean, covariance, or both.
    Errors: `Unsupported` where the target's moments are not known; `InvalidInput` where the target's covariance is singular,
        and below 2 particles.
    References: Anderson, "An introduction to multivariate statistical analysis" (2003), section 3.4 (moments of sample moments)
    """

    moment: Literal["both", "mean", "covariance"] = "both"

    def __post_init__(self) -> None:
        if self.moment not in ("both", "mean", "covariance"):
            raise InvalidInput(f"moment must be both, mean or covariance, got {self.moment}")

    def normal(self, p: Normal, q: Normal) -> Estimate:
        if p.dim != q.dim:
            raise InvalidInput(f"the two laws need one dimension, got {p.dim} and {q.dim}")
        norm = inverse_norm(q)
        if np.isinf(norm):
            raise InvalidInput("the target's covariance is singular: errors have no unit along its null space")
        delta, e = standardised(p, q)
        value = self._norm(delta, e)
        # differences of the stored moments are exact to their own rounding, a triangular solve to norm^2 eps
        rounding = 4 * EPS * norm**2
        size = np.sqrt(np.diag(p.cov)) + np.sqrt(np.diag(q.cov)) + np.abs(p.mean) + np.abs(q.mean)
        stored = EPS * float(np.linalg.norm(size / np.sqrt(np.diag(q.cov)))) * norm
        return Estimate.within(value, rounding * value + (0.0 if np.array_equal(p.mean, q.mean) and np.array_equal(p.cov, q.cov) else stored))

    def grid(self, p: Grid, q: Grid) -> Estimate:
        value = self.normal(p.moments, q.moments)
        # a mass e out of place in the box moves a mean by e times its diagonal, and second moments by its square
        reach = float(np.linalg.norm(np.asarray(p.mesh.hi) - np.asarray(p.mesh.lo))) / np.sqrt(float(np.linalg.eigvalsh(q.moments.cov)[0]))
        return Estimate.within(value.value, value.upper - value.value + (p.error + q.error) * (reach + 2 * reach**2))

    def particles(self, p: Particles, q: Particles, floor: Particles) -> Estimate:
        y = points(q, p.dim + 2, p.dim)
        moments = Normal(y.mean(0), np.atleast_2d(np.cov(y.T)))
        return self._sample(points(p, 2), moments, points(floor, 2), 1 / len(y))

    def sampled(self, p: Particles, target: Target) -> Estimate:
        if target.moments is None:
            raise Unsupported(f"{target.name} declares no moments")
        x = points(p, 2, target.dim)
        exact = points(Particles.of_target(target, p.n, p.seed, "floor")) if "sample" in target.capabilities else x
        return self._sample(x, Normal(*(m.numpy() for m in target.moments)), exact, 0.0)

    def _sample(self, x: np.ndarray, q: Normal, exact: np.ndarray, other: float) -> Estimate:
        """Arguments: other: 1/m where q's moments are those of m draws."""
        if np.isinf(inverse_norm(q)):
            raise InvalidInput("the target's covariance is singular: errors have no unit along its null space")
        own = Normal(x.mean(0), np.atleast_2d(np.cov(x.T)))
        delta, e = standardised(own, q)
        value = self._norm(delta, e)
        n = len(x)
        f, floor = (np.sqrt(self._spread(linalg.solve_triangular(q.factor, (s - s.mean(0)).T, lower=True).T)) for s in (x, exact))
        z = linalg.solve_triangular(q.factor, (x - own.mean).T, lower=True).T
        along = z @ (delta * (self.moment != "covariance")) + 0.5 * (z @ (e * (self.moment != "mean")) * z).sum(1)
        s = float(along.std()) / max(value, 1e-300) if value > 0 else 0.0
        scale = np.sqrt(1 / n + other)
        low, high = value - scale * (f + Z * s), value + scale * Z * s
        return Estimate(value, max(0.0, float(low)), float(high), floor=float(floor * scale))

    def _norm(self, delta: np.ndarray, e: np.ndarray) -> float:
        mean, cov = float(np.linalg.norm(delta)), float(np.linalg.norm(e)) / np.sqrt(2)
        return {"mean": mean, "covariance": float(cov), "both": float(np.hypot(mean, cov))}[self.moment]

    def _spread(self, z: np.ndarray) -> float:
        """``tr Cov(phi)`` over centred draws: ``E|z|^2`` and ``(E|z|^4 - ||E z z^T||_F^2) / 2``."""
        mean, cov = float((z * z).sum(1).mean()), float(((z * z).sum(1) ** 2).mean() - (((z.T @ z) / len(z)) ** 2).sum()) / 2
        return {"mean": mean, "covariance": cov, "both": mean + cov}[self.moment]


def standardised(p: Normal, q: Normal) -> tuple[np.ndarray, np.ndarray]:
    """(delta, E) of the class's formula."""
    half = linalg.solve_triangular(q.factor, p.cov - q.cov, lower=True)
    return linalg.solve_triangular(q.factor, p.mean - q.mean, lower=True), linalg.solve_triangular(q.factor, half.T, lower=True)
