"""Random-walk Metropolis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..targets.base import Batch, Values
from .base import positive
from .metropolis import Metropolis, Point, log_normal_density
from .noise import Noise

if TYPE_CHECKING:
    from .fused import Fused


@dataclass(frozen=True)
class RandomWalk(Metropolis):
    """Random-walk Metropolis: propose ``y = x + sigma xi``, accept or reject. The proposal is symmetric.

    Cost: 1 potential per step, no score.

    Arguments:
        scale: sigma > 0, standard deviation of the proposal along each axis.

    References: Metropolis et al., "Equation of state calculations by fast computing machines" (1953),
        https://doi.org/10.1063/1.1699114
    """

    scale: float

    potential_evaluations: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        positive(self.scale, "scale")

    @property
    def noise_scale(self) -> float:
        return self.scale

    @property
    def fused(self) -> Fused:
        from . import fused  # compiled code is loaded where it is used

        return fused.Fused(fused.random_walk, (self.scale,))

    def draw(self, here: Point, noise: Noise) -> Batch:
        return here.x + self.scale * noise.normal(tuple(here.x.shape))

    def log_density(self, here: Point, there: Point) -> Values:
        return log_normal_density(there.x, here.x, self.scale**2)
