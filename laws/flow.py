"""A density on the line pushed along a map from a finer mesh: flows without noise, and steps that stretch more than their noise smooths."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import fft

from ..errors import Unsupported
from ..samplers.base import Sampler
from ..samplers.noise import Probe
from ..targets.base import Target
from ..targets.mesh import Mesh
from .grid import NUFFT_EPS, WIDE, Grid, additive_step, outside, resolved

#: Points of the flow per node of the mesh. Where the flow stretches by r, frequencies up to the mesh's own need more than r/2.
FINER = 32


def stretched(law: Grid, sampler: Sampler, target: Target) -> float | None:
    """The variance of a step's noise where a sum over the nodes is not the integral: its deviation is below `WIDE` times the
    distance to which the map takes neighbouring nodes, somewhere with matter. None where it is, or the step is no map plus noise."""
    try:
        moved, cov = additive_step(sampler, target, law.mesh)
    except Unsupported:
        return None
    matter = law.density > 1e-13 * law.density.max()
    gaps = np.abs(np.diff(moved[:, 0]))[matter[:-1] & matter[1:]]
    return float(cov[0, 0]) if cov[0, 0] < (WIDE * float(gaps.max(initial=0.0))) ** 2 else None


def noiseless(sampler: Sampler, target: Target) -> bool:
    """Whether a step draws nothing."""
    noise = Probe(basis=False)
    sampler.step(target, sampler.init(target, torch.zeros((1, target.dim), dtype=torch.float64), noise), noise)
    return noise.count == 0


@dataclass(frozen=True, eq=False)
class Flow:
    """Where the points of a mesh, finer than the law's, have gone.

    Arguments:
        start: the law at the beginning.
        fine: the same on the finer mesh.
        places: shape (nodes of the finer mesh, 1).
    """

    start: Grid
    fine: Grid
    places: torch.Tensor

    @classmethod
    def of(cls, start: Grid) -> Flow:
        """Nothing has moved yet."""
        n = FINER * start.mesh.n
        fine = start.interpolate(Mesh(start.mesh.lo, start.mesh.hi, n + 1 - n % 2))
        return cls(start, fine, torch.as_tensor(fine.mesh.nodes))

    def then(self, sampler: Sampler, target: Target) -> Flow:
        """One step on."""
        state = sampler.init(target, self.places, Probe(basis=False))
        return replace(self, places=sampler.step(target, state, Probe(basis=False)).x)

    def law(self, variance: float = 0.0) -> Grid:
        """The density where the points are now, by a type-1 non-uniform FFT: ``F(k) = sum_i p(x_i) exp(-i k T(x_i)) dx``, times
        ``exp(-k^2 variance/2)`` where a Gaussian of that variance is added."""
        import finufft

        mesh, places, p = self.start.mesh, self.places.numpy(), self.fine.density
        lo, length = mesh.lo[0], mesh.hi[0] - mesh.lo[0]
        angle = np.mod((places[:, 0] - lo) * (2 * np.pi / length) + np.pi, 2 * np.pi) - np.pi
        series = finufft.nufft1d1(angle, p.astype(complex), mesh.n, eps=NUFFT_EPS, isign=-1, nthreads=1)
        damping = np.exp(-0.5 * variance * (2 * np.pi * np.arange(mesh.n // 2 + 1) / length) ** 2)
        density = fft.irfft(fft.ifftshift(series)[: mesh.n // 2 + 1] * damping, n=mesh.n) * (self.fine.mesh.cell / mesh.cell)
        lost = self.start.lost + float(outside(mesh, places, np.full(1, variance**0.5)) @ p) * self.fine.mesh.cell
        with np.errstate(divide="ignore"):
            log_density = np.log(np.maximum(density, 0.0))
        absolute = np.full(density.shape, 8 * NUFFT_EPS * float(np.abs(density).max()))
        return resolved(replace(self.start, log_density=log_density, lost=lost, absolute=self.start.absolute + absolute))
