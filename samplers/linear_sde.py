"""The transition of a linear stochastic differential equation over any time, without cancellation."""

from __future__ import annotations

import numpy as np

#: Terms of the Taylor series over the first, short interval, on which ``|A| t <= 1/2``: the rest is below 1e-19 of the sum.
TERMS = 18


def transition(drift: np.ndarray, noise: np.ndarray, time: float) -> tuple[np.ndarray, np.ndarray]:
    """(E, N) with ``z_t = E z_0 + N(0, N)`` for ``dz = A z dt + dW``, W of covariance C per time: ``E = e^(A t)``,
    ``N = int_0^t e^(A s) C e^(A s)^T ds``.

    Taylor series over ``t / 2^j``, then j doublings ``N <- N + E N E^T``, ``E <- E^2``, as in scaling and squaring; sums of
    positive semidefinite matrices, so that the variance t^3 of a position that only its momentum stirs keeps its accuracy.

    Cost: about ``(36 + 3 j) n^3`` for n x n matrices.

    Arguments:
        drift: A, shape (n, n). noise: C, symmetric positive semidefinite. time: t >= 0.

    References: Van Loan, "Computing integrals involving the matrix exponential" (1978), https://doi.org/10.1109/TAC.1978.1101743
        (the integral; here by doubling)
    """
    n = len(drift)
    doublings = max(0, int(np.ceil(np.log2(max(2.0 * float(np.linalg.norm(drift, 2)) * time, 1e-300)))))
    h = time / 2.0**doublings
    e, term = np.eye(n), np.eye(n)
    spread, moving = np.zeros((n, n)), noise * h
    for k in range(1, TERMS + 1):
        term = drift @ term * (h / k)
        e = e + term
        spread = spread + moving
        moved = drift @ moving
        moving = (moved + moved.T) * (h / (k + 1))
    for _ in range(doublings):
        spread = spread + e @ spread @ e.T
        e = e @ e
    return e, (spread + spread.T) / 2


def root(cov: np.ndarray) -> np.ndarray:
    """R with ``R R^T = cov``, positive semidefinite, each row accurate on its own scale: the matrix of correlations is factored."""
    scale = np.sqrt(np.maximum(np.diag(cov), 0.0))
    safe = np.where(scale > 0, scale, 1.0)
    values, basis = np.linalg.eigh(cov / np.outer(safe, safe))
    keep = values > 1e-15 * max(values[-1], 0.0)
    return np.asarray(scale[:, None] * (basis[:, keep] * np.sqrt(values[keep])))
