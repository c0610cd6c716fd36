"""Nearest neighbours: densities at the points of a sample, their bias constants, and how they scatter.

With rho the distance from x_i to its k-th neighbour among the n - 1 other draws of p, and V_d the volume of the unit ball,
the mass ``u = p V_d rho^d`` of that ball is Beta(k, n - k) where p is constant on it (Beta(k, m - k + 1) among m draws of
another law). So ``E log u = psi(k) - psi(n)`` and ``E u^s = Gamma(k + s) Gamma(n) / (Gamma(k) Gamma(n + s))``, s > -k: every
constant below follows from these two, at finite n.

References: Kozachenko, Leonenko, "Sample estimate of the entropy of a random vector" (1987), Problems Inform. Transmission 23
    Singh, Misra, Hnizdo, Fedorowicz, Demchuk, "Nearest neighbor estimates of entropy" (2003), https://doi.org/10.1080/01966324.2003.10737616
    Leonenko, Pronzato, Savani, "A class of Renyi information estimators for multidimensional densities" (2008), section 3,
    https://doi.org/10.1214/07-AOS539
    Wang, Kulkarni, Verdu, "Divergence estimation for multidimensional densities via k-nearest-neighbor distances" (2009),
    https://doi.org/10.1109/TIT.2009.2016060
    Poczos, Schneider, "On the estimation of alpha-divergences" (2011), https://proceedings.mlr.press/v15/poczos11a.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special
from scipy.linalg import solve_triangular

from ..errors import InvalidInput, Unsupported
from ..laws.particles import Particles
from ..targets.base import Target
from .base import Estimate, Side
from .sampling import Z, common, energies, points

#: Which neighbour: the scatter of a logarithm falls like 1/k and the bias grows like (k/n)^(2/d).
K = 4

#: Above this dimension a tree visits nearly every point, and a blocked product of matrices is faster.
TREE = 8

#: The neighbour that shows whether balls are narrow enough is so many times farther in rank.
WIDER = 4

#: Two samples alone show KL up to here; above, the ratio of two distances shrinks to 1: 0.09 for 0.22 at d = 5, n = 8000.
PAIR_DIMENSION = 2

#: Least shares of the sample and of the target, where the potential is largest, that `Density.renyi` lumps into one cell.
TAILS = 0.05, 0.01


class Measured(NamedTuple):
    """A raw estimate, of either sign, and its deviation."""

    value: float
    deviation: float


@dataclass(frozen=True)
class Density:
    """What is known of p against a target's density at the draws of p.

    Arguments:
        logs: ``log u_i``, ``u_i = V_d rho_i^d exp(-V(x_i)) / Z``, shape (n,); -inf where V is infinite.
        potential: V(x_i), shape (n,).
        gaussian: minus the log density of the Gaussian with the sample's moments, up to a constant, shape (n,).
        k: which neighbour.
        wider: what log u_i grows by, less what it should, at the farther of the two neighbours that `resolves` compares, shape (n,).
    """

    logs: np.ndarray
    potential: np.ndarray
    gaussian: np.ndarray
    k: int
    wider: np.ndarray

    def resolves(self, zero: Density) -> bool:
        """Whether wider balls show the density of p as those of the k-th neighbour do, beside exact draws and within noise, 99 %;
        variances are counted twice, for the balls overlap (see `kl`).

        Balls wider than the structure of a law flatten it, and the divergence is then too low: at n = 1000, d = 2, it is 4.61 for
        5.12 on a parabola of width 0.01; in d = 10, 15.3 for 20.7 on five clusters of width 0.1.
        """
        (a, s), (b, t) = ((x.mean(), x.std() / np.sqrt(len(x))) for x in (self.wider, zero.wider))
        return bool(abs(a - b) <= Z * np.sqrt(2) * np.hypot(s, t))

    def kl(self) -> Measured:
        """``E_p log p/q``: the mean of ``psi(k) - psi(n) - log u_i``.

        Measured on uniform draws of a torus, d = 1 to 5: neighbouring balls overlap, so that n times the variance of a mean
        of ``log u`` is 1.2 to 2.0 times that of one, psi'(k), which is therefore counted twice. In high d wide balls flatten
        log p and the terms scatter too little: the Gaussian's log ratio then stands in for the part that is smooth.
        """
        n, terms = len(self.logs), log_mean(self.k, len(self.logs)) - self.logs
        if np.isinf(terms).any():
            return Measured(np.inf, 0.0)
        smooth = np.stack([np.ones(n), self.gaussian, self.potential], axis=1)
        rest = terms - smooth @ np.linalg.lstsq(smooth, terms, rcond=None)[0]
        variance = max(float(terms.var()), float((self.potential - self.gaussian).var() + rest.var())) + special.polygamma(1, self.k)
        return Measured(float(terms.mean()), float(np.sqrt(variance / n)))

    def renyi(self, a: float, level: float, outside: float, draws: int) -> Measured:
        """The divergence of order a after everything where V > level has become one cell, which can only lower it:
        ``1/(a-1) log [mean_{V_i <= level} u_i^(1-a) / c + P^a outside^(1-a)]``, P the share of the sample beyond the level.

        Without the cell the tails decide, where points are few and balls are wide. At a = 2, N(1/2, 1.3) against N(0, 1),
        n = 1000: deviation 0.66 about 0.40. At a = 1/2, N(0, I/2) against N(0, I), d = 5, n = 400: 0.50 for 0.29.

        Arguments:
            outside: mass of the target beyond the level.
            draws: number of exact draws beyond the level from which it is known.
        """
        n, s, inside = len(self.logs), 1 - a, self.potential <= level
        logs = np.where(inside, s * self.logs - log_power(self.k, n, s), -np.inf)
        share = 1 - float(inside.mean())
        cell = share**a * outside**s if share > 0 else 0.0
        peak = max(float(logs.max()), float(np.log(cell)) if cell > 0 else -np.inf)
        terms, cell = np.exp(logs - peak), cell * np.exp(-peak)
        total = float(terms.mean()) + cell
        influence = terms + np.where(inside, 0.0, a * cell / share if share > 0 else 0.0)
        # share of a squared term that is the scatter of its own ball, counted twice as above
        local = 1 - np.exp(2 * log_power(self.k, n, s) - log_power(self.k, n, 2 * s))
        variance = (float(influence.var()) + local * float((terms**2).mean())) / n + (s * cell) ** 2 / draws
        return Measured((float(np.log(total)) + peak) / (a - 1), float(np.sqrt(variance)) / total / abs(a - 1))


def log_mean(k: int, n: int) -> float:
    """``E log u`` for u ~ Beta(k, n - k)."""
    return float(special.psi(k) - special.psi(n))


def log_power(k: int, n: int, s: float) -> float:
    """``log E u^s`` for u ~ Beta(k, n - k), s > -k."""
    return float(special.gammaln(k + s) + special.gammaln(n) - special.gammaln(k) - special.gammaln(n + s))


def log_ball(d: int) -> float:
    """Log of the volume of the unit ball."""
    return float(0.5 * d * np.log(np.pi) - special.gammaln(0.5 * d + 1))


def against_density(p: Particles, target: Target, k: int, log_z: float) -> Density:
    """The draws of p against the target's density.

    Distances are taken in the coordinates where the sample's covariance is I: the estimate is then the same after any
    affine change of coordinates, and a badly conditioned law costs nothing.

    Cost: a k-d tree up to d = 8, O(n log n) at small d; above, O(n^2 d) in blocks. Never n x n numbers at once.
    Errors: `InvalidInput` below max(k, d) + 2 particles, and where some coincide or lie on a hyperplane: their law then has
        no density. `Diverged` as in `points`.
    """
    x = distinct(points(p, max(k, p.dim) + 2, target.dim))
    factor, far = whitening(x), min(WIDER * k, p.n - 1)
    z = solve_triangular(factor, (x - x.mean(0)).T, lower=True).T
    distances, _ = nearest(z, z, far, itself=True)
    rho = distances[:, k - 1]
    potential = energies(x, target)
    log_volume = log_ball(p.dim) + p.dim * np.log(rho) + float(np.log(np.diag(factor)).sum())
    wider = p.dim * (np.log(distances[:, -1]) - np.log(rho)) + log_mean(k, p.n) - log_mean(far, p.n)
    return Density(log_volume - potential - log_z, potential, 0.5 * (z * z).sum(1), k, wider)


def against_sample(p: Particles, q: Particles, k: int = K) -> Measured:
    """``E_p log p/q``, q seen through a sample: the mean of ``d log(nu_i/rho_i) + psi(m+1) - psi(n)``, nu_i the distance of
    x_i to the k-th neighbour among the m draws of q.

    A draw of q acts through the lists of neighbours that it is in, whose counts give the variance that they bring.

    Errors: as in `against_density`; `Unsupported` above d = 2.
    """
    if p.dim > PAIR_DIMENSION:
        raise Unsupported(f"two samples alone do not show kl above d = {PAIR_DIMENSION}, got d = {p.dim}; use mmd or classifier_tv")
    x, y = common(p, q, max(k, p.dim) + 2)
    distinct(np.concatenate([x, y]))
    factor = whitening(x)
    z, w = (solve_triangular(factor, (sample - x.mean(0)).T, lower=True).T for sample in (x, y))
    (rho, _), (nu, lists) = nearest(z, z, k, itself=True), nearest(z, w, k)
    n, m = len(x), len(y)
    terms = p.dim * (np.log(nu[:, -1]) - np.log(rho[:, -1])) + log_mean(k, n) - log_mean(k, m + 1)
    shares = np.bincount(lists.ravel(), minlength=m) * (m / (n * k))
    return Measured(float(terms.mean()), float(np.sqrt((terms.var() + special.polygamma(1, k)) / n + shares.var() / m)))


def log_normalizer(p: Particles, target: Target, name: str) -> Measured:
    """log Z where it is declared; else from exact draws, whose own divergence is zero: ``-E log(density / exp(-V))``.

    Errors: `Unsupported` where neither is known.
    """
    if target.log_normalizer is not None:
        return Measured(target.log_normalizer, 0.0)
    if "sample" not in target.capabilities:
        raise Unsupported(f"{name} of a sample needs the log_normalizer of {target.name} or exact draws of it; it has neither")
    shift = against_density(Particles.of_target(target, p.n, p.seed, "reference"), target, K, 0.0).kl()
    return Measured(-shift.value, shift.deviation)


def distinct(x: np.ndarray) -> np.ndarray:
    """The points, if no two coincide: an atom has no density, and the divergence is infinite or undefined."""
    count = len(np.unique(x, axis=0))
    if count < len(x):
        raise InvalidInput(f"needs distinct particles (a law with atoms has no density), got {count} distinct of {len(x)}")
    return x


def whitening(x: np.ndarray) -> np.ndarray:
    """Lower-triangular L with L L^T the sample's covariance."""
    cov = np.atleast_2d(np.cov(x.T))
    scale = np.sqrt(np.diag(cov))
    if (scale > 0).all():
        values = np.linalg.eigvalsh(cov / scale[:, None] / scale)
        if values[0] > 1e-12 * len(values):
            return np.asarray(np.linalg.cholesky(cov))
    raise InvalidInput(f"needs particles that span all {x.shape[1]} dimensions, got a sample on a hyperplane (to rounding)")


def nearest(x: np.ndarray, y: np.ndarray, k: int, itself: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(distances, indices) of the first k neighbours of each row of x among the rows of y, both of shape (len(x), k).

    Arguments:
        itself: x is y, and a point is no neighbour of itself.
    """
    reach = k + itself
    if x.shape[1] <= TREE:
        from scipy.spatial import cKDTree

        distance, index = cKDTree(y).query(x, list(range(1, reach + 1)))
    else:
        from sklearn.neighbors import NearestNeighbors

        index = NearestNeighbors(n_neighbors=reach, algorithm="brute").fit(y).kneighbors(x, return_distance=False)
        # products of matrices lose digits of small distances, so the few that count are taken again
        distance = np.sort(np.stack([np.linalg.norm(x - y[j], axis=1) for j in index.T], axis=1), axis=1)
    distance, index = np.asarray(distance)[:, itself:], np.asarray(index)[:, itself:]  # distinct points: the first is the point itself
    if not distance.all():
        raise InvalidInput("needs distinct particles, got some that coincide to rounding beside the width of the sample")
    return distance, index


def null(p: Particles, target: Target, k: int, log_z: float) -> Density:
    """Exact draws of the target, of p's size, against its density; where there are none, Gaussian draws against their own
    (the estimate is affine invariant, so that this is the bias of any Gaussian)."""
    if "sample" in target.capabilities:
        return against_density(Particles.of_target(target, p.n, p.seed, "floor"), target, k, log_z)
    from ..targets.gaussian import Gaussian

    normal = Gaussian.isotropic(p.dim)
    return against_density(Particles.of_target(normal, p.n, p.seed, "floor"), normal, k, normal.log_normalizer)


def hull(raw: Measured, zero: Measured, side: Side, shift: float = 0.0) -> Estimate:
    """The estimate with the bias that exact draws show: an interval that holds the raw value and the one less that bias.

    Floor: the magnitude of the estimate on exact draws, at least its deviation.

    Arguments:
        zero: the estimate on exact draws.
        shift: deviation of what both have in common (a measured normaliser).
    """
    floor = float(np.hypot(max(abs(zero.value), zero.deviation), shift))
    if not np.isfinite(raw.value):
        return Estimate(raw.value, raw.value, raw.value, floor=floor, side=side)
    half = Z * float(np.sqrt(raw.deviation**2 + zero.deviation**2 + shift**2))
    low, high = raw.value - max(zero.value, 0.0) - half, raw.value + max(-zero.value, 0.0) + half
    return Estimate(max(0.0, raw.value), max(0.0, low), max(0.0, high), floor=floor, side=side)
