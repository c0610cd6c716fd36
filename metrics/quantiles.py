"""Distance between densities on a line, through their quantiles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy  # its parts are loaded where they are used
from scipy import special

from ..errors import Unsupported
from .base import Estimate
from .numerics import EPS, refinement

#: Quantiles are followed down to this mass in either tail; rounding of 1e-16 still leaves them two digits there.
TAIL = 1e-14


def line(x: np.ndarray, p: np.ndarray, q: np.ndarray, noise: float) -> Estimate:
    """W2 of two densities on one line; the meshes of every 2nd and 4th node show the discretisation error."""
    x, p, q = _finer(x, p, q)
    value, error, tail = between_quantiles(quantiles(x, p), quantiles(x, q), noise)
    try:
        error += refinement(value, *(between_quantiles(quantiles(x[::k], p[::k]), quantiles(x[::k], q[::k]), noise)[0] for k in (2, 4)))
    except Unsupported:
        error += value
    return Estimate(value, max(0.0, value - error), float(np.hypot(value, tail)) + error)


def between_quantiles(p: Quantiles, q: Quantiles, noise: float) -> tuple[float, float, float]:
    """(distance, effect of errors `noise` of either cumulative mass, root of what the tails beyond `TAIL` may add).

    In the tails the displacement is taken to be at most twice that at the last quantile followed.
    """
    z = np.unique(np.concatenate([p.z, q.z]))
    z = z[(z >= max(p.z[0], q.z[0])) & (z <= min(p.z[-1], q.z[-1]))]
    nodes, weights = np.polynomial.legendre.leggauss(4)
    half = 0.5 * np.diff(z)[:, None]
    level = (z[:-1, None] + half * (1 + nodes)).ravel()
    mass = special.expit(level) * special.expit(-level)  # du/dz
    (x, dx), (y, dy) = p(level), q(level)
    w = (half * weights).ravel() * mass
    blur = np.minimum(noise / mass * (1 / dx + 1 / dy), p.x[-1] - p.x[0])
    tail = special.expit(level[0]) * (x[0] - y[0]) ** 2 + special.expit(-level[-1]) * (x[-1] - y[-1]) ** 2
    return float(np.sqrt(w @ (x - y) ** 2)), float(np.sqrt(w @ blur**2)), 2 * float(np.sqrt(tail))


class Quantiles(NamedTuple):
    """Nodes x with ``z = logit F(x)`` non-decreasing, and z as a spline of x."""

    x: np.ndarray
    z: np.ndarray
    spline: scipy.interpolate.BSpline

    def __call__(self, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The quantiles at these logits, and dz/dx there: Newton's method, kept inside the cell of each root."""
        i = np.clip(np.searchsorted(self.z, level), 1, len(self.z) - 1)
        low, high = self.x[i - 1].copy(), self.x[i].copy()
        rise = self.z[i] - self.z[i - 1]
        share = np.divide(level - self.z[i - 1], rise, out=np.full_like(level, 0.5), where=rise > 0)
        y, slope = low + np.clip(share, 0, 1) * (high - low), self.spline.derivative()
        for _ in range(60):
            f, df = self.spline(y) - level, slope(y)
            low, high = np.where(f < 0, y, low), np.where(f < 0, high, y)
            new = y - np.divide(f, df, out=np.zeros_like(f), where=df > 0)
            new = np.where((new >= low) & (new <= high) & (df > 0), new, 0.5 * (low + high))
            moved, y = float(np.abs(new - y).max(initial=0.0)), new
            if moved <= 4 * EPS * float(np.abs(self.x).max()):
                break
        return y, np.maximum(slope(y), 1e-300)


def logits(x: np.ndarray, density: np.ndarray) -> np.ndarray:
    """``logit F`` at the nodes for each row of densities; both tails keep relative accuracy, as each is summed from its own end."""
    left = scipy.interpolate.make_interp_spline(x, density, k=5, axis=-1).antiderivative()(x)
    right = scipy.interpolate.make_interp_spline(-x[::-1], density[..., ::-1], k=5, axis=-1).antiderivative()(-x[::-1])[..., ::-1]
    tiny = 1e-40 * np.maximum(left[..., -1:], 1e-300)
    return np.asarray(np.log(np.maximum(left, tiny)) - np.log(np.maximum(right, tiny)))


def quantiles(x: np.ndarray, density: np.ndarray) -> Quantiles:
    z = logits(x, density)
    keep = np.flatnonzero(np.abs(z) < -np.log(TAIL))
    if len(keep) < 6:
        raise Unsupported(f"the mesh resolves the law with {len(keep)} nodes; quantiles need at least 6")
    keep = np.arange(keep[0], keep[-1] + 1)
    return Quantiles(x[keep], np.maximum.accumulate(z[keep]), scipy.interpolate.make_interp_spline(x[keep], z[keep], k=5))


def _finer(x: np.ndarray, p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both densities on three times as many nodes, by their Fourier series, where the mesh resolves them to rounding."""
    n = len(x)
    series = np.fft.rfft([p, q])
    if (np.abs(series[:, 2 * n // 5 :]).max(1) > 1e-9 * series[:, 0].real).any():
        return x, p, q
    p, q = np.maximum(np.fft.irfft(3 * series, 3 * n), 0.0)
    return x[0] + (x[1] - x[0]) / 3 * np.arange(3 * n), p, q
