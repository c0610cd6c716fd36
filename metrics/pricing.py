"""Compiled loops over pairs of two point sets: squared distances are made on the fly, never stored."""

from __future__ import annotations

import numpy as np

from ..targets.compiled import compiled

#: Fused multiply-add and reordered minima; infinities keep their meaning.
FAST = {"contract", "nnan", "nsz", "reassoc"}

#: Columns of a block: its distances to one row fit the first-level cache.
BLOCK = 512


@compiled(flags=FAST)
def price(
    x: np.ndarray, yt: np.ndarray, u: np.ndarray, v: np.ndarray, limit: float, chosen: np.ndarray, worst: np.ndarray, column: np.ndarray
) -> None:
    """For each row the columns of least reduced cost ``|x_i - y_j|^2 - u_i - v_j``, and ``min_i |x_i - y_j|^2 - u_i`` for each column.

    Cost: O(n m d) in time, nothing but the results and a block in memory.
    Arguments:
        x: shape (n, d); yt: the other points transposed, shape (d, m); u, v: potentials, shapes (n,), (m,).
        limit: only reduced costs below it are kept.
        chosen, worst: out, shape (n, k): columns (-1 for none) and their reduced costs, in no order.
        column: out, shape (m,).
    """
    n, d = x.shape
    m, k = yt.shape[1], chosen.shape[1]
    chosen[:] = -1
    worst[:] = limit
    y, squares, w, least, row = np.empty((d, BLOCK)), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    lifted = np.empty(n)
    for i in range(n):
        s = 0.0
        for t in range(d):
            s += x[i, t] * x[i, t]
        lifted[i] = s - u[i]
    for start in range(0, m, BLOCK):
        width = min(BLOCK, m - start)
        squares[:] = 0.0
        for t in range(d):
            for j in range(width):  # a copy, whose rows the compiler knows to be contiguous
                y[t, j] = yt[t, start + j]
                squares[j] += y[t, j] * y[t, j]
        w[:width] = v[start : start + width]
        least[:] = np.inf
        for i in range(n):
            top = lifted[i]
            for j in range(width):
                row[j] = squares[j] + top
            t = 0
            while t + 4 <= d:
                a, b, c, e = -2 * x[i, t], -2 * x[i, t + 1], -2 * x[i, t + 2], -2 * x[i, t + 3]
                for j in range(width):
                    row[j] += a * y[t, j] + b * y[t + 1, j] + c * y[t + 2, j] + e * y[t + 3, j]
                t += 4
            while t < d:
                a = -2 * x[i, t]
                for j in range(width):
                    row[j] += a * y[t, j]
                t += 1
            smallest = np.inf
            for j in range(width):
                least[j] = min(least[j], row[j])
                row[j] -= w[j]
                smallest = min(smallest, row[j])
            bar = worst[i, 0]
            for q in range(1, k):
                bar = max(bar, worst[i, q])
            if smallest < bar:
                for j in range(width):
                    if row[j] < bar:
                        q = 0
                        for r in range(1, k):
                            if worst[i, r] > worst[i, q]:
                                q = r
                        worst[i, q], chosen[i, q] = row[j], start + j
                        bar = worst[i, 0]
                        for r in range(1, k):
                            bar = max(bar, worst[i, r])
        column[start : start + width] = least[:width]


@compiled(flags={"contract"})
def arc_costs(x: np.ndarray, y: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """``|x_i - y_j|^2`` for the given pairs, from differences: no digits are lost where the points are close."""
    cost = np.empty(len(rows))
    for a in range(len(rows)):
        s = 0.0
        for t in range(x.shape[1]):
            e = x[rows[a], t] - y[columns[a], t]
            s += e * e
        cost[a] = s
    return cost
