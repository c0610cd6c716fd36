"""Denoising diffusion implicit models: from no noise to that of ancestral sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...errors import InvalidInput
from ...targets.base import Batch, Target
from ..noise import Noise
from .reverse import Reverse


@dataclass(frozen=True)
class DDIM(Reverse):
    """From t to s: ``x' = a_s x0 + sqrt(v_s - sigma^2) e + sigma xi``, ``x0 = (x + v_t S)/a_t``, ``e = -sqrt(v_t) S``, S = S(x, t), and
    ``sigma = eta sqrt(v_s (1 - v_s a_t^2 / (v_t a_s^2)))``.

    For vp, ``v = 1 - abar`` and sigma is the paper's ``eta sqrt((1 - abar_s)/(1 - abar_t)) sqrt(1 - abar_t/abar_s)``. Whatever eta, the
    target being a point, the marginals are those of the forward process. eta = 1 is `ddpm` with the posterior variance; eta = 0
    has no noise: Euler's method for the probability flow ``d(x/a)/dr = -r a S`` in ``r = sqrt(v)/a``. Its error is of the order of
    ``sum (r_t - r_s)^2``: first order where r is smooth in the index, h log(1/h) in uniform steps down to the time 0 of vp, where
    r is like sqrt(t) (quadratic spacing mends it).

    Cost: 1 score per step.

    Arguments: those of `Reverse`; `eta` in [0, 1].

    References: Song, Meng, Ermon, "Denoising diffusion implicit models" (2021), eqs. 12 and 16, https://arxiv.org/abs/2010.02502
    """

    bias_order: ClassVar[float] = 1.0
    score_evaluations: ClassVar[float] = 1.0

    eta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.eta <= 1:
            raise InvalidInput(f"eta must be in [0, 1], got {self.eta}")

    def move(self, target: Target, x: Batch, t: float, s: float, noise: Noise) -> Batch:
        (a_t, v_t), (a_s, v_s) = self.forward.kernel(t), self.forward.kernel(s)
        sigma2 = self.eta**2 * v_s * self.forward.between(s, t)[1] / v_t  # v_t - (a_t/a_s)^2 v_s, without its cancellation
        score = self.look(target, t, x)
        x0, e = (x + v_t * score) / a_t, -(v_t**0.5) * score
        moved = a_s * x0 + max(v_s - sigma2, 0.0) ** 0.5 * e
        return moved if self.eta == 0 else moved + sigma2**0.5 * noise.normal(tuple(x.shape))
