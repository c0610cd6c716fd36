"""Potentials and scores as compiled loops over a block of particles, for the targets that most time goes into."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .compiled import compiled, exp, log
from .kernel import Kernel, kernel_type

# Gaussian: parameters (dense?, mean, precision's diagonal or rows).


def gaussian(mean: np.ndarray, precision: np.ndarray) -> Kernel:
    """N(mean, precision^-1); `precision` is a diagonal (d,) or a matrix (d, d)."""
    return Kernel(_gaussian, np.concatenate([[float(precision.ndim == 2)], mean, precision.ravel()]))


@cache
def _gaussian(dtype: type) -> Any:
    def kernel(x, parameters, v, s, want):  # type: ignore[no-untyped-def]
        d, n = x.shape
        zero, half = x.dtype.type(0), x.dtype.type(0.5)
        dense, mean, precision = parameters[0] > half, parameters[1 : 1 + d], parameters[1 + d :]
        if want & 1:
            v[:] = zero
        if not dense:
            for j in range(d):
                m, a = mean[j], precision[j]
                if want == 3:
                    for p in range(n):
                        away = m - x[j, p]
                        pull = a * away
                        s[j, p] = pull
                        v[p] += half * pull * away
                elif want == 2:
                    for p in range(n):
                        s[j, p] = a * (m - x[j, p])
                else:
                    b = half * a
                    for p in range(n):
                        v[p] += b * (m - x[j, p]) * (m - x[j, p])
        else:
            gap, row = np.empty((d, n), x.dtype), np.empty(n, x.dtype)
            for j in range(d):
                for p in range(n):
                    gap[j, p] = mean[j] - x[j, p]
            for i in range(d):
                row[:] = zero
                for j in range(d):
                    a = precision[i * d + j]
                    for p in range(n):
                        row[p] += a * gap[j, p]
                if want & 1:
                    for p in range(n):
                        v[p] += half * gap[i, p] * row[p]
                if want & 2:
                    s[i, :] = row

    return compiled(kernel_type(dtype))(kernel)


# Logistic regression: parameters (rows, 1 / prior variance, signed features row by row).

#: Rows of the design matrix whose predictors are alive at once.
ROWS = 64


def logistic(signed: np.ndarray, prior_variance: float) -> Kernel:
    """sum_i log(1 + exp(-w_i)) + |x|^2 / (2 s^2), w = signed x; a row of `signed` is (2 y_i - 1) times the features."""
    return Kernel(_logistic, np.concatenate([[len(signed), 1.0 / prior_variance], signed.ravel()]))


@cache
def _logistic(dtype: type) -> Any:
    def kernel(x, parameters, v, s, want):  # type: ignore[no-untyped-def]
        d, n = x.shape
        zero, half, one = x.dtype.type(0), x.dtype.type(0.5), x.dtype.type(1)
        rows, prior = int(parameters[0]), parameters[1]
        signed = parameters[2:].reshape((rows, d))
        part, product = np.empty((d, n), x.dtype), np.empty(n, x.dtype)
        if want & 2:
            for j in range(d):
                for p in range(n):
                    s[j, p] = -prior * x[j, p]
        if want & 1:
            v[:] = zero
            for j in range(d):
                for p in range(n):
                    v[p] += half * prior * x[j, p] * x[j, p]
        for lo in range(0, rows, ROWS):
            some = signed[lo : min(lo + ROWS, rows)]
            w = np.dot(some, x)
            product[:] = one
            for i in range(w.shape[0]):
                row = w[i]
                if want == 1:
                    for p in range(n):
                        v[p] += max(-row[p], zero)
                        product[p] *= one + exp(-abs(row[p]))
                elif want == 2:
                    for p in range(n):
                        e = exp(-abs(row[p]))
                        row[p] = (e if row[p] >= zero else one) / (one + e)
                else:
                    for p in range(n):
                        e = exp(-abs(row[p]))
                        v[p] += max(-row[p], zero)
                        product[p] *= one + e
                        row[p] = (e if row[p] >= zero else one) / (one + e)
            if want & 1:  # 64 factors of at most 2: one logarithm for all of them
                for p in range(n):
                    v[p] += log(product[p])
            if want & 2:
                np.dot(some.T, w, part)
                for j in range(d):
                    for p in range(n):
                        s[j, p] += part[j, p]

    return compiled(kernel_type(dtype))(kernel)
