"""ManyWell: tilted double wells that alternate with standard normals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import torch

from ..errors import InvalidInput
from .base import Batch, Constant, Constants, Values
from .functional import muckenhoupt
from .multi_well import _StandardNormal
from .one_dimensional import OneDimensional
from .product import Product
from .spectrum import spectral_gap


@dataclass(frozen=True, eq=False)
class ManyWell(Product):
    """``V(x) = sum_{k=1}^{d/2} [x_{2k-1}^4 - 6 x_{2k-1}^2 - x_{2k-1} / 2 + x_{2k}^2 / 2]``: 2^(d/2) modes of unequal weight.

    The well's Z is 11784.509265, by quadrature, so log Z = 164.695675 in d = 32; 84 % of its mass lies to the right of 0.

    Constants: ``V'' = 12 x^2 - 12`` of a well is least at 0, so m = -12, and there is no M. The Poincare constant is the spectral
    gap of a well: a product has the smallest constant of its factors, and a standard normal's is 1; the log-Sobolev
    constant is bounded by the Muckenhoupt-type criterion on the line.

    Cost: O(d) per row.

    Arguments:
        dim: d >= 2, even.

    Errors: `InvalidInput` where `dim` is odd or below 2.

    References: Midgley, Stimper, Simm, Schoelkopf, Hernandez-Lobato, "Flow Annealed Importance Sampling Bootstrap" (2023),
        the Many Well problem, https://arxiv.org/abs/2208.01893

    Versions:
        Noe, Olsson, Koehler, Wu 2019 (https://doi.org/10.1126/science.aaw1147): one pair, tilted by + x_1 in its code; not by - x_1 / 2 as here.
        FAB / Midgley et al. 2023 (https://arxiv.org/abs/2208.01893): dim = 32 (and 6), as here.
        CRAFT / Matthews et al. 2022 (https://arxiv.org/abs/2201.13117): dim = 32 in its code, as here.
        DGFS / Zhang et al. 2024 (https://arxiv.org/abs/2310.02679): dim = 32, as here.
        gfn-diffusion / Sendera et al. 2024 (https://arxiv.org/abs/2402.05098): dim = 32, as here.
        Beyond ELBOs / Blessing et al. 2024 (https://arxiv.org/abs/2406.07423): dim = 32 in its code, as here.
        DIS / Berner, Richter, Ullrich 2024 (https://arxiv.org/abs/2211.01364): its double wells are symmetric and come first: `multi_well` here.
    """

    dim: int = 32

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (("", {"dim": 32}), ("", {"dim": 2}))

    def __post_init__(self) -> None:
        if self.dim < 2 or self.dim % 2:
            raise InvalidInput(f"dim must be even and at least 2, got {self.dim}")

    @cached_property
    def marginals(self) -> tuple[OneDimensional, ...]:
        return (_Well(), _StandardNormal()) * (self.dim // 2)

    def potential(self, x: Batch) -> Values:
        y = x[:, 0::2]
        return (y**2 * (y**2 - 6) - 0.5 * y).sum(1) + 0.5 * x[:, 1::2].square().sum(1)

    def score(self, x: Batch) -> Batch:
        y = x[:, 0::2]
        return torch.stack([0.5 + y * (12 - 4 * y**2), -x[:, 1::2]], 2).reshape(x.shape)


@dataclass(frozen=True, eq=False)
class _Well(OneDimensional):
    """``V(x) = x^4 - 6 x^2 - x / 2``."""

    def potential(self, x: Batch) -> Values:
        y = x[:, 0]
        return y**2 * (y**2 - 6) - 0.5 * y

    def score(self, x: Batch) -> Batch:
        return 0.5 + x * (12 - 4 * x**2)

    @cached_property
    def constants(self) -> Mapping[str, Constant]:
        return Constants(m=Constant(-12.0, "exact", "V'' at 0"), poincare=partial(spectral_gap, self), lsi=partial(muckenhoupt, self))
