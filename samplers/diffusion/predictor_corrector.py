"""Predictor-corrector sampling: a step of the reverse diffusion, then Langevin steps at the time it has reached."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ...errors import InvalidInput
from ...targets.base import Batch, Target
from ..base import Stage, State
from ..noise import Noise
from .reverse import Reverse, whole


@dataclass(frozen=True)
class PredictorCorrector(Reverse):
    """From t to s, predict ``x' = (2 - r) x + w S(x, t) + sqrt(w) xi``, where ``x_t | x_s ~ N(r x_s, w I)``; then n times correct
    ``x' = x + eps S(x, s) + sqrt(2 eps) xi``, ``eps = 2 snr^2 v(s)``.

    The predictor is the paper's "reverse diffusion": for vp ``(2 - sqrt(1 - beta)) x + beta S + sqrt(beta) xi``. Its corrector has
    ``eps = 2 (snr |xi|/|S|)^2`` with norms averaged over the batch, so that no particle is independent of the others. Norms of each
    particle's own will not do: S vanishes somewhere, and eps has no bound there. Here they have the values at which the score is
    that of the noise alone, ``|S|^2 = d/v(s)`` and ``|xi|^2 = d``: eps is then the same for all, and each part is a map plus noise.
    No correction is made at time 0, where v = 0.

    A predictor has weak order 1. Correctors at a fixed snr do not converge with the steps: there are ever more of them at
    each level of noise, and the law becomes that of ULA with step eps, which tends to the target only as v(s) tends to 0. Near
    the end the law is left behind where the rest of the eps adds up to a relaxation time: an error of order sqrt(h).

    Cost: 1 + n scores per step.

    Arguments: those of `Reverse`;
        correctors: n >= 0.
        snr: signal-to-noise ratio of a correction, positive.

    References: Song et al., "Score-based generative modeling through stochastic differential equations" (2021), Algorithms 1 to 5 and
        eq. 46, https://arxiv.org/abs/2011.13456
    """

    correctors: int = 1
    snr: float = 0.16

    @property
    def bias_order(self) -> float:  # type: ignore[override]  # it depends on a hyperparameter
        """1 for the predictor alone."""
        return 0.5 if self.correctors else 1.0

    @property
    def score_evaluations(self) -> float:  # type: ignore[override]  # it depends on a hyperparameter
        """Scores per particle and step."""
        return 1.0 + self.correctors

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self.correctors, "correctors", 0)
        if not 0 < self.snr < math.inf:
            raise InvalidInput(f"snr must be a positive finite number, got {self.snr}")

    def move(self, target: Target, x: Batch, t: float, s: float, noise: Noise) -> Batch:
        x = self.predict(target, x, t, s, noise)
        for _ in range(self.correctors if s > 0 else 0):
            x = self.correct(target, x, s, noise)
        return x

    def stages_at(self, k: int) -> tuple[Stage, ...]:
        t, s = self.times[k], self.times[k + 1]

        def predict(target: Target, state: Any, noise: Noise) -> State:
            return State(self.predict(target, state.x, t, s, noise))

        def correct(target: Target, state: Any, noise: Noise) -> State:
            return State(self.correct(target, state.x, s, noise))

        return predict, *[correct] * (self.correctors if s > 0 else 0)

    def predict(self, target: Target, x: Batch, t: float, s: float, noise: Noise) -> Batch:
        """One step of the reverse diffusion."""
        r, w = self.forward.between(s, t)
        return (2 - r) * x + w * self.look(target, t, x) + w**0.5 * noise.normal(tuple(x.shape))

    def correct(self, target: Target, x: Batch, s: float, noise: Noise) -> Batch:
        """One Langevin step at the time s."""
        eps = 2 * self.snr**2 * self.forward.variance(s)
        return x + eps * self.look(target, s, x) + (2 * eps) ** 0.5 * noise.normal(tuple(x.shape))
