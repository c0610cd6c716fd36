"""Ancestral sampling of denoising diffusion probabilistic models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...errors import InvalidInput
from ...targets.base import Batch, Target
from ..noise import Noise
from .reverse import Reverse


@dataclass(frozen=True)
class DDPM(Reverse):
    """From t to s: ``x' = (x + (1 - alpha) S(x, t)) / sqrt(alpha) + sigma xi``, alpha = abar_t / abar_s, abar = a^2.

    The chain ``x_t = sqrt(alpha) x_s + sqrt(1 - alpha) xi`` is the forward process seen at the times of the run; the linear beta_k
    of the paper are vp's ``beta(t_k)/N`` on [0, 1] with first = 0.1, last = 20. The mean is that of ``x_s | x_t, x_0`` with
    ``x_0 = (x_t + (1 - abar_t) S)/sqrt(abar_t)``, and is exactly ``E[x_s | x_t]`` for the oracle score. The variance is

    - ``posterior``: ``(1 - alpha)(1 - abar_s)/(1 - abar_t)``, that of ``x_s | x_t, x_0``: right where the target is a point.
    - ``beta``: ``1 - alpha``, right for a target N(0, I) to leading order; no noise in the step to the time 0.

    The true one is ``(1 - alpha)/alpha (1 - (1 - alpha) Hess V_t)``, V_t the potential of x_t: on a smooth density ``posterior`` misses
    ``(1 - alpha)^2/(1 - abar_t)`` per step, and down to the time 0 in uniform steps h these add up to h log(1/h). Weak order 1
    otherwise. For processes other than vp the same holds with a(t), v(t) for sqrt(abar), 1 - abar.

    Cost: 1 score per step.

    Arguments: those of `Reverse`; `variance`, ``posterior`` or ``beta``.

    References: Ho, Jain, Abbeel, "Denoising diffusion probabilistic models" (2020), Algorithm 2 and eq. 7,
        https://arxiv.org/abs/2006.11239
    """

    bias_order: ClassVar[float] = 1.0
    score_evaluations: ClassVar[float] = 1.0

    variance: str = "posterior"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variance not in ("posterior", "beta"):
            raise InvalidInput(f"variance must be posterior or beta, got {self.variance!r}")

    def move(self, target: Target, x: Batch, t: float, s: float, noise: Noise) -> Batch:
        root, beta = self.forward.between(s, t)  # sqrt(alpha) and 1 - alpha
        before, now = self.forward.variance(s), self.forward.variance(t)  # 1 - abar_s and 1 - abar_t
        variance = beta * before / now if self.variance == "posterior" else beta if s > 0 else 0.0
        xi = noise.normal(tuple(x.shape))
        return (x + beta * self.look(target, t, x)) / root + variance**0.5 * xi
