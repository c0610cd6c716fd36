"""The reverse diffusion by the exponential integrator: the score held fixed over a step, all else exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...targets.base import Batch, Target
from ..noise import Noise
from .reverse import Reverse


@dataclass(frozen=True)
class ReverseExponential(Reverse):
    """From t to s: ``x' = (a_s/a_t) x + c S(x, t) + sqrt(v) xi``, ``c = int_s^t (a_s/a_u) g_u^2 du``,
    ``v = int_s^t (a_s/a_u)^2 g_u^2 du``.

    For the Ornstein-Uhlenbeck process and a step h: ``x' = e^h x + 2 (e^h - 1) S(x, t) + sqrt(e^(2h) - 1) xi``. Weak order 1.

    Cost: 1 score per step.

    Arguments: those of `Reverse`.

    References: Chen, Chewi, Li, Li, Salim, Zhang, "Sampling is as easy as learning the score: theory for diffusion models with
        minimal data assumptions" (2023), section 2.2, https://arxiv.org/abs/2209.11215
    """

    bias_order: ClassVar[float] = 1.0
    score_evaluations: ClassVar[float] = 1.0

    def move(self, target: Target, x: Batch, t: float, s: float, noise: Noise) -> Batch:
        p = self.forward
        xi = noise.normal(tuple(x.shape))
        return p.scale(s) / p.scale(t) * x + p.push(s, t) * self.look(target, t, x) + p.back(s, t) ** 0.5 * xi
