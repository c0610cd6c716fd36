"""The product of Student t densities: polynomial tails, so that neither a Poincare nor a log-Sobolev inequality holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import special

from ..errors import InvalidInput, Unsupported
from .base import Batch, Constant, Constants, Values
from .one_dimensional import OneDimensional
from .product import Product


@dataclass(frozen=True, eq=False)
class StudentT(Product):
    """``V(x) = sum_i (dof + 1)/2 log(1 + x_i^2 / (dof scale^2))``: d independent t variables. The joint law is not `multivariate_t`.

    With ``a = dof scale^2`` and ``u = x^2``, ``V'' = (dof + 1) (a - u) / (a + u)^2`` is largest at u = 0, ``(dof + 1) / a``, and
    smallest at u = 3 a, ``-(dof + 1) / (8 a)``: M and m, exact. The variance is ``dof scale^2 / (dof - 2)`` where dof > 2 and
    infinite otherwise. A Poincare inequality would give exponential moments, and a log-Sobolev inequality implies it.

    Cost: O(d) per row, one logarithm per coordinate.

    Arguments:
        dim: d >= 1.
        dof: degrees of freedom, > 0; 1 is Cauchy. Below about 0.1 draws overflow in float64.
        scale: > 0, in units of length (not the standard deviation).

    Errors: `InvalidInput` where an argument is out of range; `Unsupported` where a grid asks for a box: no box of moderate size
        holds all but 1e-19 of the mass.

    References: Bakry, Gentil, Ledoux, "Analysis and Geometry of Markov Diffusion Operators" (2014), Proposition 4.4.2
        (exponential moments), https://doi.org/10.1007/978-3-319-00227-9

    Versions:
        DenisBless/variational_sampling_methods (https://github.com/DenisBless/variational_sampling_methods): each component of its mixture
            of Student t is this product with dof = 2, scale = 1, moved to a location; its multivariate t is commented out.
    """

    dim: int = 1
    dof: float = 3.0
    scale: float = 1.0

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (("", {"dim": 1, "dof": 3.0}), ("", {"dim": 2, "dof": 2.0}))

    def __post_init__(self) -> None:
        check(self.dim, self.dof, self.scale)

    @cached_property
    def marginals(self) -> tuple[OneDimensional, ...]:
        return (_Marginal(self.dof, self.scale),) * self.dim

    def potential(self, x: Batch) -> Values:
        return 0.5 * (self.dof + 1) * torch.log1p((x / self.scale) ** 2 / self.dof).sum(1)

    def score(self, x: Batch) -> Batch:
        return -(self.dof + 1) * x / (self.dof * self.scale**2 + x * x)

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        raise Unsupported(f"{self.name} has polynomial tails: no box of moderate size holds its mass; give the grid a box")


@dataclass(frozen=True, eq=False)
class _Marginal(OneDimensional):
    """One coordinate, in closed form: no box holds the mass that a quadrature would need."""

    dof: float
    scale: float

    def potential(self, x: Batch) -> Values:
        return 0.5 * (self.dof + 1) * torch.log1p((x[:, 0] / self.scale) ** 2 / self.dof)

    def score(self, x: Batch) -> Batch:
        return -(self.dof + 1) * x / (self.dof * self.scale**2 + x * x)

    @property
    def log_normalizer(self) -> float:
        return log_normalizer(1, self.dof, self.scale)

    @cached_property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        return moments(1, self.dof, self.scale)

    @cached_property
    def constants(self) -> Constants:
        return constants(1, self.dof, self.scale)

    def quantile(self, u: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.scale * special.stdtrit(self.dof, u.double().cpu().numpy())).to(u)

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        raise Unsupported(f"{self.name} has polynomial tails: no box of moderate size holds its mass; give the grid a box")


def check(dim: int, dof: float, scale: float) -> None:
    """One line for the first parameter that is out of range."""
    if dim < 1:
        raise InvalidInput(f"dim must be at least 1, got {dim}")
    for name, value in (("dof", dof), ("scale", scale)):
        if not (math.isfinite(value) and value > 0):
            raise InvalidInput(f"{name} must be a positive finite number, got {value}")


def log_normalizer(dim: int, dof: float, scale: float) -> float:
    """log of the integral of ``(1 + |x|^2 / (dof scale^2))^(-(dof + dim)/2)`` over R^dim."""
    return math.lgamma(dof / 2) - math.lgamma((dof + dim) / 2) + dim * (0.5 * math.log(dof * math.pi) + math.log(scale))


def moments(dim: int, dof: float, scale: float) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Mean and covariance of the t density in `dim` dimensions, None where the covariance is infinite."""
    if not dof > 2:
        return None
    return torch.zeros(dim, dtype=torch.float64), dof / (dof - 2) * scale**2 * torch.eye(dim, dtype=torch.float64)


def constants(dim: int, dof: float, scale: float) -> Constants:
    """Curvature of ``(dof + dim)/2 log(1 + |x|^2/a)``, a = dof scale^2: across rays ``(dof + dim)/(a + r^2)``, along them
    ``(dof + dim) (a - r^2)/(a + r^2)^2``."""
    top = (dof + dim) / (dof * scale**2)
    return Constants(
        m=Constant(-top / 8, "exact", "curvature along the ray at |x|^2 = 3 dof scale^2"),
        M=Constant(top, "exact", "curvature at the centre"),
        lsi=Constant(0.0, "exact", "polynomial tails: no log-Sobolev inequality"),
        poincare=Constant(0.0, "exact", "polynomial tails: a Poincare inequality would give exponential moments"),
    )
