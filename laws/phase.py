"""Densities of (position, momentum) for chains on the line, and the operators of the parts of a kinetic step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy import fft

from ..errors import Unsupported
from ..samplers.base import Momentum, Sampler, Transfer
from ..targets.base import DEPTH, Target
from ..targets.mesh import Mesh
from .grid import NUFFT_EPS, WIDE, Grid, dense_step, nufft_step, outside, read_off
from .normal import phase, placed

Operator = Callable[[np.ndarray], np.ndarray]


def spread(law: Grid, momentum: Momentum) -> Grid:
    """The joint density of a chain: the one that came with the position's, else with an independent Gaussian momentum.

    The momentum axis has as many nodes as the position's and reaches to where its invariant density has fallen to 1e-19,
    and a fifth beyond.
    """
    if law.joint is not None:
        return law.joint
    if law.dim != 1:
        raise Unsupported(f"a density of position and momentum needs a target on the line, got d = {law.dim}: use law: normal or particles")
    mesh = plane(law.mesh, momentum)
    if momentum.start < (2.0 * mesh.spacing[1]) ** 2:
        raise Unsupported(f"the start's momentum (deviation {momentum.start**0.5:.3g}) falls between the nodes ({mesh.spacing[1]:.3g} apart)")
    p = mesh.axes[1]
    log_p = -0.5 * p * p / momentum.start - 0.5 * np.log(2 * np.pi * momentum.start)
    return replace(law, mesh=mesh, log_density=(law.log_density[:, None] + log_p[None, :]).ravel())


def plane(mesh: Mesh, momentum: Momentum) -> Mesh:
    """The mesh of (position, momentum) over a mesh of the position."""
    half = 1.2 * (2 * DEPTH * max(momentum.start, momentum.mass)) ** 0.5
    return Mesh((*mesh.lo, -half), (*mesh.hi, half), mesh.n)


def line(law: Grid, dim: int) -> Grid:
    """The density of the position, which carries the joint one along."""
    if law.dim == dim:
        return law
    mesh = Mesh(law.mesh.lo[:1], law.mesh.hi[:1], law.mesh.n)
    with np.errstate(divide="ignore"):
        log_density = np.log(np.maximum(law.density.reshape(law.mesh.shape).sum(1) * law.mesh.spacing[1], 0.0))
    absolute = np.broadcast_to(np.asarray(law.absolute), law.log_density.shape).reshape(law.mesh.shape).sum(1) * law.mesh.spacing[1]
    return replace(law, mesh=mesh, log_density=log_density, absolute=absolute, joint=law)


def phase_step(sampler: Sampler, target: Target, mesh: Mesh) -> tuple[Transfer, ...]:
    """The operators of the stages of one step, read off the stages themselves at every node.

    A shear (one coordinate moves by a function of the other) shifts rows of the density through their Fourier series; a map
    of the momentum alone, with noise, is one matrix for all positions; what is neither goes through a non-uniform transform
    of the plane (`nufft_step`). All keep the spectral accuracy of the mesh.
    """
    sampler.admit(target)
    state = placed(sampler, target, torch.as_tensor(mesh.nodes))
    found = []
    for i, stage in enumerate(sampler.stages):
        what = f"{sampler.name}, stage {i + 1} of {len(sampler.stages)}," if len(sampler.stages) > 1 else f"{sampler.name} on {target.name}"
        moved, cov = read_off(lambda noise, stage=stage: phase(stage(target, state, noise)), what)  # type: ignore[misc]
        found.append(_transfer(mesh, moved, cov))
    return tuple(found)


def _transfer(mesh: Mesh, moved: np.ndarray, cov: np.ndarray) -> Transfer:
    """One stage as an operator, by the structure it shows."""
    leave = outside(mesh, moved, np.sqrt(np.diag(cov)))
    shift = (moved - mesh.nodes).reshape(*mesh.shape, 2)
    still = np.abs(shift).max((0, 1)) == 0.0

    def alike(values: np.ndarray, axis: int) -> bool:
        return bool(np.ptp(values, axis=axis).max() <= 1e-13 * max(1.0, float(np.abs(values).max())))

    for axis in (0, 1):
        if still[1 - axis] and not cov.any() and alike(shift[..., axis], axis):
            return Transfer(_shear(mesh, shift.take(0, axis=axis)[:, axis], axis), leave, lambda p: np.full(p.shape, 2e-15 * float(np.abs(p).max())))
    momentum = moved.reshape(*mesh.shape, 2)[..., 1]
    if still[0] and not cov[0].any() and alike(momentum, 0) and cov[1, 1] >= (WIDE * mesh.spacing[1]) ** 2:
        row = Mesh(mesh.lo[1:], mesh.hi[1:], mesh.n)
        kernel = dense_step(row, momentum[0][:, None], cov[1:, 1:])
        return Transfer(lambda p: np.asarray(kernel(p.reshape(mesh.shape).T).T).ravel(), leave)
    return Transfer(nufft_step(mesh, moved, cov), leave, lambda p: np.full(p.shape, 4 * NUFFT_EPS * float(np.abs(p).max())))


def _shear(mesh: Mesh, by: np.ndarray, axis: int) -> Operator:
    """Every row along `axis` shifted by its own distance, exact for what the mesh resolves."""
    k = 2 * np.pi * fft.rfftfreq(mesh.n, mesh.spacing[axis])
    turn = np.exp(-1j * (np.outer(k, by) if axis == 0 else np.outer(by, k)))
    return lambda p: np.asarray(fft.irfft(fft.rfft(p.reshape(mesh.shape), axis=axis) * turn, n=mesh.n, axis=axis)).ravel()
