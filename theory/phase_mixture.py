"""Mixtures of Gaussians under critically damped Langevin, one coordinate at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import InvalidInput
from ..samplers.diffusion.phase_space import CLD
from ..samplers.diffusion.schedule import Constant
from ..targets.base import Target
from ..targets.gaussian import Gaussian
from ..targets.gaussian_mixture import GaussianMixture


def coordinates(target: Target) -> list[GaussianMixture] | None:
    """The independent coordinates of a Gaussian, or of a mixture of Gaussians that is a product of mixtures on the line; else None."""
    found = (target,) if target.dim == 1 else target.split.factors if target.split is not None else ()
    mixtures = [m for m in map(_mixture, found) if m is not None]
    return mixtures if mixtures and len(mixtures) == len(found) and all(m.dim == 1 for m in mixtures) else None


def _mixture(target: Target) -> GaussianMixture | None:
    if isinstance(target, Gaussian):
        return GaussianMixture([1.0], target.mean[None], target.cov[None])
    return target if isinstance(target, GaussianMixture) else None


def standardised(mixture: GaussianMixture) -> GaussianMixture:
    """The same on the line, shifted and scaled to mean 0 and variance 1: the unit of length of the processes."""
    mean, cov = mixture.moments
    return GaussianMixture(mixture.weights, (mixture.means - mean) / cov[0, 0].sqrt(), mixture.covs / cov[0, 0])


def single_mode(mixture: GaussianMixture) -> bool:
    """Whether all components are one Gaussian."""
    return bool((mixture.means == mixture.means[0]).all() and (mixture.covs == mixture.covs[0]).all())


def process(mass: float, friction: float | None, momentum: float, beta: float) -> CLD:
    """CLD with a constant beta; critically damped where the friction is not given."""
    return CLD(mass, "critical" if friction is None else friction, momentum, Constant(beta))


def admit_times(times: Sequence[float], least: float) -> None:
    """Raise one line unless there are times, finite and none before `least`."""
    if not times or not all(least <= t < math.inf for t in times):
        raise InvalidInput(f"times must be finite numbers, each at least {least:g}, got {list(times)}")
