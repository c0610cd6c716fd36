"""The probability flow by Heun's method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...targets.base import Batch, Target
from ..noise import Noise
from .reverse import Reverse


@dataclass(frozen=True)
class FlowHeun(Reverse):
    """``dx/dt = f(t) x - g(t)^2 S(x, t)/2`` from t back to s, by the trapezoid rule with an Euler predictor: order 2, no noise.

    The flow has the marginals of the forward process at every time.

    Cost: 2 scores per step.

    Arguments: those of `Reverse`.

    References: Song et al., "Score-based generative modeling through stochastic differential equations" (2021), eq. 13,
        https://arxiv.org/abs/2011.13456
        Karras, Aittala, Aila, Laine, "Elucidating the design space of diffusion-based generative models" (2022), Algorithm 1,
        https://arxiv.org/abs/2206.00364
    """

    bias_order: ClassVar[float] = 2.0
    score_evaluations: ClassVar[float] = 2.0

    def move(self, target: Target, x: Batch, t: float, s: float, noise: Noise) -> Batch:
        h = t - s
        first = self.slope(target, t, x)
        second = self.slope(target, s, x - h * first)
        return x - 0.5 * h * (first + second)

    def slope(self, target: Target, t: float, x: Batch) -> Batch:
        """dx/dt of the flow."""
        return self.forward.drift(t) * x - 0.5 * self.forward.noise(t) * self.look(target, t, x)
