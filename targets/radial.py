"""Spherically symmetric targets: whatever has no closed form is quadrature over the radius, with its Jacobian."""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
import scipy  # its parts are loaded where they are used
import torch

from ..errors import Unsupported
from .base import DEPTH, Batch, Constant, Target, Values

if TYPE_CHECKING:
    from ..samplers.noise import Noise

PANELS = 2000  # of the quadrature
NODES = 10  # of Gauss and Legendre, per panel
MESH = 6000  # cells of the finest mesh of the generator


class Radial(Target):
    """A density exp(-V(|x|))/Z in any dimension d >= 1, given by its `profile` V(r) on r >= 0.

    The radius has the density ``area r^(d-1) exp(-V(r)) / Z`` and the direction is uniform and independent of it (a sign in
    d = 1). Normaliser, moments and the inverse distribution function of the radius come from Gauss-Legendre quadrature on
    panels that are shorter near the origin.

    The Poincare constant (`radial_gap`) comes by separation of variables: on functions ``f(r) Y_l(x/r)``, Y_l a spherical
    harmonic of degree l, the generator is ``f'' + ((d-1)/r - V') f' - l (l+d-2) f / r^2``.

    References: Bonnefont, Joulin, Ma, "Spectral gap for spherically symmetric log-concave probability measures, and beyond"
        (2016), https://arxiv.org/abs/1406.4621
    """

    @abstractmethod
    def profile(self, r: Values) -> Values:
        """V as a function of the radius, any shape; differentiable twice by autograd."""

    # Hooks: the default is correct for every profile.

    def slope(self, r: Values) -> Values:
        """dV/dr at each entry of `r`. Default: reverse-mode differentiation of `profile`."""
        with torch.enable_grad():
            y = r.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.profile(y).sum(), y)
        return gradient

    @cached_property
    def reach(self) -> float:
        """A radius beyond which there is less than about 1e-19 of the mass. Default: outward search."""
        scale = 1.0
        while scale < 1e6:
            r = np.linspace(0.0, scale, 4097)[1:]
            logs = self.log_radial(r)
            inside = np.flatnonzero(logs > logs.max() - DEPTH)
            if inside[-1] < len(r) - 1:
                return float(r[inside[-1]] + 2 * r[0])  # the crossing lies between nodes
            scale *= 2.0
        raise Unsupported(f"{self.name} does not decay within |x| < 1e6")

    # The same for every profile.

    def potential(self, x: Batch) -> Values:
        return self.profile(length(x))

    def score(self, x: Batch) -> Batch:
        r = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        return -self.slope(r) * x / r.clamp(min=torch.finfo(x.dtype).tiny)  # 0 at the origin, whatever the slope

    def log_radial(self, r: np.ndarray) -> np.ndarray:
        """log of ``r^(d-1) exp(-V(r))`` at r > 0."""
        return np.asarray((self.dim - 1) * np.log(r) - self.profile(torch.as_tensor(r)).numpy())

    @cached_property
    def _panels(self) -> tuple[np.ndarray, np.ndarray, float, float]:
        """Edges of the panels, the probability of each, log Z, E r^2."""
        found = []
        for n in (PANELS, 2 * PANELS):
            edges = self.reach * np.linspace(0.0, 1.0, n + 1) ** 2
            at, weight = np.polynomial.legendre.leggauss(NODES)
            half = np.diff(edges)[:, None] / 2
            r = edges[:-1, None] + half * (1 + at)
            logs = self.log_radial(r)
            top = float(logs.max())
            mass = np.exp(logs - top) * weight * half
            total = float(mass.sum())
            found.append((edges, mass.sum(1) / total, math.log(total) + top, float((mass * r * r).sum()) / total))
        if not abs(found[1][2] - found[0][2]) < 1e-11:
            raise Unsupported(f"{self.name} has features that {PANELS} panels on [0, {self.reach:.4g}] do not resolve")
        return found[1]

    @property
    def log_normalizer(self) -> float:
        return log_sphere_area(self.dim) + self._panels[2]

    @cached_property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        eye = torch.eye(self.dim, dtype=torch.float64)
        return torch.zeros(self.dim, dtype=torch.float64), self._panels[3] / self.dim * eye

    @cached_property
    def _quantile(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """logit of the radius' distribution function at the edges, the edges, and the slope of the one in the other."""
        edges, mass, log_mass, _ = self._panels
        left, right = np.cumsum(mass)[:-1], np.cumsum(mass[::-1])[::-1][1:]
        inside = np.flatnonzero((left > 1e-300) & (right > 1e-18))
        left, right, r = left[inside], right[inside], edges[1:-1][inside]
        logit = np.log(left) - np.log(right)
        kept = np.flatnonzero(np.diff(logit, prepend=-np.inf) > 0)  # between two shells it stands still
        left, right, r, logit = left[kept], right[kept], r[kept], logit[kept]
        secant = np.diff(r) / np.diff(logit)
        with np.errstate(over="ignore"):
            slope = left * right / (left + right) * np.exp(log_mass - self.log_radial(r))
        # monotone (Fritsch, Carlson): at most thrice the secants beside it, which binds only where there is no mass
        limit = 3 * np.minimum(np.append(secant, secant[-1]), np.append(secant[0], secant))
        return logit, r, np.minimum(slope, limit)

    def radius_quantile(self, u: torch.Tensor) -> torch.Tensor:
        """The inverse of the radius' distribution function at each entry of `u`, any shape, entries in (0, 1)."""
        logit, r, slope = self._quantile
        y = scipy.special.logit(u.double().cpu().numpy())
        values = scipy.interpolate.CubicHermiteSpline(logit, r, slope)(np.clip(y, logit[0], logit[-1]))
        # within the first panel of the origin the density of x is level: mass goes as r^d
        values *= np.exp(np.minimum(y - logit[0], 0.0) / self.dim)
        return torch.as_tensor(values).to(u)

    def sample(self, n: int, noise: Noise) -> Batch:
        direction = torch.nn.functional.normalize(noise.normal((n, self.dim)), dim=1)
        return self.radius_quantile(noise.uniform((n, 1))) * direction

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        return np.full(self.dim, -self.reach), np.full(self.dim, self.reach)


def length(x: Batch) -> Values:
    """|x| of each row, with derivatives 0 of every order at the origin (a norm's second derivative there is not a number)."""
    centre = (x == 0).all(1)
    return torch.where(centre, 0.0, torch.linalg.vector_norm(torch.where(centre.unsqueeze(1), 1.0, x), dim=1))


def log_sphere_area(dim: int) -> float:
    """log of the area of the unit sphere in R^dim: 2 pi^(d/2) / Gamma(d/2), which is 2 in d = 1."""
    return math.log(2.0) + 0.5 * dim * math.log(math.pi) - math.lgamma(dim / 2)


@lru_cache(maxsize=64)
def radial_gap(target: Radial) -> Constant:
    """The Poincare constant of a spherically symmetric target by separation of variables, with a convergence check.

    The gap is the smaller of the second eigenvalue at l = 0 and the first at l = 1 (it grows with l). Both are computed by
    finite volumes on three meshes and extrapolated twice (Richardson), and again on a longer ray. The error is four times what
    the last extrapolation moved, which covers what is left of any order from h^2 on (a cusp at the origin leaves h^3), plus
    what the longer ray moved; the value is on the safe side by it.

    Errors: `Unsupported` where these disagree by more than 1e-6: the mesh does not resolve the target, or the tails decide
        (a continuous spectrum).
    """
    found = []
    for depth in (60.0, 75.0):
        lo, hi = _window(target, depth)
        for gap in (_second_radial, _first_angular):
            a, b, c = (gap(target, np.linspace(lo, hi, n + 1)) for n in (MESH // 4, MESH // 2, MESH))
            first, second = (4 * b - a) / 3, (4 * c - b) / 3
            best = (16 * second - first) / 15
            found.append((best, 4 * abs(best - second)))
    value = min(found[2][0], found[3][0])
    error = value - min(best - spread for best, spread in found[2:]) + abs(min(found[0][0], found[1][0]) - value) + 1e-14 * value
    if not (value > 0 and error <= 1e-6 * value):
        raise Unsupported(f"the radial spectral gap of {target.name} is not converged: {value:.8g} +- {error:.2g}")
    return Constant(value - error, "numeric", f"separation of variables, finite volumes, converged to {error:.1g}")


def _window(target: Radial, depth: float) -> tuple[float, float]:
    """The ray's part on which the density of the radius is within exp(-depth) of its largest; from 0 where it is at the first node."""
    far = target.reach
    while True:
        r = np.linspace(0.0, far, 4097)[1:]
        logs = target.log_radial(r)
        inside = np.flatnonzero(logs > logs.max() - depth)
        if inside[-1] < len(r) - 1:
            return (0.0 if inside[0] == 0 else float(r[inside[0]])), float(r[inside[-1]])
        far *= 1.25
        if far > 20 * target.reach:
            raise Unsupported(f"{target.name} does not decay to exp(-{depth:g}) within {far:.3g}")


def _second_radial(target: Radial, edges: np.ndarray) -> float:
    """Second eigenvalue at l = 0, with reflecting ends: jumps over an edge at rate weight(edge) / (h^2 weight(cell)).

    As the square of a singular value of the discrete gradient, which is an eigenvalue of a tridiagonal matrix with zero
    diagonal (Golub, Kahan): a gap of 1e-16 of the largest rate keeps seven digits.
    """
    h = float(edges[1] - edges[0])
    cells, walls = target.log_radial((edges[1:] + edges[:-1]) / 2), target.log_radial(edges[1:-1])
    off = np.empty(2 * len(walls))
    off[0::2] = np.exp((walls - cells[:-1]) / 2) / h
    off[1::2] = np.exp((walls - cells[1:]) / 2) / h
    at = len(cells)  # below it lie the negative values and 0
    value = scipy.linalg.eigh_tridiagonal(np.zeros(len(off) + 1), off, eigvals_only=True, select="i", select_range=(at, at))
    return float(value[0]) ** 2


def _first_angular(target: Radial, edges: np.ndarray) -> float:
    """First eigenvalue at l = 1. With f = r g it is that of ``-g'' - ((d+1)/r - V') g' + V' g / r``: nothing is singular.

    As the quotient of its eigenvector, a sum of squares and of V'/r: the large rates, of order 1/h^2, do not cancel.
    """
    h = float(edges[1] - edges[0])
    r, wall = (edges[1:] + edges[:-1]) / 2, edges[1:-1]
    cells, walls = target.log_radial(r) + 2 * np.log(r), target.log_radial(wall) + 2 * np.log(wall)
    left, right = np.exp((walls - cells[:-1]) / 2) / h, np.exp((walls - cells[1:]) / 2) / h
    level = target.slope(torch.as_tensor(r)).numpy() / r
    diagonal = level.copy()
    diagonal[:-1] += left**2
    diagonal[1:] += right**2
    _, vectors = scipy.linalg.eigh_tridiagonal(diagonal, -left * right, select="i", select_range=(0, 0))
    mode = vectors[:, 0]
    return float((((right * mode[1:] - left * mode[:-1]) ** 2).sum() + (level * mode**2).sum()) / (mode**2).sum())
