"""Metropolis-adjusted Langevin."""

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
class MALA(Metropolis):
    """Metropolis-adjusted Langevin algorithm: propose ``y = x + h score(x) + sqrt(2 h) xi``, accept or reject.

    The proposal is ULA's step, ``q(y | x) = N(y; x + h score(x), 2 h I)``; the target is invariant at every h.

    Cost: 1 score and 1 potential per step, in one pass.

    Arguments:
        step_size: h > 0, in units of time.

    References: Roberts, Tweedie, "Exponential convergence of Langevin distributions and their discrete approximations"
        (1996), section 1.4.2, https://doi.org/10.2307/3318418
    """

    step_size: float

    score_evaluations: ClassVar[float] = 1.0
    potential_evaluations: ClassVar[float] = 1.0
    uses_score: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive(self.step_size, "step_size")

    @property
    def time_step(self) -> float:
        return self.step_size

    @property
    def noise_scale(self) -> float:
        return (2.0 * self.step_size) ** 0.5

    @property
    def fused(self) -> Fused:
        from . import fused  # compiled code is loaded where it is used

        return fused.Fused(fused.mala, (self.step_size, self.noise_scale))

    def draw(self, here: Point, noise: Noise) -> Batch:
        return here.x + self.step_size * here.score + self.noise_scale * noise.normal(tuple(here.x.shape))

    def log_density(self, here: Point, there: Point) -> Values:
        return log_normal_density(there.x, here.x + self.step_size * here.score, 2.0 * self.step_size)
