"""What metrics of samples share: clean points, intervals of counts, U-statistics of a kernel, quantiles of a density on the line."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy import special

from ..errors import Diverged, InvalidInput, Unsupported
from ..laws.particles import RADIUS, Particles
from ..targets.base import Target
from .base import Estimate

#: Intervals of sample estimates are two-sided at this level.
LEVEL = 0.99
Z = float(special.ndtri(0.5 + LEVEL / 2))

#: The same quantile, in standard deviations, of the most skewed degenerate U-statistic, ``(chi2_1 - 1)/sqrt(2)``.
Z_SKEW = float((2 * special.gammaincinv(0.5, 0.5 + LEVEL / 2) - 1) / np.sqrt(2))

#: Kernel metrics visit all pairs of the first so many particles; they are independent, so any part of them is a sample.
PAIRED = 5000

#: Rows of a kernel matrix in memory at once.
ROWS = 256


def points(law: Particles, least: int = 1, dim: int | None = None) -> np.ndarray:
    """The positions in double precision, shape (N, d).

    Arguments:
        least: smallest N that the caller can use.
        dim: the dimension that the other side has.
    Errors: `Diverged` where some are not finite or outside the ball of radius 1e8, as for simulated particles;
        `InvalidInput` below `least` particles, and in another dimension.
    """
    x = law.x.detach().double().cpu().numpy()
    if dim not in (None, law.dim):
        raise InvalidInput(f"the two laws need one dimension, got {law.dim} and {dim}")
    if len(x) < least:
        raise InvalidInput(f"needs at least {least} particles, got {len(x)}")
    out = ~(np.isfinite(x).all(1) & (np.abs(x).max(1) < RADIUS))
    if out.any():
        what = f"particles must be finite and within {RADIUS:g} of the origin, {int(out.sum())} of {len(x)} are not"
        raise Diverged(what, law.steps, float(out.mean()))
    return np.asarray(x)


def common(p: Particles, q: Particles, least: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The positions of two samples of one dimension."""
    return points(p, least, q.dim), points(q, least)


def binomial_spread(n: int, p: np.ndarray) -> np.ndarray:
    """``E|K/n - p|`` for K ~ Bin(n, p), exactly: ``2 v C(n, v) p^v (1-p)^(n-v+1) / n``, ``v = floor(n p) + 1``.

    References: Diaconis, Zabell, "Closed form summation for classical distributions: variations on a theme of de Moivre"
        (1991), https://doi.org/10.1214/ss/1177011699
    """
    v = np.floor(n * p) + 1
    inside = (p > 0) & (p < 1)
    p, v = np.where(inside, p, 0.5), np.where(inside, v, 1.0)
    logs = np.log(2 * v / n) + special.gammaln(n + 1) - special.gammaln(v + 1) - special.gammaln(n - v + 1)
    return np.where(inside, np.exp(logs + v * np.log(p) + (n - v + 1) * np.log1p(-p)), 0.0)


def frequencies(counts: np.ndarray, probabilities: np.ndarray, error: float = 0.0) -> Estimate:
    """``1/2 sum_b |counts_b / n - probabilities_b|`` as an estimate of the same with the law's own probabilities p_b.

    Floor: its mean under equality (`binomial_spread`). Interval: the mean lies between the truth and
    ``1/2 sum sqrt(p_b (1-p_b)/n) <= sqrt((B-1)/n)/2`` above it, and one draw moves the value by at most 1/n, so that it is
    farther than t from its mean with probability at most ``2 exp(-2 n t^2)``: 99 % at any n.

    Arguments:
        error: bound on the error of `probabilities`, on the scale of total variation.
    References: McDiarmid, "On the method of bounded differences" (1989), Lemma 1.2, https://doi.org/10.1017/CBO9781107359949.008
    """
    n, b = int(counts.sum()), len(counts)
    value = 0.5 * float(np.abs(counts / n - probabilities).sum())
    floor = 0.5 * float(binomial_spread(n, probabilities).sum())
    return interval_of_counts(value, floor + error, 0.5 * np.sqrt((b - 1) / n), 1 / n, error)


def interval_of_counts(value: float, floor: float, bias: float, weight: float, error: float = 0.0) -> Estimate:
    """A lower-side estimate in [0, 1]; `weight` is the sum of squares of what single draws can move."""
    t = float(np.sqrt(np.log(2 / (1 - LEVEL)) * weight / 2)) + error
    return Estimate(value, max(0.0, value - bias - t), min(1.0, value + t), floor=min(1.0, floor), side="lower")


def energies(x: np.ndarray, target: Target) -> np.ndarray:
    """V(x_i), shape (N,); inf outside the support."""
    v = target.potential(torch.as_tensor(x)).detach().double().cpu().numpy()
    if np.isnan(v).any():
        raise InvalidInput(f"the potential of {target.name} is NaN at {int(np.isnan(v).sum())} of {len(v)} particles")
    return np.asarray(v)


class Quadratic(NamedTuple):
    """A U-statistic of degree two, ``U = sum_{i != j} h_ij / (n (n-1))``, with the two parts of its deviation.

    Arguments:
        value: U.
        linear: deviation from the first projection, ``2 sqrt(Var E[h(x, X') | x] / n)``; 0 where h is degenerate.
        degenerate: deviation of the rest, ``sqrt(2 E h~^2 / (n (n-1)))``, h~ the doubly centred kernel.
    References: Hoeffding, "A class of statistics with asymptotically normal distribution" (1948), section 5,
        https://doi.org/10.1214/aoms/1177730196
    """

    value: float
    linear: float
    degenerate: float

    @property
    def noise(self) -> float:
        """Root mean square of ``sqrt(max(0, U))`` where h is degenerate: ``E max(0, U) = degenerate / sqrt(2 pi)``, U near-normal."""
        return float(np.sqrt(self.degenerate / np.sqrt(2 * np.pi)))

    def root(self, floor: float) -> Estimate:
        """``sqrt(max(0, U))`` with its 99 % interval.

        Below: normal for the linear part, the most skewed quantile for the rest. Above: the linear part is taken on the scale
        of the root, for it shrinks with U.
        """
        value = float(np.sqrt(max(0.0, self.value)))
        low = float(np.sqrt(max(0.0, self.value - Z * self.linear - Z_SKEW * self.degenerate)))
        scale = 2 * max(value, float(np.sqrt(self.degenerate)))
        moved = value + (Z * self.linear / scale if scale > 0 else 0.0)
        return Estimate(value, low, float(np.sqrt(moved**2 + Z * self.degenerate)), floor=floor)


def quadratic(n: int, rows: Callable[[int, int], np.ndarray]) -> Quadratic:
    """The U-statistic of a symmetric kernel, its matrix visited `ROWS` rows at a time.

    Arguments:
        rows: (lo, hi) to the rows lo..hi-1 of the kernel matrix, shape (hi - lo, n).
    """
    means, square = np.empty(n), 0.0
    for lo in range(0, n, ROWS):
        h = rows(lo, min(lo + ROWS, n))
        i = np.arange(len(h))
        h[i, lo + i] = 0.0
        means[lo : lo + len(h)] = h.sum(1) / (n - 1)
        square += float((h * h).sum())
    if not (np.isfinite(means).all() and np.isfinite(square)):
        raise InvalidInput("the kernel is not finite on these particles: the score, or a distance, overflows")
    value, square = float(means.mean()), square / (n * (n - 1))
    spread = float(means.var())
    # means scatter by E h~^2/n even where the projection vanishes
    projection = max(0.0, spread - square / n)
    centred = max(0.0, square - 2 * spread - value**2)
    return Quadratic(value, float(2 * np.sqrt(projection / n)), float(np.sqrt(2 * centred / (n * (n - 1)))))


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``|x_i - y_j|^2``, shape (len(x), len(y))."""
    return np.maximum((x * x).sum(1)[:, None] + (y * y).sum(1)[None, :] - 2 * x @ y.T, 0.0)


def line_quantiles(target: Target, levels: np.ndarray) -> tuple[np.ndarray, float]:
    """(quantiles of a density on the line, bound on the error of their levels), by the trapezoid rule on 20 001 nodes.

    Errors: `Unsupported` where the nodes do not resolve the density.
    """
    lo, hi = (float(e[0]) for e in target.extent())
    x = np.linspace(lo, hi, 20_001)
    logs = -target.potential(torch.as_tensor(x[:, None])).numpy()
    masses, coarse = (_masses(logs[::k]) for k in (1, 2))
    distribution = np.concatenate([[0.0], np.cumsum(masses)])
    # refinement at the nodes; between them, linear interpolation of a curve whose slope changes by no more than this
    error = float(np.abs(distribution[2::2] - np.cumsum(coarse)).max()) + float(np.abs(np.diff(masses)).max()) / 8
    if not error < 1e-3:
        raise Unsupported(f"20001 nodes on [{lo:.3g}, {hi:.3g}] do not resolve the density of {target.name}")
    return np.interp(levels, distribution, x), error


def _masses(logs: np.ndarray) -> np.ndarray:
    """Shares of the mass between neighbouring nodes."""
    density = np.exp(logs - logs.max())
    cells = density[1:] + density[:-1]
    return np.asarray(cells / cells.sum())
