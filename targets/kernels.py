"""Potentials and scores as compiled loops over a block of particles, for the targets that most time goes into."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit

from .compiled import FLAGS, compiled, exp, log
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


# Mixture: parameters (K, kind, log weights, means, precisions); kind 0: numbers, 1: diagonals, 2: lower-triangular
# factors R of the precisions, R^T R, row by row.


def mixture(log_weights: np.ndarray, means: np.ndarray, kind: int, precisions: np.ndarray) -> Kernel:
    """sum_k exp(log_weights[k]) exp(-(x - m_k)^T P_k (x - m_k) / 2), the normalisers in the weights."""
    return Kernel(_mixture, np.concatenate([[len(log_weights), kind], log_weights, means.ravel(), precisions.ravel()]))


#: Numbers in the table of components by particles that `_plane` works on: it stays in the first-level cache.
TABLE = 2560


@njit(inline="always", fastmath=FLAGS, error_model="numpy")
def _plane(x, weights, means, shape, v, s, want):  # type: ignore[no-untyped-def]
    """Round components in the plane: each pass over the table does all there is to do, and a few particles at a time."""
    n, count = x.shape[1], len(weights)
    zero, half, one = x.dtype.type(0), x.dtype.type(0.5), x.dtype.type(1)
    size = min(n, max(16, TABLE // count // 16 * 16))
    table, y, score = np.empty((count, size), x.dtype), np.empty((2, size), x.dtype), np.empty((2, size), x.dtype)
    top, total = np.empty(size, x.dtype), np.empty(size, x.dtype)
    for lo in range(0, n, size):
        m = min(size, n - lo)
        for p in range(m):
            y[0, p] = x[0, lo + p]
            y[1, p] = x[1, lo + p]
            score[0, p] = zero
            score[1, p] = zero
            top[p] = -np.inf
            total[p] = zero
        for k in range(count):
            a, w, m0, m1 = half * shape[k], weights[k], means[k, 0], means[k, 1]
            for p in range(m):
                q = w - a * ((y[0, p] - m0) * (y[0, p] - m0) + (y[1, p] - m1) * (y[1, p] - m1))
                table[k, p] = q
                top[p] = max(top[p], q)
        for k in range(count):
            a, m0, m1 = shape[k], means[k, 0], means[k, 1]
            if want & 2:
                for p in range(m):
                    e = exp(table[k, p] - top[p])
                    total[p] += e
                    score[0, p] += a * e * (m0 - y[0, p])
                    score[1, p] += a * e * (m1 - y[1, p])
            else:
                for p in range(m):
                    total[p] += exp(table[k, p] - top[p])
        if want & 1:
            for p in range(m):
                v[lo + p] = -(top[p] + log(total[p]))
        if want & 2:
            for p in range(m):
                s[0, lo + p] = score[0, p] * (one / total[p])
                s[1, lo + p] = score[1, p] * (one / total[p])


@cache
def _mixture(dtype: type) -> Any:
    def kernel(x, parameters, v, s, want):  # type: ignore[no-untyped-def]
        d, n = x.shape
        zero, half = x.dtype.type(0), x.dtype.type(0.5)
        count, kind = int(parameters[0]), int(parameters[1])
        weights = parameters[2 : 2 + count]
        means = parameters[2 + count : 2 + count + count * d].reshape((count, d))
        shape = parameters[2 + count + count * d :]
        if kind == 0 and d == 2:
            _plane(x, weights, means, shape, v, s, want)
            return
        share, top, total = np.empty((count, n), x.dtype), np.empty(n, x.dtype), np.empty(n, x.dtype)
        away, pull = np.empty((d, n), x.dtype), np.empty((d if kind == 2 else 0, n), x.dtype)

        for k in range(count):  # log densities of the components
            row = share[k]
            row[:] = zero
            if kind == 0:
                for j in range(d):
                    m = means[k, j]
                    for p in range(n):
                        row[p] += (x[j, p] - m) * (x[j, p] - m)
                a, w = half * shape[k], weights[k]
                for p in range(n):
                    row[p] = w - a * row[p]
            elif kind == 1:
                for j in range(d):
                    m, a = means[k, j], half * shape[k * d + j]
                    for p in range(n):
                        row[p] -= a * (x[j, p] - m) * (x[j, p] - m)
                for p in range(n):
                    row[p] += weights[k]
            else:
                for j in range(d):
                    for p in range(n):
                        away[j, p] = x[j, p] - means[k, j]
                for i in range(d):
                    total[:] = zero
                    for j in range(i + 1):
                        a = shape[(k * d + i) * d + j]
                        for p in range(n):
                            total[p] += a * away[j, p]
                    for p in range(n):
                        row[p] += total[p] * total[p]
                for p in range(n):
                    row[p] = weights[k] - half * row[p]

        for p in range(n):
            top[p] = share[0, p]
            total[p] = zero
        for k in range(1, count):
            for p in range(n):
                top[p] = max(top[p], share[k, p])
        for k in range(count):
            for p in range(n):
                e = exp(share[k, p] - top[p])
                share[k, p] = e
                total[p] += e
        if want & 1:
            for p in range(n):
                v[p] = -(top[p] + log(total[p]))
        if not want & 2:
            return
        for p in range(n):
            total[p] = x.dtype.type(1) / total[p]
        s[:, :] = zero
        for k in range(count):
            row = share[k]
            for p in range(n):
                row[p] *= total[p]
            if kind == 0:
                for j in range(d):
                    m, a = means[k, j], shape[k]
                    for p in range(n):
                        s[j, p] += row[p] * (a * (m - x[j, p]))
            elif kind == 1:
                for j in range(d):
                    m, a = means[k, j], shape[k * d + j]
                    for p in range(n):
                        s[j, p] += row[p] * (a * (m - x[j, p]))
            else:
                for j in range(d):
                    for p in range(n):
                        away[j, p] = means[k, j] - x[j, p]
                for i in range(d):
                    pull[i, :] = zero
                    for j in range(i + 1):
                        a = shape[(k * d + i) * d + j]
                        for p in range(n):
                            pull[i, p] += a * away[j, p]
                for i in range(d):
                    for j in range(i + 1):
                        a = shape[(k * d + i) * d + j]
                        for p in range(n):
                            s[j, p] += row[p] * (a * pull[i, p])

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
