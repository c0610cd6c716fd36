"""UBU: kinetic Langevin with everything but the force integrated exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Stage
from .kinetic import Kinetic


@dataclass(frozen=True)
class UBU(Kinetic):
    """Free flight over h/2, kick over h, free flight over h/2.

    ``U(t): x += (1 - e^(-gamma t))/gamma p/M + xi_x, p = e^(-gamma t) p + xi_p`` with the exact joint noise (`flight.py`);
    ``B: p += h score(x)``. Of order 2 in the weak and in the strong sense, with one score a step.

    Cost: 1 score and 4 normals per coordinate and step.

    Arguments: `step_size`, `friction`, `mass` of `Kinetic`.

    References: Sanz-Serna, Zygalakis, "Wasserstein distance estimates for the distributions of numerical approximations to
        ergodic stochastic differential equations" (2021), https://arxiv.org/abs/2104.12384
    """

    bias_order: ClassVar[float] = 2.0

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.fly(1 / 2), self.kick(1), self.fly(1 / 2)
