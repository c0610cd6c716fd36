"""A normalised density that is fitted to draws: coordinate after coordinate, Gaussian with a polynomial mean and log-variance.

It contains Gaussians, and the banana, the Rosenbrock density and the funnel; elsewhere it is near, which is all that bridge
sampling and the ratio identity ask of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...samplers.noise import Stream

#: Earlier coordinates whose products enter the mean of the next.
LATEST = 8
#: Deviations at which a coordinate is cut before it enters a mean or a variance: heavy tails must not steer the fit.
CUT = 100.0


@dataclass(frozen=True, eq=False)
class Reference:
    """``x_i | x_1..x_(i-1) ~ N(f(x) . mean_i, exp(g(x) . spread_i))``, f quadratic and cubic terms of the standardised earlier
    coordinates, g linear ones.

    Arguments:
        centre, scale: standardisation, shape (d,).
        means, spreads: coefficients per coordinate.
    """

    centre: np.ndarray
    scale: np.ndarray
    means: tuple[np.ndarray, ...]
    spreads: tuple[np.ndarray, ...]

    @classmethod
    def fitted(cls, x: np.ndarray, widened: float = 1.0) -> Reference:
        """Least squares for the means, then for the logarithms of the squared residuals, then weighted for the means again.

        Arguments:
            x: draws, shape (N, d).
            widened: factor on every deviation.
        """
        low, centre, high = np.quantile(x, [0.16, 0.5, 0.84], axis=0)
        scale = np.maximum((high - low) / 2, 1e-12)
        y = (x - centre) / scale
        means, spreads = [], []
        for i in range(x.shape[1]):
            f, g = _means(y[:, :i]), _spreads(y[:, :i])
            weight = np.ones(len(y))
            for _ in range(3):
                mean = _least_squares(f, y[:, i], weight)
                residual = (y[:, i] - f @ mean) ** 2
                # E log chi^2_1 = -1.2704
                spread = _least_squares(g, np.log(residual + 1e-12) + 1.2704, np.ones(len(y)))
                spread[0] += np.log(np.mean(np.clip(residual * np.exp(-np.clip(g @ spread, -40, 40)), 0, 30.0)))
                weight = np.exp(-np.clip(g @ spread, -40, 40))
            spread[0] += 2 * np.log(widened)
            means.append(mean)
            spreads.append(spread)
        return cls(centre, scale, tuple(means), tuple(spreads))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """log q at each row."""
        y = (x - self.centre) / self.scale
        total = np.full(len(y), -0.5 * y.shape[1] * np.log(2 * np.pi) - np.log(self.scale).sum())
        for i, (mean, spread) in enumerate(zip(self.means, self.spreads, strict=True)):
            variance = np.clip(_spreads(y[:, :i]) @ spread, -60, 60)
            total -= 0.5 * ((y[:, i] - _means(y[:, :i]) @ mean) ** 2 * np.exp(-variance) + variance)
        return total

    def sample(self, n: int, noise: Stream) -> np.ndarray:
        """Draws, shape (n, d)."""
        z = noise.normal((n, len(self.centre))).numpy()
        y = np.zeros_like(z)
        for i, (mean, spread) in enumerate(zip(self.means, self.spreads, strict=True)):
            y[:, i] = _means(y[:, :i]) @ mean + np.exp(np.clip(_spreads(y[:, :i]) @ spread, -60, 60) / 2) * z[:, i]
        return self.centre + self.scale * y


def _least_squares(f: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted least squares by the normal equations with a trace of ridge: any coefficients define a density."""
    weighted = f * weight[:, None]
    gram = weighted.T @ f
    return np.linalg.solve(gram + 1e-10 * np.trace(gram) / len(gram) * np.eye(len(gram)), weighted.T @ y)


def _means(y: np.ndarray) -> np.ndarray:
    """1, the earlier coordinates and their squares, products of the latest, and the cube of the last."""
    y = np.clip(y, -CUT, CUT)
    late = y[:, -LATEST:]
    k = late.shape[1] if y.shape[1] <= 2 * LATEST else 3  # in many dimensions products of neighbours must do
    products = [late[:, -a] * late[:, -b] for a in range(1, k + 1) for b in range(1, a)]
    cubes = [late[:, -1] ** 3] if y.shape[1] else []
    return np.column_stack([np.ones(len(y)), y, y**2, *products, *cubes])


def _spreads(y: np.ndarray) -> np.ndarray:
    """1 and the earlier coordinates."""
    return np.column_stack([np.ones(len(y)), np.clip(y, -CUT, CUT)])
