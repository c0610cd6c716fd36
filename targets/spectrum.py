"""The Langevin generator on a 1-D mesh: its spectral gap is the Poincare constant.

With p = exp(-V) and psi = density / sqrt(p), the Fokker-Planck equation reads ``d psi/dt = -B^T B psi`` with
``B = d/dx + V'/2``; ``B sqrt(p) = 0``. B is discretised by the Fourier derivative, whose error falls faster than any
power of the spacing while psi is smooth and vanishes at the ends of the box.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy  # its parts are loaded where they are used
import torch
from scipy.linalg import eigh_tridiagonal

from ..errors import Unsupported
from .base import Constant, Target
from .mesh import Mesh


def fourier_derivative(n: int, spacing: float) -> np.ndarray:
    """Differentiation matrix of the trigonometric interpolant on n (odd) uniform nodes; antisymmetric.

    References: Trefethen, "Spectral Methods in MATLAB" (2000), chapter 3, https://doi.org/10.1137/1.9780898719598
    """
    j = np.arange(n)
    difference = j[:, None] - j[None, :]
    with np.errstate(divide="ignore"):
        matrix = (-1.0) ** difference / (2 * np.sin(np.pi * difference / n))
    np.fill_diagonal(matrix, 0.0)
    return np.asarray(matrix * (2 * np.pi / (n * spacing)))


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values and right vectors of B, in the order of the generator's eigenvalues.

    Arguments:
        rates: the generator's eigenvalues (decay rates), increasing; the first is 0 to rounding.
        modes: orthonormal columns, modes of psi; the first is sqrt(pi).
    """

    rates: np.ndarray
    modes: np.ndarray


@lru_cache(maxsize=16)
def spectrum(target: Target, mesh: Mesh) -> Spectrum:
    """The generator's eigenpairs on a 1-D mesh.

    Through the singular values of B rather than the eigenvalues of B^T B: a gap as small as 1e-20 of the largest
    rate keeps its relative accuracy. The last few results are kept: laws, gaps and flows ask for the same one.
    """
    _, s, vt = np.linalg.svd(_factor(target, mesh))
    return Spectrum(s[::-1] ** 2, vt[::-1].T)


def _factor(target: Target, mesh: Mesh) -> np.ndarray:
    """B at the nodes of a 1-D mesh."""
    if mesh.dim != 1:
        raise Unsupported(f"the dense generator is one-dimensional, the mesh has {mesh.dim} axes")
    slope = -target.score(torch.as_tensor(mesh.nodes)).numpy()[:, 0]
    return np.asarray(fourier_derivative(mesh.n, float(mesh.spacing[0])) + np.diag(slope / 2))


def finite_volume(log_density: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Diagonal and off-diagonal of the symmetrised, reversible finite-volume generator with reflecting ends.

    Jump rate from node i to i +- 1: ``sqrt(p_j / p_i) / dx^2``. Second order in the spacing, needs no score, and keeps
    densities positive: the independent reference for the spectral route, and the generator of laws known only by value.
    """
    step = np.exp(0.5 * np.diff(log_density))
    up, down = step / spacing**2, 1.0 / (step * spacing**2)
    diagonal = np.zeros(len(log_density))
    diagonal[:-1] += up
    diagonal[1:] += down
    return diagonal, np.full(len(log_density) - 1, -1.0 / spacing**2)


def gap_of_density(log_density: np.ndarray, spacing: float) -> float:
    """Spectral gap of the reversible finite-volume generator of a 1-D density: second order in the spacing."""
    # the tails beyond this depth carry no mass but would set the largest rate
    keep = np.flatnonzero(log_density > log_density.max() - 60.0)
    window = slice(int(keep[0]), int(keep[-1]) + 1)
    logs = log_density[window]
    diagonal, off = finite_volume(logs, spacing)
    _, modes = eigh_tridiagonal(diagonal, off, select="i", select_range=(0, 3))
    n = np.arange(len(logs) - 1)
    return least_quotient(modes, np.exp(logs - logs.max()), [(n, n + 1, np.full(len(n), spacing**-2))])


def least_quotient(modes: np.ndarray, p: np.ndarray, edges: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> float:
    """The smallest quotient E|grad f|^2 / Var f over the span of the modes: sums of squares, which keep relative accuracy
    where the eigenvalue itself lies below the rounding of the matrix."""
    root = np.sqrt(p)
    f = modes / root[:, None]
    f -= (p @ f) / p.sum()
    energy = np.zeros((f.shape[1],) * 2)
    for i, j, c in edges:
        difference = f[j] - f[i]
        energy += (difference * (c * root[i] * root[j])[:, None]).T @ difference
    variance, vectors = np.linalg.eigh((f * p[:, None]).T @ f)
    whitened = vectors[:, 1:] / np.sqrt(variance[1:])  # one combination is constant
    return float(np.linalg.eigvalsh(whitened.T @ energy @ whitened)[0])


def gap_of_law(x: np.ndarray, log_density: np.ndarray) -> tuple[float, float]:
    """(gap, error) of a smooth 1-D density known at nodes: finite volumes on two finer meshes, extrapolated.

    The error is what the extrapolation moved plus what cutting a tenth of the box at either end moves: a gap that the
    tails decide (exponential ones, say) is not known from a box.

    Arguments:
        x: uniform nodes, increasing.
        log_density: its logarithm there; -inf only in the tails.
    """
    keep = np.flatnonzero(log_density > log_density.max() - 60.0)
    x, log_density = x[keep[0] : keep[-1] + 1], log_density[keep[0] : keep[-1] + 1]
    spline = scipy.interpolate.make_interp_spline(x, log_density, k=5)
    found = []
    for cut in (0.0, 0.1 * float(x[-1] - x[0])):
        gaps = []
        for n in (2001, 4001):
            fine = np.linspace(x[0] + cut, x[-1] - cut, n)
            gaps.append(gap_of_density(spline(fine), float(fine[1] - fine[0])))
        found.append((gaps[1] + (gaps[1] - gaps[0]) / 3, abs(gaps[1] - gaps[0]) / 3))
    best, error = found[0]
    return best, error + abs(found[1][0] - best)


@lru_cache(maxsize=64)
def spectral_gap(target: Target) -> Constant:
    """The Poincare constant of a 1-D target as the gap of its generator, with a convergence check.

    The gap is computed on two meshes, and again on a box a quarter wider; the value is on the safe side by the
    largest change. Where two meshes of 401 and 601 nodes disagree, meshes twice as fine are tried.

    Errors: `Unsupported` where those disagree by more than 1e-6 too (the mesh does not resolve the target).
    """
    try:
        return _gap_on(target, (401, 601, 751))
    except Unsupported:
        return _gap_on(target, (801, 1201, 1501))


def _gap_on(target: Target, sizes: tuple[int, int, int]) -> Constant:
    """The gap on two meshes and on a wider box."""
    lo, hi = target.extent()
    width = float(hi[0] - lo[0])
    found = []
    for stretch, nodes in zip((1.0, 1.0, 1.25), sizes, strict=True):
        pad = (stretch - 1) * width / 2
        mesh = Mesh((float(lo[0]) - pad,), (float(hi[0]) + pad,), nodes)
        if target.log_normalizer is not None:
            logs = -target.potential(torch.as_tensor(mesh.nodes)).numpy() - target.log_normalizer
            missed = abs(float(np.exp(logs).sum()) * mesh.cell - 1)
            if not missed < 1e-9:
                raise Unsupported(f"the mesh misses {missed:.2g} of the mass of {target.name}: it has features below {float(mesh.spacing[0]):.2g}")
        b = _factor(target, mesh)
        s = np.linalg.svd(b, compute_uv=False)
        rounding = 1e-15 * float(s[0])  # of a singular value, against the largest
        found.append((float(s[-2]) ** 2, 2 * float(s[-2]) * rounding + rounding**2))
    value = found[1][0]
    error = max(abs(g - value) for g, _ in found) + max(e for _, e in found)
    if not (error <= 1e-6 * value + 1e-13 and error < value):
        raise Unsupported(f"the spectral gap of {target.name} is not converged: {value:.8g} +- {error:.2g}")
    return Constant(value - error, "numeric", f"gap of the spectral generator, converged to {error:.1g}")
