"""Whether the law that a point asks for can be carried at all, found out before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, Unsupported
from .fields import CoupledLaw, GridLaw, NormalLaw, ParticlesLaw, Start

if TYPE_CHECKING:
    from .schema import Point


def check_route(point: Point, target: Any, sampler: Any) -> None:
    """Raise where the chosen law has no route: a normal law needs an affine step, the others a start with a density,
    particles memory and a device, pairs two chains that can be coupled."""
    import numpy as np

    from ..laws.normal import affine_map
    from ..samplers.scheduled import Scheduled

    if point.start == "forward":
        sampler.origin(target)
    if isinstance(sampler, Scheduled) and point.steps[-1] > sampler.length:
        raise InvalidInput(f"steps must be at most {sampler.length}, the length of the schedule of {sampler.name}, got {point.steps[-1]}")
    if sampler.interacts and not isinstance(point.law, ParticlesLaw):
        raise Unsupported(f"law must be particles for {sampler.name}, whose particles see each other, got {point.law.kind}")
    if isinstance(point.law, NormalLaw):
        affine_map(sampler, target)
        if not isinstance(point.start, Start) and not target.is_gaussian:
            raise InvalidInput(f"start: {point.start} on a normal law needs a Gaussian target, got {target.name}")
        return
    if isinstance(point.law, GridLaw) and sampler.momentum is not None:
        from ..laws.phase import phase_step, plane
        from ..targets.mesh import Mesh

        if target.dim != 1:
            raise InvalidInput(f"a grid law of position and momentum needs a target on the line, got {target.name} in d = {target.dim}")
        phase_step(sampler.at(0), target, plane(Mesh((-1.0,), (1.0,), 5), sampler.momentum))  # refuses steps that have no density route
    if isinstance(point.law, ParticlesLaw):
        from ..laws.particles import admit_device, admit_memory

        admit_device(point.law.device)
        admit_memory(point.law.n, target.dim, len(point.steps), 8 if point.law.dtype == "float64" else 4, sampler.interacts)
    if isinstance(point.law, CoupledLaw):
        from ..laws.coupling import check_coupling
        from ..laws.particles import admit_memory

        check_coupling(sampler, target, point.law.coupling, point.law.lag)
        admit_memory(2 * point.law.n, target.dim, len(point.steps))
    if isinstance(point.start, Start) and point.start.tilt is None:
        cov = point.start.normal(target.dim).cov
        if float(np.linalg.eigvalsh(cov)[0]) <= 0:
            raise InvalidInput("a start without a density (singular cov) can be carried as a normal law only")
