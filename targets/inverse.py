"""Draws by the inverse distribution function, from densities given at equally spaced nodes."""

from __future__ import annotations

import numpy as np

#: Points of the polynomial that stands for the density in a cell; the error of the distribution function is of order spacing^8.
POINTS = 8


def _monomials() -> np.ndarray:
    """Coefficients of the interpolant's powers t^0 .. t^7 from its values at the nodes -3 .. 4 around the cell (0, 1)."""
    return np.linalg.inv(np.vander(np.arange(POINTS) - POINTS // 2 + 1.0, increasing=True))


def positions(density: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Where the distribution functions of `density` reach `u`, in units of the spacing from the first node.

    Between two nodes the density is the polynomial through the eight nodes around them. Its integral up to a node is a fixed
    combination of eight partial sums, and within the cell a polynomial of degree 8, solved by Newton's method. With five,
    six, eight or ten nodes per standard deviation of a Gaussian the distribution function is right to 2e-8, 6e-9, 6e-10, 1e-10.

    Arguments:
        density: at the nodes, not normalised, next to nothing at both ends; shape (K,) for all draws, or (n, K), a row per draw.
        u: shape (n,), in (0, 1).
    """
    rows = np.atleast_2d(density)
    half = POINTS // 2
    # nothing beyond the ends: partial sums are constant there
    p = np.pad(rows, ((0, 0), (half, half)))
    sums = np.cumsum(p, axis=1)
    level = u * sums[:, -1]
    middle = sums - p / 2  # the trapezoid rule up to each node, which finds the cell
    if len(rows) == 1:
        cell = np.searchsorted(middle[0], level, side="right") - 1
    else:
        cell = (middle <= level[:, None]).sum(1) - 1
    cell = np.clip(cell, half, rows.shape[1] + half - 2)
    row = np.zeros(len(u), dtype=int) if len(rows) == 1 else np.arange(len(u))
    around = cell[:, None] + np.arange(POINTS) - half + 1
    powers = p[row[:, None], around] @ _monomials().T
    weights = (1.0 / np.arange(1, POINTS + 1)) @ _monomials()  # of the integral over one cell
    rest = level - sums[row[:, None], around - 1] @ weights
    # the integral from the node: sum_k powers_k t^(k+1) / (k+1)
    t = np.full(len(u), 0.5)
    for _ in range(8):
        value, slope = np.zeros_like(t), np.zeros_like(t)
        for k in range(POINTS - 1, -1, -1):
            value, slope = value * t + powers[:, k] / (k + 1), slope * t + powers[:, k]
        t = np.clip(t - (value * t - rest) / np.where(slope > 0, slope, np.inf), -0.5, 1.5)
    return cell - half + t
