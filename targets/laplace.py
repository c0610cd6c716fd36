"""The product Laplace density: convex, exponential tails, a kink at its centre."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch

from ..errors import InvalidInput
from .base import DEPTH, Batch, Constant, Constants, Values
from .one_dimensional import OneDimensional
from .product import Product


@dataclass(frozen=True, eq=False)
class Laplace(Product):
    """``V(x) = sum_i |x_i - location| / scale``, Z = (2 scale)^d: independent two-sided exponentials, variance 2 scale^2 each.

    V is convex and affine off its kinks, so m = 0 and V is smooth for no M; at a kink the score is 0, the middle of the
    subdifferential. On the line the generator is unitarily equivalent to ``-d^2/dx^2 - delta_0 / scale + 1/(4 scale^2)``: one
    bound state, which is the ground state, and continuous spectrum from 1/(4 scale^2) on. That is the Poincare constant, in
    any dimension because it is the smallest over the coordinates. A log-Sobolev inequality would make the tails Gaussian.

    Cost: O(d) per row.

    Arguments:
        dim: d >= 1.
        scale: > 0, in units of length (not the rate, which is its inverse).
        location: centre of every coordinate.

    Errors: `InvalidInput` where an argument is out of range.

    References: Bobkov, Ledoux, "Poincare's inequalities and Talagrand's concentration phenomenon for the exponential
        distribution" (1997), https://doi.org/10.1007/s004400050090

    Versions:
        Bobkov, Ledoux 1997 (https://doi.org/10.1007/s004400050090): scale = 1, location = 0, as here; the constant in Var f <= 4 E|grad f|^2.
        Stan (https://mc-stan.org/docs/2_33/functions-reference/double-exponential-laplace-distribution.html):
            double_exponential(mu, sigma), sigma = scale.
        NIMBLE (https://search.r-project.org/CRAN/refmans/nimble/html/Double-Exponential.html): ddexp takes a scale or a rate; rate = 1/scale.
    """

    dim: int = 1
    scale: float = 1.0
    location: float = 0.0

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (("", {"dim": 1}), ("", {"dim": 2, "scale": 0.5, "location": 1.0}))

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise InvalidInput(f"dim must be at least 1, got {self.dim}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise InvalidInput(f"scale must be a positive finite number, got {self.scale}")
        if not math.isfinite(self.location):
            raise InvalidInput(f"location must be finite, got {self.location}")

    @cached_property
    def marginals(self) -> tuple[OneDimensional, ...]:
        return (_Marginal(self.scale, self.location),) * self.dim

    def potential(self, x: Batch) -> Values:
        return (x - self.location).abs().sum(1) / self.scale

    def score(self, x: Batch) -> Batch:
        return torch.sign(self.location - x) / self.scale

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        centre = np.full(self.dim, float(self.location))
        return centre - DEPTH * self.scale, centre + DEPTH * self.scale


@dataclass(frozen=True, eq=False)
class _Marginal(OneDimensional):
    """One coordinate, in closed form: a quadrature that steps over the kink would lose its order."""

    scale: float
    location: float

    def potential(self, x: Batch) -> Values:
        return (x[:, 0] - self.location).abs() / self.scale

    def score(self, x: Batch) -> Batch:
        return torch.sign(self.location - x) / self.scale

    @property
    def log_normalizer(self) -> float:
        return math.log(2 * self.scale)

    @cached_property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor([self.location], dtype=torch.float64), torch.tensor([[2.0 * self.scale**2]], dtype=torch.float64)

    @cached_property
    def constants(self) -> Constants:
        return Constants(
            m=Constant(0.0, "exact", "V is affine off the kink"),
            lsi=Constant(0.0, "exact", "exponential tails: no log-Sobolev inequality"),
            poincare=Constant(0.25 / self.scale**2, "exact", "edge of the continuous spectrum, 1/(4 scale^2)"),
        )

    def quantile(self, u: torch.Tensor) -> torch.Tensor:
        left = torch.log(2.0 * torch.minimum(u, 1.0 - u))  # of the nearer tail, so that both keep their relative accuracy
        return self.location + self.scale * torch.where(u < 0.5, left, -left)

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array([self.location - DEPTH * self.scale]), np.array([self.location + DEPTH * self.scale])
