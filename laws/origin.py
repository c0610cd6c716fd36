"""The forward law at the horizon as the start of a reverse process: nothing is lost there."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import Unsupported
from ..samplers.base import Sampler
from ..samplers.noise import Stream
from ..targets.base import Target
from .grid import Grid
from .normal import Normal, position
from .particles import Particles
from .phase import line, plane
from .propagate import mesh_for


def normal_origin(sampler: Sampler, target: Target) -> Normal:
    """As a Gaussian, where it is one."""
    source = sampler.origin(target)
    if not source.is_gaussian or source.moments is None:
        raise Unsupported(f"start: forward on a normal law needs a Gaussian target, got {target.name}; use law: grid or particles")
    return position(Normal(*(moment.numpy() for moment in source.moments)), target.dim)


def grid_origin(sampler: Sampler, target: Target, nodes: int | None = None, box: tuple[Sequence[float], Sequence[float]] | None = None) -> Grid:
    """As a density, on a mesh that holds it and the target."""
    source, d = sampler.origin(target), target.dim
    if source.moments is None:
        raise Unsupported(f"start: forward on a grid needs the moments of {source.name}, which it does not know")
    mean, cov = (moment.numpy() for moment in source.moments)
    mesh = mesh_for(target, sampler, Normal(mean[:d], cov[:d, :d]), nodes, box)
    if source.dim == d:
        return Grid.of_target(source, mesh)
    momentum = sampler.momentum
    assert momentum is not None
    return line(Grid.of_target(source, plane(mesh, momentum)), d)


def particles_origin(sampler: Sampler, target: Target, n: int, seed: int = 0) -> Particles:
    """As a sample."""
    z, d = sampler.origin(target).sample(n, Stream(seed, "start")), target.dim
    return Particles(z[:, :d], seed, momentum=z[:, d:] if z.shape[1] > d else None)
