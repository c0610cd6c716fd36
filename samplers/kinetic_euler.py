"""Kinetic Langevin by Euler-Maruyama."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..targets.base import Target
from .base import Stage
from .kinetic import Kinetic, Phase
from .noise import Noise


@dataclass(frozen=True)
class KineticEuler(Kinetic):
    """``x' = x + h p/M``, ``p' = p + h score(x) - h gamma p + sqrt(2 gamma M h) xi``: the bias is of order h.

    Cost: 1 score and 1 normal per coordinate and step.

    Arguments: `step_size`, `friction`, `mass` of `Kinetic`; on a Gaussian target the step is below ``gamma mass/M`` at small
        friction, and below ``2/gamma`` at large.

    References: Kloeden, Platen, "Numerical Solution of Stochastic Differential Equations" (1992), section 10.2,
        https://doi.org/10.1007/978-3-662-12616-5
    """

    bias_order: ClassVar[float] = 1.0

    @property
    def stages(self) -> tuple[Stage, ...]:
        return (self.whole,)

    def whole(self, target: Target, state: Phase, noise: Noise) -> Phase:
        """The step."""
        x, p, h, gamma, mass = state.x, state.p, self.step_size, self.rate(target), self.mass
        xi = noise.normal(tuple(x.shape))
        return Phase(x + h * p / mass, p + h * target.score(x) - h * gamma * p + (2.0 * gamma * mass * h) ** 0.5 * xi, state.score)
