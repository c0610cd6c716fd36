"""Kinetic Langevin Monte Carlo: the exponential integrator with the force frozen at the start of the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..targets.base import Target
from .base import Stage
from .flight import over
from .kinetic import Kinetic, Phase
from .noise import Noise


@dataclass(frozen=True)
class KLMC(Kinetic):
    """The kinetic diffusion over h with ``grad V(x)`` held fixed, solved exactly (`flight.py`):

    ``p' = psi0 p - psi1 grad V(x) + xi_p``, ``x' = x + (psi1 p - psi2 grad V(x))/M + xi_x``,
    ``psi0 = e^(-gamma h)``, ``psi1 = (1 - psi0)/gamma``, ``psi2 = (h - psi1)/gamma``, (xi_x, xi_p) with their joint covariance.
    The bias is of order h.

    Cost: 1 score and 2 normals per coordinate and step.

    Arguments: `step_size`, `friction`, `mass` of `Kinetic`.

    References: Dalalyan, Riou-Durand, "On sampling from a log-concave density using kinetic Langevin diffusions" (2020),
        https://arxiv.org/abs/1807.09382
        Cheng, Chatterji, Bartlett, Jordan, "Underdamped Langevin MCMC: a non-asymptotic analysis" (2018),
        https://arxiv.org/abs/1707.03663
    """

    bias_order: ClassVar[float] = 1.0

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (self.whole,)

    def whole(self, target: Target, state: Phase, noise: Noise) -> Phase:
        """The step."""
        x, p, mass = state.x, state.p, self.mass
        psi0, psi1, psi2, stir, along, across = over(self.rate(target), mass, self.step_size)
        s = target.score(x)
        y, z = noise.normal(tuple(x.shape)), noise.normal(tuple(x.shape))
        return Phase(x + (psi1 * p + psi2 * s) / mass + along * y + across * z, psi0 * p + psi1 * s + stir * y, state.score)
