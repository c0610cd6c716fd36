"""Concentric Gaussian shells; in the plane, rings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import torch
from scipy import special

from ..errors import InvalidInput
from .base import DEPTH, Constants, Values, vector
from .radial import Radial, log_sphere_area, radial_gap


@dataclass(frozen=True, eq=False)
class Shells(Radial):
    """``pi(x) = sum_k w_k exp(-(|x| - R_k)^2 / (2 width^2)) / Z_k``, V = -log pi (so log Z = 0).

    Z_k is the integral of shell k over R^d, with the factor r^(d-1) of the area: w_k is the exact mass of shell k. The radius is
    therefore not normal: its density in shell k is proportional to ``r^(d-1) exp(-(r - R_k)^2 / (2 width^2))``, and a sampler
    that draws ``R + width z`` has a smaller mean radius, by ``(d - 1) width^2 / R`` to first order.
    ``Z_k = area (integral of r^(d-1) exp(..))`` by the recurrence ``I_n = R I_(n-1) + (n - 1) width^2 I_(n-2)``, all terms positive.

    At the origin V has a cusp of slope ``-R / width^2``: across the ray Hess V is V'(r)/r, which tends to minus infinity, so V
    is semiconvex for no m and smooth for no M, and neither is declared. The Poincare constant comes by separation of variables.

    Cost: O(d + K) per row, one exponential per shell.

    Arguments:
        dim: d >= 2.
        radii: K radii R_k >= 0; one number is one shell.
        width: > 0, in units of length: the standard deviation across the shell, not the variance.
        weights: K positive masses, normalised to sum 1; equal where not given.

    Errors: `InvalidInput` where an argument is out of range; `Unsupported` where the shells are too thin for the quadrature
        (below about 1e-3 of the largest radius).

    References: Feroz, Hobson, Bridges, "MultiNest: an efficient and robust Bayesian inference tool for cosmology and particle
        physics" (2009), section 6.2 (Gaussian shells), https://arxiv.org/abs/0809.3437

    Versions:
        Grenioux, Noble, Gabrie, Durmus 2024 (https://github.com/h2o64/slips): rings = 4, radii 1 to 4, width 0.15; another density: there the
            radius is normal, so the density in the plane has a factor 1/|x| and a pole at the origin. Sampler and density agree.
        normflows RingMixture (https://github.com/VincentStimper/normalizing-flows): radii 1 and 2, width 1/8, shells of equal height, not
            mass: in the plane that is weights proportional to the radii (the second example). Drawn by rejection, so they agree.
        BAT.jl GaussianShell (https://github.com/bat/BAT.jl): one shell, dim = 2, radius 5, width 2, as here; its docstring calls the
            width a variance. The radius is drawn with its Jacobian.
        mcmc-demo donut (https://github.com/chi-feng/mcmc-demo): exp(-(|x| - 2.6)^2 / 0.033): one shell, width sqrt(0.033 / 2) = 0.1285.
        Cobaya (https://github.com/CobayaSampler/cobaya): gauss_ring_logp, radius 1, width 0.02, on a box of the positive quadrant; its
            normaliser is that of a normal density in |x|, not of the plane.
        Feroz, Hobson, Bridges 2009 (https://arxiv.org/abs/0809.3437): two shells of radius 2 and width 0.1 about two centres, 7 apart, under a
            uniform prior; differs from this density in the centres and in the normaliser, which lacks the area.
    """

    dim: int = 2
    radii: Any = 1.0
    width: float = 0.15
    weights: Any = None

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (
        ("rings", {"radii": [1.0, 2.0, 3.0, 4.0], "width": 0.15}),
        ("rings", {"radii": [1.0, 2.0], "width": 0.125, "weights": [1.0, 2.0]}),
        ("", {"dim": 10, "radii": [5.0], "width": 2.0}),
    )

    def __post_init__(self) -> None:
        if self.dim < 2:
            raise InvalidInput(f"dim must be at least 2, got {self.dim}; on the line a shell is two points")
        radii = vector(self.radii, "radii")
        if not bool((radii >= 0).all()):
            raise InvalidInput(f"radii must not be negative, got {float(radii.min())}")
        if not (math.isfinite(self.width) and self.width > 0):
            raise InvalidInput(f"width must be a positive finite number, got {self.width}")
        weights = torch.ones_like(radii) if self.weights is None else vector(self.weights, "weights")
        if weights.shape != radii.shape or not bool((weights > 0).all()):
            raise InvalidInput(f"weights must be {len(radii)} positive numbers, one per radius, got {weights.tolist()}")
        object.__setattr__(self, "radii", radii)
        object.__setattr__(self, "weights", weights / weights.sum())

    @classmethod
    def rings(cls, radii: Sequence[float] = (1.0, 2.0, 3.0, 4.0), width: float = 0.15, weights: Sequence[float] | None = None) -> Shells:
        """Shells in the plane."""
        return cls(2, radii, width, weights)

    @cached_property
    def _heights(self) -> torch.Tensor:
        """log(w_k / Z_k), shape (K,)."""
        log_z = [log_shell(self.dim, float(radius), self.width) for radius in self.radii]
        return torch.log(self.weights) - torch.tensor(log_z, dtype=torch.float64)

    def _exponents(self, r: Values) -> torch.Tensor:
        return self._heights.to(r) - 0.5 * ((r.unsqueeze(-1) - self.radii.to(r)) / self.width) ** 2

    def profile(self, r: Values) -> Values:
        return -torch.logsumexp(self._exponents(r), -1)

    def slope(self, r: Values) -> Values:
        responsibility = torch.softmax(self._exponents(r), -1)
        return (responsibility * (r.unsqueeze(-1) - self.radii.to(r))).sum(-1) / self.width**2

    @cached_property
    def reach(self) -> float:
        # (r/R)^(d-1) exp(-(r-R)^2/(2 w^2)) peaks at no more than R + w sqrt(d-1), and from its peak on falls at least like the Gaussian
        return float(self.radii.max()) + self.width * (math.sqrt(self.dim - 1) + math.sqrt(2 * DEPTH))

    @property
    def log_normalizer(self) -> float:
        return 0.0

    @cached_property
    def constants(self) -> Constants:
        return Constants(poincare=partial(radial_gap, self))


def log_shell(dim: int, radius: float, width: float) -> float:
    """log of the integral of ``exp(-(|x| - radius)^2 / (2 width^2))`` over R^dim, by the recurrence for I_n / I_(n-1)."""
    t = radius / width
    log_i = 0.5 * math.log(2 * math.pi) + float(special.log_ndtr(t))  # I_0, in units of the width
    ratio = 0.0
    for n in range(1, dim):
        ratio = t + (math.exp(-0.5 * t * t - log_i) if n == 1 else (n - 1) / ratio)
        log_i += math.log(ratio)
    return log_sphere_area(dim) + log_i + dim * math.log(width)
