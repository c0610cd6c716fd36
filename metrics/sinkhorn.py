"""Sinkhorn divergence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import InvalidInput, MixrateError, Unsupported
from ..laws.normal import Normal
from ..laws.particles import Particles
from .base import Estimate, Metric
from .transport import samples

#: Each problem keeps two n x m matrices: 0.4 GB here.
MOST_PAIRS = 5000 * 5000

#: L1 error of the marginals at which the iteration stops, and rounds of each temperature before it counts as failed.
TOLERANCE, ROUNDS = 1e-4, 5000


@dataclass(frozen=True)
class Sinkhorn(Metric):
    """Square root of the debiased entropic transport cost, in units of length: between W2 and a distance of means.

    ``S(p, q)^2 = T(p, q) - T(p, p)/2 - T(q, q)/2``, ``T(p, q) = min E|X - Y|^2 + eps KL(plan || p x q)``, ``eps = 2 blur^2``

    It vanishes only between equal laws; W2 as blur -> 0, |E X - E Y| as blur -> infinity. Its error on samples falls like
    n^-1/2 at any d, with a factor that grows as blur falls.
    Normal: closed form. Particles: Sinkhorn's iteration from blur = the extent of the samples down to `blur`, halving;
    ``T = mean f + mean g`` once the marginals agree to 1e-4 (T then to about 1e-6 eps: the error enters squared). Interval:
    ``[S - floor - 3 s, S + 3 s]``, s from the jackknife: the influence of a particle on S^2 is ``f_pq - f_pp``. It holds S of
    the laws with probability 0.997 or more.

    Cost: O(n^2) per iteration, 16 n m bytes.
    Arguments:
        blur: b > 0, a length: the plan spreads a point over about this distance.
    Errors: `Unsupported` above 5000 x 5000 pairs; `InvalidInput` for a blur that is not positive; `MixrateError` where the
        iteration does not converge; `Diverged` for particles that are not finite.
    References: Feydy, Sejourne, Vialard, Amari, Trouve, Peyre, "Interpolating between optimal transport and MMD using Sinkhorn
        divergences" (2019), Theorem 1, https://arxiv.org/abs/1810.08278
        Janati, Muzellec, Peyre, Cuturi, "Entropic optimal transport between unbalanced Gaussian measures has a closed form"
        (2020), Theorem 1, https://arxiv.org/abs/2006.02572
        Genevay, Chizat, Bach, Cuturi, Peyre, "Sample complexity of Sinkhorn divergences" (2019), https://arxiv.org/abs/1810.02733
    """

    blur: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 < self.blur < math.inf:
            raise InvalidInput(f"blur must be a positive number, got {self.blur}")

    def normal(self, p: Normal, q: Normal) -> Estimate:
        if p.dim != q.dim:
            raise InvalidInput(f"the two laws need one dimension, got {p.dim} and {q.dim}")
        terms = [_gaussian(a, b, self.blur) for a, b in ((p, q), (p, p), (q, q))]
        square = float(np.sum((p.mean - q.mean) ** 2)) + terms[0] - 0.5 * (terms[1] + terms[2])
        # the terms are traces and logarithms of size tr C + d blur^2, which cancel where the laws agree
        size = float(np.trace(p.cov) + np.trace(q.cov)) + p.dim * self.blur**2
        error = 1e-14 * p.dim * size
        value, lower, upper = (math.sqrt(max(0.0, s)) for s in (square, square - error, square + error))
        return Estimate(value, lower, upper)

    def particles(self, p: Particles, q: Particles, floor: Particles) -> Estimate:
        if max(p.n, q.n) ** 2 > MOST_PAIRS:
            raise Unsupported(f"sinkhorn holds all pairs in memory: at most {math.isqrt(MOST_PAIRS)} particles, got {max(p.n, q.n)}")
        (x, y, z), unit = samples(p, q, floor)
        eps = 2 * (self.blur / unit) ** 2
        if not 1e-12 < eps < 1e12:
            raise Unsupported(f"blur must be within 1e-6 and 1e6 of the extent of the samples, about {unit:g}, got {self.blur}")
        of_q = potentials(y, y, eps)
        square, variance = _divergence(x, y, of_q[0], eps)
        null, _ = _divergence(z, y, of_q[0], eps)
        value, least = math.sqrt(max(0.0, square)), math.sqrt(max(0.0, null))
        s = math.sqrt(variance) / (2 * value) if value > 0 else 0.0
        return Estimate(unit * value, unit * max(0.0, value - least - 3 * s), unit * (value + 3 * s), floor=unit * least)


def _divergence(x: np.ndarray, y: np.ndarray, own_q: np.ndarray, eps: float) -> tuple[float, float]:
    """(S^2, its variance) of two samples, given the potential of the second with itself."""
    f, g = potentials(x, y, eps)
    f, g = f - potentials(x, x, eps)[0], g - own_q
    return float(f.mean() + g.mean()), float(f.var() / len(x) + g.var() / len(y))


def potentials(x: np.ndarray, y: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """(f, g) of T, ``g_j = -eps log mean_i exp((f_i - |x_i - y_j|^2)/eps)`` exactly and the same for f nearly; f = g where y is x.

    ``T = mean f + mean g``: the error of f enters squared, as f nearly maximises it.
    """
    same = x is y
    cost = -2 * x @ y.T
    cost += (x**2).sum(1)[:, None]
    cost += (y**2).sum(1)
    np.maximum(cost, 0.0, out=cost)
    if same:
        np.fill_diagonal(cost, 0.0)
    work = np.empty_like(cost)
    f, temperature = np.zeros(len(x)), max(eps, float(cost.max()))
    while True:
        f = _at(cost, work, f, temperature, same, TOLERANCE if temperature == eps else 1e-2)
        if temperature == eps:
            g = _half_step(cost, work, f, eps)
            return (0.5 * (f + g),) * 2 if same else (f, g)
        temperature = max(eps, temperature / 4)  # eps = 2 blur^2: the blur halves


def _half_step(cost: np.ndarray, work: np.ndarray, f: np.ndarray, eps: float) -> np.ndarray:
    """``-eps log mean_i exp((f_i - cost_ij)/eps)``; exponents below -80 are cut, as they underflow at a tenth of the speed."""
    np.subtract(f[:, None], cost, out=work)
    work /= eps
    top = work.max(0)
    work -= top
    np.exp(np.maximum(work, -80.0, out=work), out=work)
    return np.asarray(-eps * (top + np.log(work.mean(0))))


def _at(cost: np.ndarray, work: np.ndarray, f: np.ndarray, eps: float, same: bool, tolerance: float) -> np.ndarray:
    """Sinkhorn's iteration at one temperature until the row marginals are off by at most `tolerance` in L1.

    The scaling form ``u = 1/(K v)`` runs on ``K = exp((f + g - cost)/eps)``; f and g are absorbed into K anew where u or v has
    moved far, before what is cut below exp(-80) could weigh. Where y is x, f = g, and u becomes the geometric mean of the old
    and the new one: no oscillation.
    """
    n, m = cost.shape
    rounds = 0
    while rounds < ROUNDS:
        g = _half_step(cost, work, f, eps)
        if same:
            f = g = 0.5 * (f + g)
        np.subtract(f[:, None] + g, cost, out=work)
        work /= eps
        np.exp(np.maximum(work, -80.0, out=work), out=work)
        u, v = np.ones(n), np.ones(m)
        while rounds < ROUNDS and min(u.min(), v.min()) > 1e-10 and max(u.max(), v.max()) < 1e10:
            rounds += 1
            reached = work @ v / m
            off = float(np.abs(u * reached - 1).mean())
            if off <= tolerance:
                return np.asarray(f + eps * np.log(u))
            u = np.sqrt(u / reached) if same else 1 / reached
            v = u if same else 1 / (work.T @ u / n)
        f = f + eps * np.log(u)
    raise MixrateError(f"Sinkhorn's iteration needs more than {ROUNDS} rounds on {n} x {m} points (marginals off by {off:.1e}): take a larger blur")


def _gaussian(p: Normal, q: Normal, blur: float) -> float:
    """``T`` of centred Gaussians: ``tr A + tr B - tr D + d b^2 (1 - log 2 b^2) + b^2 log det(D + b^2 I)``, ``D = (4 A^1/2 B A^1/2 + b^4 I)^1/2``."""
    w, basis = np.linalg.eigh(p.cov)
    root = (basis * np.sqrt(np.maximum(w, 0.0))) @ basis.T
    mixed = np.maximum(np.linalg.eigvalsh(root @ q.cov @ root), 0.0)
    square = blur**2
    d = np.sqrt(4 * mixed + square**2)
    return float(np.trace(p.cov) + np.trace(q.cov) + np.sum(-d + square - square * np.log(2 * square) + square * np.log(d + square)))
