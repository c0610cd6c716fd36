"""Unadjusted Langevin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..errors import InvalidInput
from ..targets.base import Target
from .base import Sampler, State, positive
from .mala import MALA
from .noise import Noise

if TYPE_CHECKING:
    from .fused import Fused


@dataclass(frozen=True)
class ULA(Sampler):
    """Unadjusted Langevin algorithm, also Langevin Monte Carlo: ``x' = x + h score(x) + sqrt(2 h) xi``.

    The Euler-Maruyama discretisation of ``dX = -grad V dt + sqrt(2) dB`` with time step h. Its stationary law is not
    the target: the bias is of first order in h. In the convention ``x' = x + (eta/2) score + sqrt(eta) xi`` the same
    sampler has ``eta = 2 h``.

    Cost: 1 score per step.

    Arguments:
        step_size: h > 0, in units of time; on a Gaussian target below 2/M.

    References: Roberts, Tweedie, "Exponential convergence of Langevin distributions and their discrete approximations"
        (1996), https://doi.org/10.2307/3318418
    """

    step_size: float

    bias_order: ClassVar[float] = 1.0
    score_evaluations: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        positive(self.step_size, "step_size")

    def check(self, target: Target) -> None:
        big = target.constant("M") if target.is_gaussian else None
        if big is not None and self.step_size * big >= 2.0:
            raise InvalidInput(f"step_size must be below 2/M = {2 / big:.6g} on {target.name} (beyond it the chain explodes), got {self.step_size}")

    def partner(self) -> MALA:
        """The same step, accepted or rejected: driven by the same normals it stays close."""
        return MALA(self.step_size)

    @property
    def time_step(self) -> float:
        return self.step_size

    @property
    def fused(self) -> Fused:
        from . import fused  # compiled code is loaded where it is used

        return fused.Fused(fused.ula, (self.step_size, (2.0 * self.step_size) ** 0.5))

    def step(self, target: Target, state: State, noise: Noise) -> State:
        x, h = state.x, self.step_size
        xi = noise.normal(tuple(x.shape))
        return State(x + h * target.score(x) + (2.0 * h) ** 0.5 * xi)
