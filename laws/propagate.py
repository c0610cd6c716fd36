"""The one entry point: carry a law along a sampler, by the exact route where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np

from ..errors import Diverged, InvalidInput, Unsupported
from ..samplers.base import Sampler, Transfer
from ..targets.base import Target
from ..targets.mesh import Mesh
from .coupling import Coupled, simulate_pairs
from .flow import Flow, noiseless, stretched
from .grid import DENSE_NODES, Grid, additive_step, advance, grid_step, resolved
from .normal import AffineMap, Normal, affine_map, lifted, position
from .particles import Particles, Progress, simulate
from .phase import line, phase_step, spread

Law = Normal | Grid | Particles | Coupled
Kind = Literal["auto", "normal", "grid", "particles", "coupled"]

#: Covariances beyond this are a divergence, not a number.
HUGE = 1e100


def propagate(start: Law, sampler: Sampler, target: Target, checkpoints: Sequence[int], progress: Progress | None = None) -> list[Law]:
    """The law after each number of steps in `checkpoints` (non-negative, increasing), by the route of `start`'s kind.

    Arguments:
        progress: told of particle-steps as they are done, where the law is a sample.

    Errors: `Unsupported` where there is no such route, with the reason; `Diverged` where the law leaves every bounded
    set (particles and pairs carry their divergence in the law instead).
    """
    ks = [int(k) for k in checkpoints]
    if not ks or ks[0] < 0 or any(b <= a for a, b in pairwise(ks)):
        raise InvalidInput(f"checkpoints must be non-negative and increasing, got {list(checkpoints)[:8]}")
    if start.dim != target.dim:
        raise InvalidInput(f"the start has dimension {start.dim} and the target {target.dim}")
    sampler.admit(target)
    if sampler.scheduled and ks[-1] > 0:
        sampler.at(ks[-1] - 1)  # refuses first where the schedule is shorter
    if isinstance(start, Particles):
        return list(simulate(start, sampler, target, ks, progress))
    if isinstance(start, Coupled):
        return list(simulate_pairs(start, sampler, target, ks))
    if isinstance(start, Grid):
        return _grid(start, sampler, target, ks)
    return _normal(start, sampler, target, ks)


def _normal(start: Normal, sampler: Sampler, target: Target, ks: list[int]) -> list[Law]:
    if sampler.scheduled:
        return _normal_by_steps(start, sampler, target, ks)
    step = affine_map(sampler, target)
    law, done, out = lifted(start, sampler.momentum), 0, []
    powers: dict[int, AffineMap] = {}
    for k in ks:
        if k > done:
            gap = k - done
            if gap not in powers:
                with np.errstate(over="ignore", invalid="ignore"):
                    powers[gap] = step.power(gap)
            m = powers[gap]
            if not (np.isfinite(m.noise_cov).all() and np.abs(m.noise_cov).max() < HUGE and np.abs(m.linear).max() < HUGE):
                radius = float(np.abs(np.linalg.eigvals(step.linear)).max())
                raise Diverged(f"the covariance explodes: one step multiplies a direction by {radius:.4g}", done + 1, 1.0)
            law, done = m(law), k
        out.append(position(law, target.dim))
    return list(out)


def _normal_by_steps(start: Normal, sampler: Sampler, target: Target, ks: list[int]) -> list[Law]:
    """Where no two steps are alike."""
    law, out = lifted(start, sampler.momentum), []
    for k in range(ks[-1] + 1):
        if k in ks:
            out.append(position(law, target.dim))
        if k < ks[-1]:
            law = affine_map(sampler.at(k), target)(law)
    return list(out)


def _grid(start: Grid, sampler: Sampler, target: Target, ks: list[int]) -> list[Law]:
    if sampler.scheduled:
        laws = grid_by_steps(start, sampler, target, ks)
    else:
        law, steps = carried(start, sampler, target)
        done, laws = 0, []
        for k in ks:
            law, done = advance(law, steps, k - done), k
            laws.append(law)
    out = []
    for k, law in zip(ks, laws, strict=True):
        if not np.isfinite(law.density).all():
            raise Diverged("the density is not finite", k, 1.0)
        if law.lost > 0.5:
            raise Unsupported(f"by step {k} most of the mass has left the box {start.mesh.lo}..{start.mesh.hi}: give the grid a larger one")
        out.append(line(law, target.dim))
    return list(out)


def grid_by_steps(start: Grid, sampler: Sampler, target: Target, ks: list[int]) -> list[Grid]:
    """Where no two steps are alike. Steps without noise on the line are composed, and the density is pushed along them at once:
    carried step by step, the rounding of each would be stretched by all that follow."""
    law, flow, out = start, None, []
    if sampler.momentum is not None:
        law, _ = carried(start, sampler.at(0), target)
    for k in range(ks[-1] + 1):
        if k in ks:
            out.append(law if flow is None else flow.law())
        if k == ks[-1]:
            break
        kernel = sampler.at(k)
        if target.dim == 1 and law.dim == 1 and noiseless(kernel, target):
            flow = (flow or Flow.of(law)).then(kernel, target)
            continue
        if flow is not None:
            law, flow = flow.law(), None
        variance = stretched(law, kernel, target) if target.dim == 1 and law.dim == 1 and len(kernel.stages) == 1 else None
        if variance is not None:  # a map that stretches what a mesh resolves beyond what its noise smooths
            law = Flow.of(law).then(kernel, target).law(variance)
        else:
            law = advance(law, carried(law, kernel, target)[1], 1)
    return out


def carried(start: Grid, sampler: Sampler, target: Target) -> tuple[Grid, tuple[Transfer, ...]]:
    """The law that the chain carries, momentum included, and the operators of one step, in order."""
    if sampler.momentum is None:
        stages = sampler.stages
        parts = (None,) if len(stages) == 1 else stages  # a composition of maps plus noise is no such map itself
        return start, tuple(grid_step(sampler, target, start.mesh, stage=part) for part in parts)
    if start.dim == 2 and target.dim == 1:  # it is the joint density already
        return start, phase_step(sampler, target, start.mesh)
    joint = spread(start, sampler.momentum)
    return joint, phase_step(sampler, target, joint.mesh)


def stationary(like: Law, sampler: Sampler, target: Target) -> Law:
    """The sampler's own stationary law, as a law of the kind of `like`: a Lyapunov equation or a fixed density.

    Errors: `Unsupported` for particles and pairs; `Diverged` where there is none.
    """
    sampler.admit(target)
    if sampler.scheduled:
        raise Unsupported(f"{sampler.name} follows a schedule and has no stationary law")
    if isinstance(like, Normal):
        return position(affine_map(sampler, target).stationary(), target.dim)
    if isinstance(like, Grid):
        return _stationary_grid(like, sampler, target)
    raise Unsupported("the stationary law of particles and pairs is not known; use a normal or grid law")


def _stationary_grid(like: Grid, sampler: Sampler, target: Target) -> Grid:
    first, steps = carried(Grid.of_target(target, like.mesh), sampler, target)
    size, cell = len(first.log_density), first.mesh.cell

    def operator(density: np.ndarray) -> np.ndarray:
        for step in steps:
            density = step.operator(density)
        return density

    if size <= DENSE_NODES and all(step.rounding is None for step in steps):
        density = _perron(np.stack([operator(column) for column in np.eye(size)], axis=1))
    else:
        from scipy.sparse.linalg import LinearOperator, eigs

        whole = LinearOperator((size, size), matvec=lambda p: operator(np.real(p)), dtype=float)
        _, vectors = eigs(whole, k=1, which="LR", v0=first.density, tol=1e-13)
        density = np.abs(np.real(vectors[:, 0]))
        for _ in range(20):
            density = operator(density / (density.sum() * cell))
    law = Grid.normalised(first.mesh, np.log(np.maximum(density, 0.0) + 1e-320))
    after = advance(law, steps, 1)
    # the Arnoldi route knows the density to its tolerance, absolutely
    absolute = after.absolute + 1e-13 * float(law.density.max()) if np.any(after.absolute) else 0.0
    return line(resolved(replace(law, lost=after.lost, relative=1e-13, absolute=absolute)), target.dim)


def _perron(kernel: np.ndarray) -> np.ndarray:
    """The fixed vector of a positive kernel by repeated squaring: only products and sums of positive numbers, so that
    the tails keep relative accuracy, which a linear solve would lose at 1e-17 of the peak."""
    for _ in range(60):
        square = kernel @ kernel
        square /= square.sum(0).max()
        column, other = square[:, 0] / square[:, 0].sum(), square[:, -1] / square[:, -1].sum()
        kernel = square
        if np.abs(column - other).max() <= 1e-13 * column.max() and (np.abs(column - other) <= 1e-9 * (column + other)).all():
            return np.asarray(column)
    raise Unsupported("the kernel mixes too slowly on this mesh for its stationary law to be found")


def mesh_for(
    target: Target, sampler: Sampler, start: Normal | None, nodes: int | None = None, box: tuple[Sequence[float], Sequence[float]] | None = None
) -> Mesh:
    """A mesh that holds the target and the start and resolves the step's noise.

    Box: the target's extent widened by a fifth (a biased stationary law is wider than the target), joined with the
    start's mean +- 9 standard deviations. Nodes: 601 in 1-D (161 where there is a momentum, which takes an axis of its own)
    and 121 per axis in 2-D, more where they would be wider than half the noise of a step or a quarter of the start's deviation.
    """
    if box is None:
        lo, hi = (np.asarray(e, float) for e in target.extent())
        middle, half = (lo + hi) / 2, 0.6 * (hi - lo)
        lo, hi = middle - half, middle + half
        if start is not None:
            if not float(np.linalg.eigvalsh(start.cov)[0]) > 0:
                raise InvalidInput("a start without a density (singular cov) can be carried as a normal law only")
            deviation = np.sqrt(np.diag(start.cov))
            lo, hi = np.minimum(lo, start.mean - 9 * deviation), np.maximum(hi, start.mean + 9 * deviation)
    else:
        lo, hi = (np.atleast_1d(np.asarray(e, float)) for e in box)
    if nodes is None:
        nodes = 121 if target.dim == 2 else 601 if sampler.momentum is None else 161
        finest = [np.inf]
        if start is not None:
            finest.append(float(np.sqrt(np.diag(start.cov)).min()) / 2.0)
        scale = sampler.noise_scale
        if scale is None:
            _, cov = additive_step(sampler, target, Mesh(tuple(lo), tuple(hi), 5))
            scale = float(np.sqrt(np.diag(cov)).min())
        finest.append(scale)
        nodes = max(nodes, int(np.ceil(float((hi - lo).max()) / (min(finest) / 2.0)))) if np.isfinite(min(finest)) else nodes
        nodes += 1 - nodes % 2
    return Mesh(tuple(float(a) for a in lo), tuple(float(b) for b in hi), nodes)


def averages(start: Law, sampler: Sampler, target: Target, checkpoints: Sequence[int]) -> list[Law]:
    """The average of the laws after steps 1..k (a mixture), for each k >= 1 in `checkpoints`; on grids only.

    Errors: `Unsupported` for other laws: an average of Gaussians is not Gaussian.
    """
    if not isinstance(start, Grid):
        raise Unsupported("the average of the iterates' laws is a mixture; it is carried on grid laws only")
    if sampler.scheduled:
        raise Unsupported(f"{sampler.name} follows a schedule; the average of its iterates is of no use")
    law, steps = carried(start, sampler, target)
    total, out = np.zeros_like(start.density), []
    wanted = set(checkpoints)
    for k in range(1, max(wanted) + 1):
        law = advance(law, steps, 1)
        here = line(law, target.dim)
        total += here.density
        if k in wanted:
            with np.errstate(divide="ignore"):
                out.append(replace(here, log_density=np.log(total / k)))
    return list(out)
