"""MultiWell: symmetric double wells along some coordinates, standard normals along the others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import torch

from ..errors import InvalidInput, Unsupported
from .base import Batch, Constant, Constants, Values
from .one_dimensional import OneDimensional
from .product import Product
from .spectrum import spectral_gap


@dataclass(frozen=True, eq=False)
class MultiWell(Product):
    """``V(x) = sum_{i <= wells} (x_i^2 - delta)^2 + (x_{wells+1}^2 + ... + x_d^2) / 2``: 2^wells modes, all of the same weight.

    Constants: ``V'' = 12 x^2 - 4 delta`` of a well is least at 0, so ``m = -4 delta`` and there is no M. The log-Sobolev constant is
    bounded by Holley-Stroock with ``U' = max(V', c x)`` on the right half: the two cross at ``x^2 = delta + c/4``, where ``V'' = 8 delta
    + 3 c >= c``; the oscillation of U - V is ``(c + 4 delta)^2 / 16``, and ``c exp(-(c + 4 delta)^2 / 16)`` is largest at ``c =
    sqrt(4 delta^2 + 8) - 2 delta``. The Poincare constant is the spectral gap of a well. A product has the smallest constants of its
    factors, and a standard normal's are 1.

    Cost: O(d) per row.

    Arguments:
        dim: d >= wells.
        wells: number of double wells, >= 1; they are the first coordinates.
        delta: > 0; the modes are at ``+- sqrt(delta)``, and the barrier is ``delta^2``.

    Errors: `InvalidInput` where an argument is out of range.

    References: Richter, Berner, "Improved sampling via learned diffusions" (2024), https://arxiv.org/abs/2307.01198
        Holley, Stroock, "Logarithmic Sobolev inequalities and stochastic Ising models" (1987), https://doi.org/10.1007/BF01011161

    Versions:
        DIS / Berner, Richter, Ullrich 2024 (https://arxiv.org/abs/2211.01364): wells = 5, with dim = 5, delta = 4 or dim = 50, delta = 2, as here.
        Richter, Berner 2024 (https://arxiv.org/abs/2307.01198): the same two, in the same code (`mw`, `mw_50d`), as here.
        ZOD-MC / He, Rojas, Tao 2024 (https://arxiv.org/abs/2402.17886): `DoubleWell` in its code is wells = dim, delta = 3 or 4, as here.
        FAB / Midgley et al. 2023 (https://arxiv.org/abs/2208.01893): its Many Well has tilted wells that alternate with normals: `many_well` here.
        DEM / Akhound-Sadegh et al. 2024 (https://arxiv.org/abs/2402.06121): DW-4 is double wells in the distances of 4 particles; not this density.
    """

    dim: int = 5
    wells: int = 5
    delta: float = 4.0

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (
        ("", {"dim": 5, "wells": 5, "delta": 4.0}),
        ("", {"dim": 50, "wells": 5, "delta": 2.0}),
    )

    def __post_init__(self) -> None:
        if not 1 <= self.wells <= self.dim:
            raise InvalidInput(f"wells must be at least 1 and at most dim = {self.dim}, got {self.wells}")
        if not (math.isfinite(self.delta) and self.delta > 0):
            raise InvalidInput(f"delta must be positive, got {self.delta}")

    @cached_property
    def marginals(self) -> tuple[OneDimensional, ...]:
        return (_Well(self.delta),) * self.wells + (_StandardNormal(),) * (self.dim - self.wells)

    def potential(self, x: Batch) -> Values:
        k = self.wells
        return (x[:, :k] ** 2 - self.delta).square().sum(1) + 0.5 * x[:, k:].square().sum(1)

    def score(self, x: Batch) -> Batch:
        k = self.wells
        return torch.cat([-4 * x[:, :k] * (x[:, :k] ** 2 - self.delta), -x[:, k:]], 1)


@dataclass(frozen=True, eq=False)
class _Well(OneDimensional):
    """``V(x) = (x^2 - delta)^2``."""

    delta: float

    def potential(self, x: Batch) -> Values:
        return (x[:, 0] ** 2 - self.delta).square()

    def score(self, x: Batch) -> Batch:
        return -4 * x * (x**2 - self.delta)

    @cached_property
    def constants(self) -> Mapping[str, Constant]:
        return Constants(
            m=Constant(-4 * self.delta, "exact", "V'' at the barrier"), lsi=partial(_log_sobolev, self.delta), poincare=partial(_gap, self)
        )


def _log_sobolev(delta: float) -> Constant:
    c = 8 / (math.sqrt(4 * delta**2 + 8) + 2 * delta)  # sqrt(4 delta^2 + 8) - 2 delta without the cancellation
    return _resolved(Constant(c * math.exp(-((c + 4 * delta) ** 2) / 16), "bound", "Holley-Stroock, closed form"))


def _gap(well: _Well) -> Constant:
    return _resolved(spectral_gap(well))


def _resolved(constant: Constant) -> Constant:
    """Behind a high barrier the constant is below rounding; 0 would say that there is no inequality."""
    if not constant.value > 1e-300:
        raise Unsupported(f"{constant.why}: the constant is below rounding")
    return constant


@dataclass(frozen=True, eq=False)
class _StandardNormal(OneDimensional):
    """``V(x) = x^2 / 2``."""

    def potential(self, x: Batch) -> Values:
        return 0.5 * x[:, 0] ** 2

    def score(self, x: Batch) -> Batch:
        return -x

    @property
    def constants(self) -> Mapping[str, Constant]:
        return {name: Constant(1.0, "exact", "standard normal") for name in ("m", "M", "lsi", "poincare")}
