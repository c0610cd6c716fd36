"""The Poincare constant of a density in the plane: the spectral gap of a reversible finite-volume generator."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import scipy  # its parts are loaded where they are used
import torch

from ..errors import Unsupported
from .base import DEPTH, Constant, Target
from .spectrum import least_quotient

#: Nodes per axis, each about 1.4 times the one before: second order, so two neighbours give an error estimate.
NODES = (91, 127, 181, 255, 361, 511, 723)

#: Relative change of the extrapolated gap, twice in a row, at which it counts as converged.
CONVERGED = 3e-3


def generator_gap(v: np.ndarray, spacing: np.ndarray, mean: Literal["geometric", "arithmetic"] = "geometric") -> float:
    """Spectral gap of the reversible generator of ``exp(-v)`` at the nodes of a rectangular mesh, no flux outside.

    The rate between neighbours is ``c / (p_i dx^2)`` with the conductance c the geometric or the arithmetic mean of their
    densities: detailed balance holds exactly, and the error is of second order in the spacing.

    Arguments:
        v: potential at the nodes, shape (n0, n1); +inf leaves a node out.
        spacing: per axis.
    """
    keep = np.isfinite(v)
    index = np.full(v.shape, -1)
    index[keep] = np.arange(int(keep.sum()))
    diagonal = np.zeros(int(keep.sum()))
    rows, columns, values, edges = [], [], [], []
    for axis, step in enumerate(spacing):
        low = [slice(None), slice(None)]
        high = [slice(None), slice(None)]
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        i, j = index[tuple(low)].ravel(), index[tuple(high)].ravel()
        edge = (i >= 0) & (j >= 0)
        i, j = i[edge], j[edge]
        rise = v[tuple(high)].ravel()[edge] - v[tuple(low)].ravel()[edge]  # V_j - V_i
        if mean == "geometric":
            up, down, off = np.exp(-rise / 2), np.exp(rise / 2), np.ones_like(rise)
        else:
            up, down, off = (1 + np.exp(-rise)) / 2, (1 + np.exp(rise)) / 2, np.cosh(rise / 2)
        np.add.at(diagonal, i, up / step**2)
        np.add.at(diagonal, j, down / step**2)
        rows += [i, j]
        columns += [j, i]
        values += [-off / step**2] * 2
        edges.append((i, j, off / step**2))
    size = len(diagonal)
    n = np.arange(size)
    matrix = scipy.sparse.csc_array(
        (np.concatenate([*values, diagonal]), (np.concatenate([*rows, n]), np.concatenate([*columns, n]))), shape=(size, size)
    )
    start = np.cos(n)  # any fixed vector: the result must not depend on a global random state
    try:
        _, modes = scipy.sparse.linalg.eigsh(matrix, k=4, sigma=-1e-8, which="LM", v0=start, tol=1e-10, maxiter=300)
    except (scipy.sparse.linalg.ArpackError, RuntimeError) as error:  # no convergence, or a singular factor: a set in pieces
        raise Unsupported(f"no spectral gap was found on this mesh: {' '.join(str(error).split())}") from None
    return least_quotient(modes, np.exp(-(v[keep] - v[keep].min())), edges)


@lru_cache(maxsize=64)
def plane_gap(target: Target, mean: Literal["geometric", "arithmetic"] = "geometric") -> Constant:
    """The Poincare constant of a smooth 2-D target, on the safe side by the error of its convergence.

    The gap on finer and finer meshes, extrapolated pairwise by the second order of the discretisation, until three
    extrapolations agree to 3e-3; and once more on a smaller set (depth 35 instead of 45), because a gap that the tails
    decide is not known from a box.

    Cost: sparse factorisations of up to 511^2 unknowns, a second or two.

    Errors: `Unsupported` where the meshes do not converge, the boxes disagree, or the gap is below rounding.

    References: Eymard, Gallouet, Herbin, "Finite Volume Methods" (2000), chapter 3 (the scheme),
        https://doi.org/10.1016/S1570-8659%2800%2907005-8
    """
    if target.dim != 2:
        raise Unsupported(f"plane_gap is for d = 2, {target.name} has d = {target.dim}")
    before: tuple[int, float] | None = None
    extrapolated: list[float] = []
    for n in NODES:
        gap = _on_box(target, n, DEPTH, mean)
        if before is not None:
            ratio = (n - 1) ** 2 / (before[0] - 1) ** 2
            extrapolated.append(gap + (gap - before[1]) / (ratio - 1))
        before = (n, gap)
        if len(extrapolated) > 2 and np.ptp(extrapolated[-3:]) <= CONVERGED * extrapolated[-1]:
            break
    else:
        raise Unsupported(f"the gap of {target.name} is not converged at {NODES[-1]} nodes per axis: {extrapolated[-2]:.4g}, {extrapolated[-1]:.4g}")
    value = extrapolated[-1]
    error = float(np.ptp(extrapolated[-3:])) + abs(_on_box(target, n, 35.0, mean) - gap)
    if not error <= 0.1 * value:
        raise Unsupported(f"the gap of {target.name} is not known: {value:.4g} +- {error:.2g}")
    return Constant(
        value - error, "numeric", f"gap of a reversible finite-volume generator in the plane, {n} nodes per axis, converged to {error:.1g}"
    )


def _on_box(target: Target, n: int, depth: float, mean: Literal["geometric", "arithmetic"]) -> float:
    """The gap on a mesh of n nodes per axis over the target's box, where the density is within exp(-depth) of its maximum."""
    lo, hi = target.extent()
    axes = [np.linspace(a, b, n) for a, b in zip(lo, hi, strict=True)]
    nodes = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=1)
    v = target.potential(torch.as_tensor(nodes)).numpy().reshape(n, n)
    v = np.where(v - v.min() < depth, v, np.inf)
    return generator_gap(v, np.array([a[1] - a[0] for a in axes]), mean)
