"""Targets in the plane: whatever has no closed form is quadrature to rounding."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import special

from ..errors import Unsupported
from .base import DEPTH, Batch, Target
from .inverse import positions
from .mesh import Mesh

if TYPE_CHECKING:
    from ..samplers.noise import Noise

#: Nodes per axis, each half as many again: two that agree are converged.
NODES = (65, 97, 145, 217, 325, 487, 731, 1097)

#: Nodes on the lines that draws are made on, per node of the mesh.
FINER = 5

#: Values of the potential held at a time: a few arrays of them fit a cache.
BLOCK = 2**15


class Plane(Target):
    """A smooth potential in the plane; normaliser, moments and an exact sampler come from quadrature.

    The trapezoid rule on a box that holds all but 1e-19 of the mass converges faster than any power of the spacing. Meshes are
    refined until log Z and the moments of two of them agree to 1e-11, and the integrals along x2, line by line, do not
    change by 1e-11 of the largest when the nodes move half a cell: a lattice integrates narrow ridges long before it
    resolves them. A draw is x1 by the inverse of its marginal's distribution function, then x2 by that of the conditional
    density, on a line of nodes at the draw's own x1. Such a mesh has at least 1.1 nodes per standard deviation of the
    narrowest Gaussian piece, and the lines have five times as many: both distribution functions are right to 1e-8.

    Cost: a draw costs one line of potential evaluations, a few hundred.
    """

    @property
    def dim(self) -> int:
        return 2

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """By an outward search: the box around all nodes with V - min V below `DEPTH`, of a mesh that doubles until its border
        has none; then once more on a mesh of that box."""
        scale = 1.0
        while scale < 1e6:
            corner = np.array([scale, scale])
            lo, hi, closed = self._within(-corner, corner)
            if closed:
                return self._within(lo, hi)[:2]
            scale *= 2.0
        raise Unsupported(f"{self.name} does not decay within |x| < 1e6; give the grid a box")

    def _within(self, lo: np.ndarray, hi: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        """The box within (lo, hi) that holds the nodes above the depth, two cells wider; and whether the border has none."""
        n = 257
        axes = [np.linspace(a, b, n) for a, b in zip(lo, hi, strict=True)]
        v = self._potential(np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=1)).reshape(n, n)
        if not np.isfinite(v).any():
            raise Unsupported(f"the potential of {self.name} must give one finite number per row")
        inside = v - v[np.isfinite(v)].min() < DEPTH
        ends = [np.flatnonzero(inside.any(1 - axis))[[0, -1]] for axis in (0, 1)]
        step = (hi - lo) / (n - 1)
        first, last = (np.array([e[k] for e in ends]) for k in (0, 1))
        return lo + (first - 2) * step, lo + (last + 2) * step, bool((first > 0).all() and (last < n - 1).all())

    def _potential(self, nodes: np.ndarray) -> np.ndarray:
        """V at each row, in blocks."""
        x = torch.as_tensor(nodes)
        return np.concatenate([self.potential(part).numpy() for part in x.split(BLOCK)])

    @cached_property
    def _quadrature(self) -> tuple[int, float, np.ndarray, np.ndarray]:
        """Nodes per axis, log Z, mean, covariance."""
        lo, hi = self.extent()
        before: tuple[int, float, np.ndarray, np.ndarray] | None = None
        for n in NODES:
            mesh = Mesh(tuple(map(float, lo)), tuple(map(float, hi)), n)
            logs = -self._potential(mesh.nodes)
            log_z = float(special.logsumexp(logs) + np.log(mesh.cell))
            p = np.exp(logs - log_z) * mesh.cell
            mean = p @ mesh.nodes
            centred = mesh.nodes - mean
            cov = (centred * p[:, None]).T @ centred
            if before is not None:
                scale = float(np.trace(cov))
                change = max(abs(log_z - before[1]), np.abs(mean - before[2]).max() / scale**0.5, np.abs(cov - before[3]).max() / scale)
                if change < 1e-11:
                    between = np.exp(-self._potential(mesh.nodes + np.array([0.0, mesh.spacing[1] / 2])) - log_z) * mesh.cell
                    lines, moved = (q.reshape(n, n).sum(1) for q in (p, between))
                    if np.abs(lines - moved).max() < 1e-11 * lines.max():
                        return n, log_z, mean, cov
            before = n, log_z, mean, cov
        raise Unsupported(f"{self.name} is not resolved by {NODES[-1]} nodes per axis")

    @property
    def log_normalizer(self) -> float:
        return self._quadrature[1]

    @property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.as_tensor(self._quadrature[2]), torch.as_tensor(self._quadrature[3])

    @cached_property
    def _lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Nodes along both axes on which draws are made, shape (2, K), and the density of x1 at its nodes."""
        lo, hi = self.extent()
        n = self._quadrature[0]
        axes = np.linspace(lo, hi, FINER * n + 1).T
        coarse = axes[1][::FINER]
        v = self._potential(np.stack([g.ravel() for g in np.meshgrid(axes[0], coarse, indexing="ij")], axis=1)).reshape(-1, len(coarse))
        return axes, np.exp(v.min() - v).sum(1)

    def sample(self, n: int, noise: Noise) -> Batch:
        draws = noise.uniform((n, 2))
        u = draws.double().cpu().numpy()
        (first, second), marginal = self._lines
        steps = first[1] - first[0], second[1] - second[0]
        x = np.empty((n, 2))
        x[:, 0] = first[0] + steps[0] * positions(marginal, u[:, 0])
        rows = max(1, BLOCK // len(second))
        for start in range(0, n, rows):
            part = slice(start, min(start + rows, n))
            line = np.broadcast_to(second, (part.stop - start, len(second)))
            v = self._potential(np.stack([np.repeat(x[part, 0], len(second)), line.ravel()], axis=1)).reshape(line.shape)
            x[part, 1] = second[0] + steps[1] * positions(np.exp(v.min(1, keepdims=True) - v), u[part, 1])
        return torch.as_tensor(x).to(draws)
