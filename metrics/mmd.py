"""Maximum mean discrepancy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InvalidInput
from ..laws.particles import Particles
from .base import Estimate, Metric
from .sampling import PAIRED, Quadratic, common, points, quadratic, squared_distances

#: Points of the target's sample among which the median distance is taken.
MEDIAN_OF = 1000


@dataclass(frozen=True)
class MMD(Metric):
    """Maximum mean discrepancy between the law and the target, a pure number in [0, sqrt(2)].

    ``MMD(p, q)^2 = E k(X, X') + E k(Y, Y') - 2 E k(X, Y)``, ``k(x, y) = exp(-|x - y|^2 / (2 l^2))``

    Particles: the square root of the unbiased U-statistic over pairs ``z_i = (x_i, y_i)`` of points of the two samples,
    ``h(z_i, z_j) = k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(y_i, x_j)``, i != j, clipped at 0, over the first 5000 of the
    smaller sample. The bandwidth l is the median distance between points of the target, from a sample independent of both.
    Interval, 99 %: `Quadratic`. Floor: the root mean square score of two samples of the target, from the deviation of U.

    Cost: O(min(n, 5000)^2 d), twice; 256 rows of the kernel matrices in memory.
    Arguments:
        bandwidth: l > 0, in units of length; None is the median.
    Errors: `InvalidInput` below 2 particles, or where more than half of the target's points coincide.
    References: Gretton, Borgwardt, Rasch, Schoelkopf, Smola, "A kernel two-sample test" (2012), Lemma 6,
        https://jmlr.org/papers/v13/gretton12a.html
    """

    bandwidth: float | None = None

    def __post_init__(self) -> None:
        if self.bandwidth is not None and not (np.isfinite(self.bandwidth) and self.bandwidth > 0):
            raise InvalidInput(f"bandwidth must be positive and finite, got {self.bandwidth}")

    def particles(self, p: Particles, q: Particles, floor: Particles) -> Estimate:
        x, y = common(p, q, 2)
        other = points(floor, 2)
        width = self.bandwidth or median_distance(other[:MEDIAN_OF])
        n = min(len(x), len(y), len(other), PAIRED)
        return paired(x[:n], y[:n], width).root(paired(other[:n], y[:n], width).noise)


def median_distance(y: np.ndarray) -> float:
    """The median distance between two of the points."""
    distances = squared_distances(y - y.mean(0), y - y.mean(0))[np.triu_indices(len(y), 1)]
    median = float(np.sqrt(np.median(distances)))
    if not median > 0:
        raise InvalidInput("the median distance within the target's sample is 0; give a bandwidth")
    return median


def paired(x: np.ndarray, y: np.ndarray, width: float) -> Quadratic:
    """The U-statistic of ``h`` over the pairs (x_i, y_i)."""
    centre = y.mean(0)
    a, b = (x - centre) / width, (y - centre) / width

    def kernel(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(-0.5 * squared_distances(u, v)))

    def rows(lo: int, hi: int) -> np.ndarray:
        return kernel(a[lo:hi], a) + kernel(b[lo:hi], b) - kernel(a[lo:hi], b) - kernel(b[lo:hi], a)

    return quadratic(len(x), rows)
