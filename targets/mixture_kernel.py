"""The mixture of Gaussians as a compiled loop over a block of particles."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit

from .compiled import FLAGS, compiled, exp, log
from .kernel import Kernel, kernel_type

# Mixture: parameters (K, kind, log weights, means, precisions); kind 0: numbers, 1: diagonals, 2: lower-triangular
# factors R of the precisions, R^T R, row by row.


def mixture(log_weights: np.ndarray, means: np.ndarray, kind: int, precisions: np.ndarray) -> Kernel:
    """sum_k exp(log_weights[k]) exp(-(x - m_k)^T P_k (x - m_k) / 2), the normalisers in the weights."""
    return Kernel(_mixture, np.concatenate([[len(log_weights), kind], log_weights, means.ravel(), precisions.ravel()]))


#: Components at e^-80 of the largest are left there: the products of smaller shares would be subnormal numbers in single precision, each of
#: which takes a processor a hundred cycles, and beside 1 neither counts.
LEAST = -80.0

#: Numbers in the table of components by particles that `_plane` works on: it stays in the first-level cache.
TABLE = 2560


@njit(inline="always", fastmath=FLAGS, error_model="numpy")
def _plane(x, weights, means, shape, v, s, want):  # type: ignore[no-untyped-def]
    """Round components in the plane: each pass over the table does all there is to do, and a few particles at a time."""
    n, count = x.shape[1], len(weights)
    zero, half, one, least = x.dtype.type(0), x.dtype.type(0.5), x.dtype.type(1), x.dtype.type(LEAST)
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
                    e = exp(max(table[k, p] - top[p], least))
                    total[p] += e
                    score[0, p] += a * e * (m0 - y[0, p])
                    score[1, p] += a * e * (m1 - y[1, p])
            else:
                for p in range(m):
                    total[p] += exp(max(table[k, p] - top[p], least))
        if want & 1:
            for p in range(m):
                v[lo + p] = -(top[p] + log(total[p]))
        if want & 2:
            for p in range(m):
                s[0, lo + p] = score[0, p] * (one / total[p])
                s[1, lo + p] = score[1, p] * (one / total[p])


@njit(inline="always", fastmath=FLAGS, error_model="numpy")
def _round(x, weights, means, shape, v, s, want):  # type: ignore[no-untyped-def]
    """Round components: coordinates, then components, four at a time, so that sums go to memory a quarter as often. The score is
    ``sum_k a_k r_k m_k - x sum_k a_k r_k``, whose rounding is that of x itself."""
    d, n, count = x.shape[0], x.shape[1], len(weights)
    zero, half, one, least = x.dtype.type(0), x.dtype.type(0.5), x.dtype.type(1), x.dtype.type(LEAST)
    share, top, total, pull = np.empty((count, n), x.dtype), np.empty(n, x.dtype), np.empty(n, x.dtype), np.empty(n, x.dtype)
    top[:] = -np.inf
    total[:] = zero
    pull[:] = zero
    for k in range(count):
        row, a, w = share[k], half * shape[k], weights[k]
        row[:] = zero
        for j in range(d % 4):
            m0, x0 = means[k, j], x[j]
            for p in range(n):
                row[p] += (x0[p] - m0) * (x0[p] - m0)
        for j in range(d % 4, d, 4):
            m0, m1, m2, m3 = means[k, j], means[k, j + 1], means[k, j + 2], means[k, j + 3]
            x0, x1, x2, x3 = x[j], x[j + 1], x[j + 2], x[j + 3]
            for p in range(n):
                first = (x0[p] - m0) * (x0[p] - m0) + (x1[p] - m1) * (x1[p] - m1)
                row[p] += first + ((x2[p] - m2) * (x2[p] - m2) + (x3[p] - m3) * (x3[p] - m3))
        for p in range(n):
            row[p] = w - a * row[p]
            top[p] = max(top[p], row[p])
    for k in range(count):
        row, a = share[k], shape[k]
        for p in range(n):
            e = exp(max(row[p] - top[p], least))
            total[p] += e
            row[p] = a * e
            pull[p] += a * e
    if want & 1:
        for p in range(n):
            v[p] = -(top[p] + log(total[p]))
    if want & 2:
        for p in range(n):
            total[p] = one / total[p]
        for j in range(d):
            out, y = s[j], x[j]
            for p in range(n):
                out[p] = -pull[p] * y[p]
            for k in range(count % 4):
                m0, r0 = means[k, j], share[k]
                for p in range(n):
                    out[p] += r0[p] * m0
            for k in range(count % 4, count, 4):
                m0, m1, m2, m3 = means[k, j], means[k + 1, j], means[k + 2, j], means[k + 3, j]
                r0, r1, r2, r3 = share[k], share[k + 1], share[k + 2], share[k + 3]
                for p in range(n):
                    out[p] += (r0[p] * m0 + r1[p] * m1) + (r2[p] * m2 + r3[p] * m3)
            for p in range(n):
                out[p] *= total[p]


@cache
def _mixture(dtype: type) -> Any:
    def kernel(x, parameters, v, s, want):  # type: ignore[no-untyped-def]
        d, n = x.shape
        zero, half, least = x.dtype.type(0), x.dtype.type(0.5), x.dtype.type(LEAST)
        count, kind = int(parameters[0]), int(parameters[1])
        weights = parameters[2 : 2 + count]
        means = parameters[2 + count : 2 + count + count * d].reshape((count, d))
        shape = parameters[2 + count + count * d :]
        if kind == 0:
            if d == 2:
                _plane(x, weights, means, shape, v, s, want)
            else:
                _round(x, weights, means, shape, v, s, want)
            return
        share, top, total = np.empty((count, n), x.dtype), np.empty(n, x.dtype), np.empty(n, x.dtype)
        away, pull = np.empty((d, n), x.dtype), np.empty((d if kind == 2 else 0, n), x.dtype)

        for k in range(count):  # log densities of the components
            row = share[k]
            row[:] = zero
            if kind == 1:
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
                e = exp(max(share[k, p] - top[p], least))
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
            if kind == 1:
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
