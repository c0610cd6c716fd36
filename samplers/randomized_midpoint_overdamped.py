"""Randomized midpoint for overdamped Langevin: the score at a uniformly random time of the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..errors import InvalidInput
from ..targets.base import Target
from .base import Sampler, State, positive
from .noise import Noise

#: ``E (1 - z + alpha z^2)^2 = 1`` at ``w = z - 1``, ``w^3 + 3 w = 2``, by Cardano: 1.5961
LIMIT = 1.0 + (2**0.5 + 1.0) ** (1 / 3) - (2**0.5 - 1.0) ** (1 / 3)


@dataclass(frozen=True)
class RandomizedMidpointOverdamped(Sampler):
    """Unadjusted Langevin with the score of a step taken at a uniformly random time within it.

    With ``alpha ~ U(0, 1)`` per particle and xi1, xi2 standard normal:

    ``y  = x + alpha h score(x) + sqrt(2 alpha h) xi1``,
    ``x' = x + h score(y) + sqrt(2 alpha h) xi1 + sqrt(2 (1 - alpha) h) xi2``: one Brownian path, seen at alpha h and at h.

    The mean over alpha of ``h score(X_(alpha h))`` is the integral of the score along the path: the bias is that of y alone, of
    order h^2 (h^3 on Gaussians, where the terms of order h^2 cancel: ``Var x = (1 + (k h)^3/6 + ...)/k`` for curvature k).

    Cost: 2 scores, 2 normals per coordinate and 1 uniform a step.

    Arguments:
        step_size: h > 0, in units of time; on a Gaussian target below 1.5961/M, beyond which second moments explode.

    References: He, Balasubramanian, Erdogdu, "On the ergodicity, bias and asymptotic normality of randomized midpoint sampling
        method" (2020), https://arxiv.org/abs/2011.03176
        Shen, Lee, "The randomized midpoint method for log-concave sampling" (2019), https://arxiv.org/abs/1909.05503
    """

    step_size: float

    bias_order: ClassVar[float] = 2.0
    score_evaluations: ClassVar[float] = 2.0

    def __post_init__(self) -> None:
        positive(self.step_size, "step_size")

    def check(self, target: Target) -> None:
        big = target.constant("M") if target.is_gaussian else None
        if big is not None and self.step_size * big >= LIMIT * (1 + 1e-12):
            raise InvalidInput(
                f"step_size must be below 1.5961/M = {LIMIT / big:.6g} on {target.name} (beyond it second moments explode), got {self.step_size}"
            )

    @property
    def time_step(self) -> float:
        return self.step_size

    def step(self, target: Target, state: State, noise: Noise) -> State:
        x, h = state.x, self.step_size
        alpha = noise.uniform((len(x),)).unsqueeze(1)
        xi1, xi2 = noise.normal(tuple(x.shape)), noise.normal(tuple(x.shape))
        path = torch.sqrt(2.0 * h * alpha) * xi1
        y = x + alpha * h * target.score(x) + path
        return State(x + h * target.score(y) + path + torch.sqrt(2.0 * h * (1.0 - alpha)) * xi2)
