"""Metropolis-Hastings with an autoregressive proposal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import InvalidInput
from ..targets.base import Batch, Values
from .base import positive
from .metropolis import Metropolis, Point, log_normal_density
from .noise import Noise


@dataclass(frozen=True)
class Autoregressive(Metropolis):
    """Propose ``y = rho x + sigma xi``, accept or reject. The proposal is not symmetric: without the Hastings ratio
    ``q(x | y) / q(y | x)`` the chain has another stationary law.

    With ``sigma^2 = (1 - rho^2) s^2`` it is the preconditioned Crank-Nicolson proposal for the prior N(0, s^2 I).

    Cost: 1 potential per step, no score.

    Arguments:
        rho: in (-1, 1).
        scale: sigma > 0.

    References: Cotter, Roberts, Stuart, White, "MCMC methods for functions: modifying old algorithms to make them
        faster" (2013), https://doi.org/10.1214/13-STS421
    """

    rho: float
    scale: float

    potential_evaluations: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        positive(self.scale, "scale")
        if not -1.0 < self.rho < 1.0:
            raise InvalidInput(f"rho must lie strictly between -1 and 1, got {self.rho}")

    @property
    def noise_scale(self) -> float:
        return self.scale

    def draw(self, here: Point, noise: Noise) -> Batch:
        return self.rho * here.x + self.scale * noise.normal(tuple(here.x.shape))

    def log_density(self, here: Point, there: Point) -> Values:
        return log_normal_density(there.x, self.rho * here.x, self.scale**2)
