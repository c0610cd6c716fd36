"""Exact optimal transport between samples and weighted points."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np

from ..errors import Diverged, InvalidInput, MixrateError
from ..laws.particles import Particles
from .column_generation import Certified, column_generation

#: Larger coordinates could make a distance that is no number.
LARGEST = 1e300

#: Up to so many pairs the dense network simplex is the faster one.
DENSE = 250 * 250


class PlugIn(NamedTuple):
    """W2 of two samples.

    Arguments:
        value: the distance, or the upper end of its certificate.
        bound: the lower end.
        deviation: standard deviation under resampling.
    """

    value: float
    bound: float
    deviation: float


def plug_in(p: Particles, q: Particles, gap: float = 0.0) -> PlugIn:
    """W2 of two samples, with the infinitesimal jackknife: the influence of a point on W2^2 is its potential."""
    (x, y), scale = samples(p, q)
    plan = between(x, y, gap)
    value = math.sqrt(plan.value)
    deviation = math.sqrt(plan.f.var() / len(x) + plan.g.var() / len(y)) / (2 * value) if value > 0 else 0.0
    return PlugIn(scale * value, scale * math.sqrt(max(0.0, plan.bound)), scale * deviation)


def samples(*laws: Particles, least: int = 1) -> tuple[list[np.ndarray], float]:
    """(positions in a common unit of length near their largest extent, that unit), one array (n, d) per law.

    The unit is a power of two, so that no digit changes, and squares neither overflow nor vanish. Positions keep their origin
    unless it is far away: they are then taken from the middle of the first sample, exact to the rounding they came with.

    Errors: `InvalidInput` for different dimensions or fewer than `least` points; `Diverged` where a coordinate is not finite
        or beyond 1e300.
    """
    if len({law.dim for law in laws}) > 1:
        raise InvalidInput(f"the two laws need one dimension, got {' and '.join(str(law.dim) for law in laws)}")
    arrays = [law.x.detach().cpu().double().numpy() for law in laws]
    for law, x in zip(laws, arrays, strict=True):
        if len(x) < least:
            raise InvalidInput(f"needs at least {least} particles, got {len(x)}")
        if not (finite := np.isfinite(x).all(1)).all():
            raise Diverged(f"particles must be finite, {int((~finite).sum())} of {len(x)} are not", law.steps, float(1 - finite.mean()))
    largest = max(float(np.abs(x).max(initial=0.0)) for x in arrays)
    if largest > LARGEST:
        raise Diverged(f"coordinates must be at most {LARGEST:g} in size, got {largest:.3g}", laws[0].steps, 1.0)
    if largest == 0.0:
        return arrays, 1.0
    scaled = [np.ldexp(x, -_exponent(largest)) for x in arrays]
    middle = 0.5 * (scaled[0].min(0) + scaled[0].max(0))
    centred = [x - middle for x in scaled]
    extent = max(float(np.abs(x).max()) for x in centred)
    if extent == 0.0:
        return centred, 1.0
    exponent = _exponent(extent)
    return [np.ldexp(x, -exponent) for x in centred], float(np.ldexp(1.0, _exponent(largest) + exponent))


def _exponent(x: float) -> int:
    return math.frexp(x)[1]


def between(x: np.ndarray, y: np.ndarray, gap: float = 0.0) -> Certified:
    """Optimal transport of squared distance between two samples in `samples`' unit: sorted, dense, or by column generation."""
    n, m = len(x), len(y)
    if x.shape[1] == 1:
        first, second = np.argsort(x[:, 0], kind="stable"), np.argsort(y[:, 0], kind="stable")
        value, f, g = _sorted(x[first, 0], y[second, 0])
        return Certified(value, value, f[np.argsort(first)], g[np.argsort(second)])
    if n * m > DENSE:
        return column_generation(x, y, gap)
    value, f, g = transport(x, y, np.full(n, 1 / n), np.full(m, 1 / m))
    return Certified(value**2, value**2, f, g)


def transport(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """(W2, potential at x, potential at y) between weighted points, by the dense network simplex of POT."""
    import ot

    middle = y.mean(0)  # squared distances lose digits far from the origin
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same text is in the log
        cost, log = ot.emd2(a, b, ot.dist(x - middle, y - middle), numItermax=10_000_000, log=True)
    if log["warning"] is not None or not np.isfinite(cost):
        raise MixrateError(f"the optimal transport solver did not converge on {len(x)} x {len(y)} points: {log['warning']}")
    return float(np.sqrt(max(0.0, float(cost)))), log["u"], log["v"]


def _sorted(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """(W2^2, potentials) of sorted samples on a line: quantiles are paired; ``f'(x) = 2 (x - T(x))``."""
    i, j, width = quantile_pairs(len(x), len(y))
    gap = x[i] - y[j]

    def potential(at: np.ndarray, index: np.ndarray, sign: float) -> np.ndarray:
        slope = 2 * sign * np.bincount(index, width * gap) / np.bincount(index, width)
        return np.concatenate([[0.0], np.cumsum(0.5 * (slope[1:] + slope[:-1]) * np.diff(at))])

    return float(width @ gap**2), potential(x, i, 1.0), potential(y, j, -1.0)


def quantile_pairs(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(i, j, mass): order statistic i of n points is coupled with j of m points, with that mass."""
    divisor = math.gcd(n, m)
    ends = np.arange(1, n + 1) * (m // divisor), np.arange(1, m + 1) * (n // divisor)  # in units of divisor / (n m)
    levels = np.union1d(*ends)
    width = np.diff(levels, prepend=0) / float(n * (m // divisor))
    return np.searchsorted(ends[0], levels), np.searchsorted(ends[1], levels), width
