"""Lennard-Jones clusters, held together by a spring to the centre of mass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from ..errors import InvalidInput
from .pairs import Pairs


@dataclass(frozen=True, eq=False)
class LennardJones(Pairs):
    """``V = w eps sum_{i < j} [(r_m / r)^12 - 2 (r_m / r)^6] + (k / 2) sum_i |x_i - c|^2``, ``r = |x_i - x_j|``, c the mean.

    With w = 1 each pair counts once, and a pair at r_m has energy -eps; without the spring the minimum of 13 particles is the
    icosahedron, -44.326801 eps. Some codes sum over both orders of a pair, which is w = 2: twice as cold, and not a change of
    units, because the spring stays as it is. Without a spring (k = 0) the particles drift apart and there is no density.
    Coordinates are the (n - 1) D of a Helmert basis of the mean-free positions: d = 36 for LJ13 (`positions` and
    `coordinates` convert); papers that sample 39 numbers mean the same 36.

    V is bounded below, and +inf where two particles meet: within 2e-17 r_m in float64 (7e-3 r_m in float32) the pair's energy is
    capped at 1e202 eps (5e25 eps), with score 0, so that all values are finite. The Hessian is unbounded on both sides near
    contact: no m, no M. log Z, the covariance and an exact sampler are not known.

    Cost: n (n - 1) / 2 distances per row.

    Arguments:
        particles, space: n >= 2 and D >= 1.
        depth: eps > 0.
        distance: r_m > 0, where a pair is lowest.
        spring: k > 0.
        pair_weight: w > 0; 1 counts each pair once, 2 both orders.

    Errors: `InvalidInput` where a parameter is not positive, or there are not two particles.

    References: Koehler, Klein, Noe, "Equivariant flows: exact likelihood generative learning for symmetric densities" (2020),
        https://arxiv.org/abs/2006.02425; Wales, Doye, "Global optimization by basin-hopping and the lowest energy structures
        of Lennard-Jones clusters" (1997), Table 1, https://doi.org/10.1021/jp970984n

    Versions:
        bgflow (https://github.com/noegroup/bgflow): each pair once, eps = r_m = k = 1, as here; r is softened to sqrt(r^2 + 1e-6).
        E(n) flows / Garcia Satorras et al 2021 (https://github.com/vgsatorras/en_flows): both orders of a pair, not halved:
            pair_weight = 2.
        iDEM / Akhound-Sadegh et al 2024 (https://github.com/jarridrb/DEM): `lennard_jones.both_orders`: its energy_factor = 1 counts
            both orders; a comment there says that 0.5 is needed to match EACF. LJ13 and LJ55, on 39 and 165 mean-free numbers.
        EACF / Midgley et al 2023 (https://github.com/lollcat/se3-augmented-coupling-flows): eps / (2 tau) over both orders, that
            is each pair once, as here.
    """

    particles: int = 13
    space: int = 3
    depth: float = 1.0
    distance: float = 1.0
    spring: float = 1.0
    pair_weight: float = 1.0

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (("", {}), ("both_orders", {}))

    def __post_init__(self) -> None:
        self._check()
        for name in ("depth", "distance", "spring", "pair_weight"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InvalidInput(f"{name} must be a positive finite number, got {getattr(self, name)}")

    @classmethod
    def both_orders(cls, particles: int = 13) -> LennardJones:
        """The version of iDEM and of the E(n) flows: the sum over pairs counts both orders."""
        return cls(particles, pair_weight=2.0)

    @property
    def _stiffness(self) -> float:
        return self.spring

    def _pair(self, square: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # (r_m / r)^2 is capped where its ninth power, in the derivatives of V, would overflow
        least = self.distance**2 * torch.finfo(square.dtype).max ** (-1 / 9)
        s = self.distance**2 / square.clamp(min=least)
        cube = s * s * s
        energy = self.pair_weight * self.depth * cube * (cube - 2)
        slope = (-6 * self.pair_weight * self.depth / self.distance**2) * cube * s * (cube - 1)
        return energy, torch.where(square > least, slope, 0.0)
