"""Exact optimal transport between large samples: a sparse linear program that grows until its optimality is certified."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import MixrateError
from .numerics import EPS

#: Nearest neighbours of each point among the first arcs, and arcs that a row may gain per round.
NEIGHBOURS, GAINED = 10, 5

#: Arcs are dropped in the first rounds only: later the arcs only grow, so the rounds end.
PRUNED, ROUNDS = 12, 200

#: Pivots of the network simplex; 1e6 are met at n = 20,000.
PIVOTS = 1_000_000_000


class Certified(NamedTuple):
    """Optimal transport with its certificate ``bound <= W2^2 <= value``.

    Arguments:
        value: cost of a plan whose marginals are the two samples, to the last point.
        bound: value of a pair of potentials with ``f(x) + g(y) <= |x - y|^2`` for every pair of points.
        f, g: those potentials, shapes (n,), (m,).
    """

    value: float
    bound: float
    f: np.ndarray
    g: np.ndarray


def column_generation(x: np.ndarray, y: np.ndarray, gap: float = 0.0) -> Certified:
    """Optimal transport of squared distance between samples of sizes n and m, each with equal weights.

    Few of the n m pairs (arcs) carry mass or come close to it. A network simplex solves the program restricted to the arcs
    at hand; one pass over all pairs finds the ``c_ij - f_i - g_j < 0`` that are missing (the most negative of each row join)
    and the dual bound ``mean f + mean_j min_i (c_ij - f_i)``; repeat until none is missing or the bound is close. Both
    samples are centred: ``W2^2 = |shift|^2 + W2^2`` of the centred ones. First arcs: a plan along a tree of half-spaces, and
    nearest neighbours after x -> B^1/2 x, y -> B^-1/2 y with B the optimal map between Gaussians of the same moments, where
    the reduced cost under Gaussian potentials is ``|B^1/2 x - B^-1/2 y|^2``. Masses are whole numbers: no rounding in a plan.

    Cost: 4 to 9 rounds of O(n m d) and a sparse simplex; O((n + m)(d + 20)) memory. One thread.
    Arguments:
        x, y: shapes (n, d), (m, d), about unit scale, finite.
        gap: stop at ``value - bound <= gap value``; 0: at rounding.
    Errors: `MixrateError` where the solver fails or the certificate is not reached.
    References: Schmitzer, "A sparse multiscale algorithm for dense optimal transport" (2016), for restricting the program and
        checking it, https://doi.org/10.1007/s10851-016-0653-9
        Bonneel, van de Panne, Paris, Heidrich, "Displacement interpolation using Lagrangian mass transport" (2011), for the
        network simplex, https://doi.org/10.1145/2070781.2024192
    """
    from ot.lp.emd_wrap import emd_c_sparse

    from .pricing import arc_costs, price

    (n, d), m = x.shape, len(y)
    shift = x.mean(0) - y.mean(0)
    x0, y0 = np.ascontiguousarray(x - x.mean(0)), np.ascontiguousarray(y - y.mean(0))  # particles come coordinate by coordinate
    constant = float(shift @ shift)
    divisor = int(np.gcd(n, m))
    a, b, mass = np.full(n, m / divisor), np.full(m, n / divisor), n * (m / divisor)
    yt = np.ascontiguousarray(y0.T)
    chosen, reduced, column = np.empty((n, min(GAINED, m)), np.int64), np.empty((n, min(GAINED, m))), np.empty(m)
    arcs, f, g = _first_arcs(x0, y0, a, b)
    for k in range(ROUNDS):
        rows, columns = np.divmod(arcs, m)
        cost = arc_costs(x0, y0, rows, columns)
        # costs that are already reduced by potentials near the optimum let the simplex take the right arcs first
        small = cost - f[rows] - g[columns]
        unit = float(np.abs(small).max()) or 1.0
        tails, heads, flow, _, df, dg, status = emd_c_sparse(a, b, rows.astype(np.uint64), columns.astype(np.uint64), small / unit, PIVOTS)
        f, g = f + unit * df, g + unit * dg
        tails, heads = tails.astype(np.int64), heads.astype(np.int64)
        if status != 1 or (np.bincount(tails, flow, n) != a).any() or (np.bincount(heads, flow, m) != b).any():
            raise MixrateError(f"the optimal transport solver did not converge on {n} x {m} points: status {status} in round {k}")
        value = float(arc_costs(x0, y0, tails, heads) @ flow) / mass
        # each reduced cost of the pass is a sum of d + 4 terms of this size; potentials are sums along a tree, and its
        # artificial arcs are n times as dear as the dearest
        rounding = EPS * (d + 4) * float((x0**2).sum(1).max() + (y0**2).sum(1).max() + np.abs(f).max())
        noise = rounding + 4 * EPS * (n + m) * unit
        price(x0, yt, f, g, -noise, chosen, reduced, column)
        bound = float(f.mean() + column.mean()) - rounding
        missing = chosen >= 0
        if not missing.any() or value - bound <= max(gap * (constant + value), noise):
            f0, g0 = f + 2 * x0 @ shift, column - 2 * y0 @ shift  # potentials of the samples where they are
            return Certified(constant + value, constant + min(bound, value), f0, g0 + constant)
        if k < PRUNED:
            slack = cost - f[rows] - g[columns]
            # potentials move by about the worst violation before it is mended; the plan stays in any case
            arcs = np.concatenate([arcs[slack <= -reduced.min()], tails * m + heads])
        arcs = np.unique(np.concatenate([arcs, np.nonzero(missing)[0] * m + chosen[missing]]))
    raise MixrateError(f"optimal transport between {n} x {m} points is not certified after {ROUNDS} rounds: {bound} <= W2^2 <= {value}")


def _first_arcs(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arcs i m + j that carry a plan, and that an optimal plan is likely to use; sorted."""
    n, m = len(x), len(y)
    forth, back = _gaussian_map(x, y)
    u, v = x @ forth, y @ back
    axes = np.linalg.eigh(u.T @ u / n + v.T @ v / m)[1].T[::-1]
    p, q = _along_tree(u, axes), _along_tree(v, axes)
    # north-west corner: masses laid end to end in the two orders; points that overlap are joined
    ends = np.cumsum(a[p]), np.cumsum(b[q])
    levels = np.union1d(*ends)
    plan = p[np.searchsorted(ends[0], levels)] * m + q[np.searchsorted(ends[1], levels)]
    near, close = _nearest(u, v), _nearest(v, u)
    arcs = np.unique(np.concatenate([plan, (np.arange(n)[:, None] * m + near).ravel(), (close * m + np.arange(m)[:, None]).ravel()]))
    return arcs, (x**2).sum(1) - (u**2).sum(1), (y**2).sum(1) - (v**2).sum(1)


def _along_tree(x: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """The points in the order of the leaves of a tree that halves them along one axis after the other."""
    n = len(x)
    cell, depth = np.zeros(n, np.int64), int(np.ceil(np.log2(max(n, 2))))
    for k in range(depth):
        order = np.lexsort((x @ axes[k % len(axes)], cell))
        cell[order] = np.arange(n) * 2 ** (k + 1) // n
    return np.argsort(cell, kind="stable")


def _nearest(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """For each row of x the nearest rows of y, shape (n, min(10, m))."""
    k = min(NEIGHBOURS, len(y))
    if x.shape[1] <= 4 and len(np.unique(y, axis=0)) > len(y) // 2:  # a tree is of no use among duplicates
        from scipy.spatial import cKDTree

        return np.asarray(cKDTree(y).query(x, k)[1], np.int64).reshape(len(x), k)
    from .pricing import price

    chosen, zero = np.empty((len(x), k), np.int64), np.zeros(len(x))
    price(x, np.ascontiguousarray(y.T), zero, np.zeros(len(y)), np.inf, chosen, np.empty((len(x), k)), np.empty(len(y)))
    return chosen


def _gaussian_map(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``B^1/2`` and ``B^-1/2``, ``B = P^-1/2 (P^1/2 Q P^1/2)^1/2 P^-1/2``; the identity where a sample has no spread."""

    def power(s: np.ndarray, e: float) -> np.ndarray:
        w, basis = np.linalg.eigh(s)
        return np.asarray((basis * np.maximum(w, 1e-12 * w[-1]) ** e) @ basis.T)

    p, q = x.T @ x / len(x), y.T @ y / len(y)
    if not min(np.trace(p), np.trace(q)) > 1e-200:
        return np.eye(x.shape[1]), np.eye(x.shape[1])
    root, inverse = power(p, 0.5), power(p, -0.5)
    b = inverse @ power(root @ q @ root, 0.5) @ inverse
    return power(b, 0.5), power(b, -0.5)
