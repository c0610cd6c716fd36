"""BAOAB: kinetic Langevin by splitting, exact positions on Gaussians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Stage
from .kinetic import Kinetic


@dataclass(frozen=True)
class BAOAB(Kinetic):
    """Kick, drift, fluctuate, drift, kick over h/2, h/2, h, h/2, h/2:

    ``p += h/2 score(x); x += h/2 p/M; p = e^(-gamma h) p + sqrt(M (1 - e^(-2 gamma h))) xi; x += h/2 p/M; p += h/2 score(x)``.
    The bias of positions is of order h^2, and zero on Gaussian targets at every stable step.

    Cost: 1 score per step; that of the start is carried.

    Arguments: `step_size` (below ``2 sqrt(mass/M)`` on a Gaussian target), `friction`, `mass` of `Kinetic`.

    References: Leimkuhler, Matthews, "Rational construction of stochastic numerical methods for molecular sampling" (2013),
        https://arxiv.org/abs/1203.5428
        Leimkuhler, Matthews, "Robust and efficient configurational molecular sampling via Langevin dynamics" (2013),
        https://arxiv.org/abs/1304.3269
    """

    bias_order: ClassVar[float] = 2.0
    carries_score: ClassVar[bool] = True

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.kick(1 / 2, look=False), self.drift(1 / 2), self.fluctuate(1), self.drift(1 / 2), self.kick(1 / 2)
