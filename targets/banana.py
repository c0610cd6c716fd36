"""The banana: a Gaussian twisted along a parabola."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from ..errors import InvalidInput
from .base import DEPTH, Batch, Constant, Split, Target, Values
from .gaussian import Gaussian

if TYPE_CHECKING:
    from ..samplers.noise import Noise


@dataclass(frozen=True, eq=False)
class Banana(Target):
    """``V(x) = x_1^2 / (2 s^2) + w^2 / 2 + (x_3^2 + ... + x_d^2) / 2`` with ``w = x_2 + b x_1^2 - b s^2``.

    The law of ``(y_1, y_2 - b y_1^2 + b s^2, y_3, ..., y_d)`` for ``y ~ N(0, diag(s^2, 1, ..., 1))``: the map has unit
    Jacobian, so Z is the Gaussian's, and the shift ``b s^2`` makes the mean 0. The arms point to negative x_2. The
    covariance is ``diag(s^2, 1 + 2 b^2 s^4, 1, ..., 1)``.

    Where x_1 = 0 the Hessian's first entry is ``1 / s^2 + 2 b (x_2 - b s^2)``, unbounded in both directions: there is neither m
    nor M. ``E exp(c x_2^2) = inf`` for every c > 0, since x_2 is ``-b y_1^2`` and less, and a log-Sobolev inequality would
    make it finite for small c (Herbst): there is none. ``f = exp(-c x_2)`` with c up to ``1 / (4 b s^2)``, where E f^2 turns infinite,
    shows that the Poincare constant is at most ``1 / (16 b^2 s^4)``.

    Cost: O(d) per row.

    Arguments:
        dim: d >= 2; the coordinates from the third on are independent standard normals.
        curvature: b > 0.
        variance: s^2 > 0, of the first coordinate.

    Errors: `InvalidInput` where an argument is out of range.

    References: Haario, Saksman, Tamminen, "Adaptive proposal distribution for random walk Metropolis algorithm" (1999),
        https://doi.org/10.1007/s001800050022
        Bakry, Gentil, Ledoux, "Analysis and Geometry of Markov Diffusion Operators" (2014), Proposition 5.4.1 (Herbst),
        https://doi.org/10.1007/978-3-319-00227-9

    Versions:
        Haario, Saksman, Tamminen 1999 (https://doi.org/10.1007/s001800050022): variance = 100, curvature = 0.03 (pi_3) or 0.1 (pi_4), as here.
        Roberts, Rosenthal 2009 (https://doi.org/10.1198/jcgs.2009.06134): dim = 20, curvature = 0.1, variance = 100, as here.
        Inference Gym (https://github.com/tensorflow/probability): curvature = 0.03, variance = 100; differs in the sign of x_2.
        NormalizingFlows.jl (https://github.com/TuringLang/NormalizingFlows.jl): dim, curvature and variance are free, as here.
        PINTS (https://github.com/pints-team/pints): dim = 10, curvature = 0.1, variance = 100; its shift b V has a V of its own, 100 by default.
    """

    dim: int = 2
    curvature: float = 0.1
    variance: float = 100.0

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (
        ("", {"dim": 2, "curvature": 0.03, "variance": 100.0}),
        ("", {"dim": 2, "curvature": 0.1, "variance": 100.0}),
        ("", {"dim": 8, "curvature": 0.1, "variance": 100.0}),
    )

    def __post_init__(self) -> None:
        if self.dim < 2:
            raise InvalidInput(f"dim must be at least 2, got {self.dim}")
        for name, value in (("curvature", self.curvature), ("variance", self.variance)):
            if not (np.isfinite(value) and value > 0):
                raise InvalidInput(f"{name} must be positive, got {value}")

    def potential(self, x: Batch) -> Values:
        b, s2 = self.curvature, self.variance
        w = x[:, 1] + b * (x[:, 0] ** 2 - s2)
        return 0.5 * (x[:, 0] ** 2 / s2 + w**2 + (x[:, 2:] ** 2).sum(1))

    def score(self, x: Batch) -> Batch:
        b, s2 = self.curvature, self.variance
        w = x[:, 1] + b * (x[:, 0] ** 2 - s2)
        return torch.cat([torch.stack([-x[:, 0] / s2 - 2 * b * x[:, 0] * w, -w], 1), -x[:, 2:]], 1)

    @property
    def log_normalizer(self) -> float:
        return float(0.5 * self.dim * np.log(2 * np.pi) + 0.5 * np.log(self.variance))

    @property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        variances = torch.ones(self.dim, dtype=torch.float64)
        variances[0], variances[1] = self.variance, 1 + 2 * self.curvature**2 * self.variance**2
        return torch.zeros(self.dim, dtype=torch.float64), torch.diag(variances)

    @property
    def constants(self) -> Mapping[str, Constant]:
        return {"lsi": Constant(0.0, "exact", "none: E exp(c x_2^2) is infinite for every c > 0, against Herbst's argument")}

    @property
    def split(self) -> Split | None:
        if self.dim == 2:
            return None
        plane = Banana(2, self.curvature, self.variance)
        return Split(None, (plane, *[Gaussian.isotropic(1)] * (self.dim - 2)))

    def sample(self, n: int, noise: Noise) -> Batch:
        y = noise.normal((n, self.dim))
        bend = self.curvature * self.variance * (y[:, 0] ** 2 - 1)
        return torch.cat([torch.stack([self.variance**0.5 * y[:, 0], y[:, 1] - bend], 1), y[:, 2:]], 1)

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        # x_1 = s p, x_2 = q - c (p^2 - 1) over the disc p^2 + q^2 <= r^2; x_2 is least at q = -1/(2 c), or at q = -r, p = 0
        r, c = (2 * DEPTH) ** 0.5, self.curvature * self.variance
        hi = np.full(self.dim, r)
        lo = -hi
        hi[0], lo[0] = self.variance**0.5 * hi[0], self.variance**0.5 * lo[0]
        q = -min(r, 0.5 / c)
        hi[1], lo[1] = r + c, q - c * (r**2 - q**2 - 1)
        return lo, hi
