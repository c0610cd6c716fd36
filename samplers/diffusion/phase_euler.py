"""The reverse diffusion of positions and momenta by Euler-Maruyama."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...targets.base import Target
from ..base import Stage
from ..kinetic import Phase
from ..noise import Noise
from .reverse_phase import ReversePhase


@dataclass(frozen=True)
class PhaseEuler(ReversePhase):
    """From t to s = t - h: ``u' = u + h beta(t) [-A u + C S(u, t)] + sqrt(h beta(t) C) xi``; ``cld`` has ``C = diag(0, 2 Gamma)``, ``psld``
    ``diag(Gamma, M nu)``.

    Weak order 1 in h. The score in p is as large as ``1/(gamma M)`` at t = 0, and a step that is longer than twice
    ``gamma M / (beta C_pp)`` there makes p explode.

    Cost: 1 score per step.

    Arguments: those of `ReversePhase`.

    References: Dockhorn, Vahdat, Kreis, "Score-based generative modeling with critically-damped Langevin diffusion" (2022),
        section 3.3, https://arxiv.org/abs/2112.07068
    """

    bias_order: ClassVar[float] = 1.0
    score_evaluations: ClassVar[float] = 1.0

    def parts(self, t: float, s: float) -> tuple[Stage, ...]:
        b = (t - s) * self.forward.schedule.rate(t)
        (a_xx, a_xp), (a_px, a_pp) = self.forward.drift
        (c_xx, _), (_, c_pp) = self.forward.noise_cov

        def euler(target: Target, u: Phase, noise: Noise) -> Phase:
            score_x, score_p = self.look(target, t, u)
            x = u.x + b * (-a_xx * u.x - a_xp * u.p + c_xx * score_x)
            p = u.p + b * (-a_px * u.x - a_pp * u.p + c_pp * score_p) + (b * c_pp) ** 0.5 * noise.normal(tuple(u.p.shape))
            return Phase(x + (b * c_xx) ** 0.5 * noise.normal(tuple(x.shape)) if c_xx else x, p, u.score)

        return (euler,)
