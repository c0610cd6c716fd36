"""Independence Metropolis-Hastings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..targets.base import Batch, Values
from .base import positive
from .metropolis import Metropolis, Point, log_normal_density
from .noise import Noise


@dataclass(frozen=True)
class Independence(Metropolis):
    """Independence sampler: propose ``y ~ N(centre, scale^2 I)`` whatever x is, accept or reject.

    Cost: 1 potential per step, no score.

    Arguments:
        scale: standard deviation of the proposal, > 0; wider than the target, or the chain sticks in the tails.
        centre: mean of the proposal along every axis.

    References: Mengersen, Tweedie, "Rates of convergence of the Hastings and Metropolis algorithms" (1996),
        https://doi.org/10.1214/aos/1033066201
    """

    scale: float
    centre: float = 0.0

    potential_evaluations: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        positive(self.scale, "scale")

    @property
    def noise_scale(self) -> float:
        return self.scale

    def draw(self, here: Point, noise: Noise) -> Batch:
        return self.centre + self.scale * noise.normal(tuple(here.x.shape))

    def log_density(self, here: Point, there: Point) -> Values:
        return log_normal_density(there.x, torch.full_like(there.x, self.centre), self.scale**2)
