"""The spherically symmetric Laplace density: its Poincare constant is the hydrogen atom's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from scipy import special

from ..errors import InvalidInput
from .base import Batch, Constant, Constants, Target, Values
from .radial import length, log_sphere_area

if TYPE_CHECKING:
    from ..samplers.noise import Noise


@dataclass(frozen=True, eq=False)
class MultivariateLaplace(Target):
    """``V(x) = |x| / scale``: the radius is Gamma(d, scale), the direction uniform; covariance ``(d + 1) scale^2 I``.

    Not the multivariate Laplace law of Kotz, Kozubowski, Podgorski: theirs is a Gaussian scale mixture, its density has a
    Bessel function and a pole at the origin in d >= 2, and its marginals are Laplace; here the density is exp(-|x|/scale).

    V is convex and affine along rays, so m = 0; across them ``Hess V`` is 1/(scale |x|), so V is smooth for no M. On the
    functions ``f(r) Y_l`` the generator is unitarily equivalent to the Schroedinger operator of a Coulomb charge,
    ``-g'' + L (L + 1) g / r^2 - (d - 1) g / (2 scale r) + g / (4 scale^2)`` with ``L = l + (d - 3)/2``, whose eigenvalues are
    ``(1 - ((d - 1) / (d - 1 + 2 (k + l)))^2) / (4 scale^2)``. The smallest above 0 has k + l = 1: the Poincare constant is
    ``d / ((d + 1) scale)^2``, attained by ``x_i exp(|x| / ((d + 1) scale))``; in d = 1 it is the edge of the continuous
    spectrum. It lies between the bounds (d - 1)/E|x|^2 and d/E|x|^2 of Bonnefont, Joulin, Ma. No log-Sobolev inequality.

    Cost: O(d) per row.

    Arguments:
        dim: d >= 1; in d = 1 it is `laplace`.
        scale: > 0, in units of length.

    Errors: `InvalidInput` where an argument is out of range.

    References: Bonnefont, Joulin, Ma, "Spectral gap for spherically symmetric log-concave probability measures, and beyond"
        (2016), https://arxiv.org/abs/1406.4621
        Kotz, Kozubowski, Podgorski, "The Laplace Distribution and Generalizations" (2001), chapter 5,
        https://doi.org/10.1007/978-1-4612-0173-1

    Versions:
        Bonnefont, Joulin, Ma 2016 (https://arxiv.org/abs/1406.4621): this density belongs to their class, V a function of |x|.
        Kotz, Kozubowski, Podgorski 2001 (https://doi.org/10.1007/978-1-4612-0173-1): another density, a Gaussian with exponential variance.
        LaplacesDemon dmvl (https://rdocumentation.org/packages/LaplacesDemon/versions/16.1.6/topics/dist.Multivariate.Laplace):
            exp(-sqrt(2) |x|) over a power of |x|, an approximation of the Kotz density; differs from this one by the power.
        Gomez, Gomez-Villegas, Marin 1998 (https://doi.org/10.1080/03610929808832115): power exponential; beta = 1/2 is scale = 2 here.
    """

    dim: int = 2
    scale: float = 1.0

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (("", {"dim": 2}), ("", {"dim": 10, "scale": 0.5}))

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise InvalidInput(f"dim must be at least 1, got {self.dim}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise InvalidInput(f"scale must be a positive finite number, got {self.scale}")

    def potential(self, x: Batch) -> Values:
        return length(x) / self.scale

    def score(self, x: Batch) -> Batch:
        # at the origin 0, the middle of the subdifferential
        return -torch.nn.functional.normalize(x, dim=1, eps=torch.finfo(x.dtype).tiny) / self.scale

    @property
    def log_normalizer(self) -> float:
        return log_sphere_area(self.dim) + math.lgamma(self.dim) + self.dim * math.log(self.scale)

    @property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        eye = torch.eye(self.dim, dtype=torch.float64)
        return torch.zeros(self.dim, dtype=torch.float64), (self.dim + 1) * self.scale**2 * eye

    @cached_property
    def constants(self) -> Constants:
        d, s = self.dim, self.scale
        return Constants(
            m=Constant(0.0, "exact", "V is convex, and affine along rays"),
            lsi=Constant(0.0, "exact", "exponential tails: no log-Sobolev inequality"),
            poincare=Constant(d / ((d + 1) * s) ** 2, "exact", "Coulomb spectrum: d/((d + 1) scale)^2"),
        )

    def sample(self, n: int, noise: Noise) -> Batch:
        direction = torch.nn.functional.normalize(noise.normal((n, self.dim)), dim=1)
        u = noise.uniform((n, 1))
        return torch.as_tensor(self.scale * special.gammaincinv(self.dim, u.double().cpu().numpy())).to(u) * direction

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        reach = np.full(self.dim, self.scale * special.gammainccinv(self.dim, 1e-19))
        return -reach, reach
