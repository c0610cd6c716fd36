"""DW4: four particles in the plane, each pair in a double well of its distance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from ..errors import InvalidInput
from .pairs import Pairs


@dataclass(frozen=True, eq=False)
class DW4(Pairs):
    """``V = (1 / tau) sum_{i < j} [a (r - r0) + b (r - r0)^2 + c (r - r0)^4]``, ``r = |x_i - x_j|``: each pair counts once.

    The default (a, b, c, r0) = (0, -4, 0.9, 4) has wells at ``r = r0 +- sqrt(-b / (2 c))`` = 2.51 and 5.49, ``b^2 / (4 c)`` =
    4.44 deep, and is 166.4 where two particles meet (all over tau). Coordinates are the six of a Helmert basis of the mean-free
    positions (`positions` and `coordinates` convert); papers that sample eight numbers mean the same six.

    V is invariant under rotations, reflections and permutations. Where two particles meet it is finite and has a cusp: the
    score of that pair is taken as 0, and the Hessian is unbounded below as ``r -> 0``, above as ``r -> inf``. So no m and no
    M; log Z, the covariance and an exact sampler are not known.

    Cost: n (n - 1) / 2 distances per row.

    Arguments:
        a, b, c: of the pair energy; c > 0.
        offset: r0.
        temperature: tau > 0.
        particles, space: n >= 2 and D >= 1.

    Errors: `InvalidInput` where c or the temperature is not positive, or there are not two particles.

    References: Koehler, Klein, Noe, "Equivariant flows: exact likelihood generative learning for symmetric densities" (2020),
        https://arxiv.org/abs/2006.02425

    Versions:
        Koehler, Klein, Noe 2020 (https://arxiv.org/abs/2006.02425): (a, b, c, r0, tau) = (0, -4, 0.9, 4, 1), both orders of a
            pair with a factor 1/2, as here.
        bgflow (https://github.com/noegroup/bgflow): each pair once, as here; its `a` is the quartic coefficient, its `c` a constant.
        iDEM / Akhound-Sadegh et al 2024 (https://github.com/jarridrb/DEM): bgflow's energy with 0.9, -4, 0, 4, as here, on eight
            mean-free numbers.
        E(n) flows / Garcia Satorras et al 2021 (https://github.com/vgsatorras/en_flows): both orders halved, as here, but r is
            softened to sqrt(r^2 + 1e-6); its experiments train on stored samples.
        EACF / Midgley et al 2023 (https://github.com/lollcat/se3-augmented-coupling-flows): both orders halved, as here; also a
            variant in space, D = 3.
    """

    a: float = 0.0
    b: float = -4.0
    c: float = 0.9
    offset: float = 4.0
    temperature: float = 1.0
    particles: int = 4
    space: int = 2

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (("", {}),)

    def __post_init__(self) -> None:
        self._check()
        for name in ("c", "temperature"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InvalidInput(f"{name} must be a positive finite number, got {getattr(self, name)}")

    def _pair(self, square: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # below rounding of the unit of length the distance is as good as 0: there the direction is lost, and 1/r with it
        least = torch.finfo(square.dtype).eps ** 2
        r = square.clamp(min=least).sqrt()
        away = r - self.offset
        energy = ((self.c * away * away + self.b) * away + self.a) * away / self.temperature
        slope = ((4 * self.c * away * away + 2 * self.b) * away + self.a) / (2 * r * self.temperature)
        return energy, torch.where(square > least, slope, 0.0)
