"""OBABO: kinetic Langevin as a leapfrog step between two half refreshments of the momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Stage
from .kinetic import Kinetic


@dataclass(frozen=True)
class OBABO(Kinetic):
    """Fluctuate, kick, drift, kick, fluctuate over h/2, h/2, h, h/2, h/2:

    ``p = e^(-gamma h/2) p + sqrt(M (1 - e^(-gamma h))) xi; p += h/2 score(x); x += h p/M; p += h/2 score(x)``, and the first
    once more with a fresh xi. The bias is of order h^2. Without its noise the step is HMC's leapfrog.

    Cost: 1 score per step; that of the start is carried.

    Arguments: `step_size` (below ``2 sqrt(mass/M)`` on a Gaussian target), `friction`, `mass` of `Kinetic`.

    References: Bussi, Parrinello, "Accurate sampling using Langevin dynamics" (2007), https://arxiv.org/abs/0803.4083
    """

    bias_order: ClassVar[float] = 2.0
    carries_score: ClassVar[bool] = True

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.fluctuate(1 / 2), self.kick(1 / 2, look=False), self.drift(1), self.kick(1 / 2), self.fluctuate(1 / 2)
