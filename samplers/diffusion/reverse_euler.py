"""The reverse diffusion by Euler-Maruyama."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...targets.base import Batch, Target
from ..noise import Noise
from .reverse import Reverse


@dataclass(frozen=True)
class ReverseEuler(Reverse):
    """From t to s = t - h: ``x' = x + h [-f(t) x + g(t)^2 S(x, t)] + g(t) sqrt(h) xi``, S the score of x_t.

    Weak order 1 in h. The reverse of ``dx = f x dt + g dB`` has the drift ``f x - g^2 S`` backwards in time: the score counts
    whole, and half in the probability flow.

    Cost: 1 score per step.

    Arguments: those of `Reverse`.

    References: Anderson, "Reverse-time diffusion equation models" (1982), https://doi.org/10.1016/0304-4149%2882%2990051-5
        Song et al., "Score-based generative modeling through stochastic differential equations" (2021), eq. 6,
        https://arxiv.org/abs/2011.13456
    """

    bias_order: ClassVar[float] = 1.0
    score_evaluations: ClassVar[float] = 1.0

    def move(self, target: Target, x: Batch, t: float, s: float, noise: Noise) -> Batch:
        h, f, g2 = t - s, self.forward.drift(t), self.forward.noise(t)
        xi = noise.normal(tuple(x.shape))
        return x + h * (-f * x + g2 * self.look(target, t, x)) + (g2 * h) ** 0.5 * xi
