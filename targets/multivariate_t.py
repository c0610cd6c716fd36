"""The multivariate t density: one chi-square radius for all coordinates, polynomial tails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from scipy import special

from ..errors import Unsupported
from .base import Batch, Constants, Target, Values
from .student_t import check, constants, log_normalizer, moments

if TYPE_CHECKING:
    from ..samplers.noise import Noise


@dataclass(frozen=True, eq=False)
class MultivariateT(Target):
    """``V(x) = (dof + d)/2 log(1 + |x|^2 / (dof scale^2))``: a Gaussian divided by the root of an independent chi-square over dof.

    With ``a = dof scale^2`` and r = |x|, Hess V is ``(dof + d) / (a + r^2)`` across the ray and ``(dof + d) (a - r^2) / (a + r^2)^2``
    along it: between ``-(dof + d) / (8 a)`` (at r^2 = 3 a) and ``(dof + d) / a`` (at 0), both attained. The covariance is
    ``dof scale^2 / (dof - 2) I`` where dof > 2 and infinite otherwise. The coordinates are uncorrelated and dependent: the
    product of t densities is `student_t`. Neither a Poincare nor a log-Sobolev inequality holds.

    Cost: O(d) per row, one logarithm.

    Arguments:
        dim: d >= 1; in d = 1 it is `student_t`.
        dof: degrees of freedom, > 0; 1 is the multivariate Cauchy. Below about 0.1 draws overflow in float64.
        scale: > 0, in units of length (not the standard deviation).

    Errors: `InvalidInput` where an argument is out of range; `Unsupported` where a grid asks for a box.

    References: Kotz, Nadarajah, "Multivariate t Distributions and Their Applications" (2004), section 1.1,
        https://doi.org/10.1017/CBO9780511550683

    Versions:
        scipy.stats.multivariate_t (https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.multivariate_t.html):
            shape = scale^2 I, as here; not the covariance, which is dof / (dof - 2) times it.
        Mousavi-Hosseini et al. 2023 (https://arxiv.org/abs/2303.03589): Cauchy type, (1 + |x|^2)^(-(d + nu)/2), is dof = nu,
            scale = nu^(-1/2) here.
    """

    dim: int = 2
    dof: float = 3.0
    scale: float = 1.0

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (("", {"dim": 2, "dof": 3.0}), ("", {"dim": 10, "dof": 4.0}))

    def __post_init__(self) -> None:
        check(self.dim, self.dof, self.scale)

    def potential(self, x: Batch) -> Values:
        return 0.5 * (self.dof + self.dim) * torch.log1p(((x / self.scale) ** 2).sum(1) / self.dof)

    def score(self, x: Batch) -> Batch:
        return -(self.dof + self.dim) * x / (self.dof * self.scale**2 + (x * x).sum(1, keepdim=True))

    @property
    def log_normalizer(self) -> float:
        return log_normalizer(self.dim, self.dof, self.scale)

    @property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        return moments(self.dim, self.dof, self.scale)

    @cached_property
    def constants(self) -> Constants:
        return constants(self.dim, self.dof, self.scale)

    def sample(self, n: int, noise: Noise) -> Batch:
        z = noise.normal((n, self.dim))
        half_chi2 = special.gammaincinv(self.dof / 2, noise.uniform((n, 1)).double().cpu().numpy())
        return self.scale * z * torch.as_tensor((0.5 * self.dof / half_chi2) ** 0.5).to(z)

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        raise Unsupported(f"{self.name} has polynomial tails: no box of moderate size holds its mass; give the grid a box")
