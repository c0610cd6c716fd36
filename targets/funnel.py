"""Neal's funnel: the scale of all other coordinates is the exponential of one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from ..errors import InvalidInput
from .base import Batch, Constant, Target, Values

if TYPE_CHECKING:
    from ..samplers.noise import Noise


@dataclass(frozen=True, eq=False)
class Funnel(Target):
    """``V(v, x) = v^2 / (2 s^2) + (d - 1) v / 2 + exp(-v) |x|^2 / 2``: v ~ N(0, s^2), and d - 1 coordinates N(0, exp(v)) given v.

    Nothing is clipped, in the density or in the draws. Means are 0; v has variance s^2, each x_i ``exp(s^2 / 2)``.

    Constants: ``V_vv - V_vx V_xx^-1 V_xv = 1 / s^2 - exp(-v) |x|^2 / 2`` is unbounded below, and ``V_xx = exp(-v)`` above: there is
    neither m nor M. ``E exp(c |x_i|) >= E exp(c^2 exp(v) / 2) = inf`` for every c > 0, and a Poincare inequality would make it
    finite for small c: there is none, hence no log-Sobolev inequality.

    Cost: O(d) and one exponential per row.

    Arguments:
        dim: d >= 2, the coordinate v included; v is the first.
        variance: s^2 > 0, of v; Neal's standard deviation 3 is 9 here.

    Errors: `InvalidInput` where an argument is out of range.

    References: Neal, "Slice sampling" (2003), section 8, https://doi.org/10.1214/aos/1056562461
        Bakry, Gentil, Ledoux, "Analysis and Geometry of Markov Diffusion Operators" (2014), Proposition 4.4.2 (exponential
        integrability), https://doi.org/10.1007/978-3-319-00227-9

    Versions:
        Neal 2003 (https://doi.org/10.1214/aos/1056562461): dim = 10, variance = 9 (standard deviation 3), as here.
        AFT / Arbel, Matthews, Doucet 2021 (https://arxiv.org/abs/2102.07501): dim = 10, variance = 9, as here.
        PIS / Zhang, Chen 2022 (https://arxiv.org/abs/2111.15141): dim = 10, variance = 1 in its code; differs from Neal's in the variance.
        DDS / Vargas, Grathwohl, Doucet 2023 (https://arxiv.org/abs/2302.13834): density as here; its draws clip v at 11 and scale x by exp(-v / 2).
        DIS / Berner, Richter, Ullrich 2024 (https://arxiv.org/abs/2211.01364): dim = 10, variance = 9; its code takes dim - 1 for the variance.
        SLIPS / Grenioux et al. 2024 (https://arxiv.org/abs/2402.10758): dim = 10, variance = 3 in its code; differs from Neal's in the variance.
        DGFS / Zhang et al. 2024 (https://arxiv.org/abs/2310.02679): dim = 10, variance = 9, as here.
        PDDS / Phillips et al. 2024 (https://arxiv.org/abs/2402.06320): dim = 10, variance = 9, as here.
        gfn-diffusion / Sendera et al. 2024 (https://arxiv.org/abs/2402.05098): dim = 10; the hard funnel has variance = 9, the easy one variance = 1.
        Beyond ELBOs / Blessing et al. 2024 (https://arxiv.org/abs/2406.07423): density as here; its reference draws are clipped to [-30, 30].
        Inference Gym (https://github.com/tensorflow/probability): dim = 10, variance = 9, as here.
        NormalizingFlows.jl (https://github.com/TuringLang/NormalizingFlows.jl): 9 is the default standard deviation of v, so variance = 81.
    """

    dim: int = 10
    variance: float = 9.0

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (
        ("", {"dim": 10, "variance": 9.0}),
        ("", {"dim": 10, "variance": 1.0}),
        ("", {"dim": 2, "variance": 9.0}),
    )

    def __post_init__(self) -> None:
        if self.dim < 2:
            raise InvalidInput(f"dim must be at least 2, got {self.dim}")
        if not (math.isfinite(self.variance) and self.variance > 0):
            raise InvalidInput(f"variance must be positive, got {self.variance}")

    def _standardised(self, x: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """``exp(-v/4)``, shape (N, 1), and ``exp(-v/2) x``, shape (N, d - 1).

        In two factors: exp(-v/2) alone overflows where the product with a small x is finite. The cap below the overflow of one
        factor changes no value: beyond it the result is 0 for x = 0 and infinite for every other number.
        """
        root = torch.exp((-0.25 * x[:, :1]).clamp(max=math.log(torch.finfo(x.dtype).max) - 1))
        return root, (x[:, 1:] * root) * root

    def potential(self, x: Batch) -> Values:
        return self._value(x[:, 0], self._standardised(x)[1])

    def score(self, x: Batch) -> Batch:
        return self.potential_and_score(x)[1]

    def potential_and_score(self, x: Batch) -> tuple[Values, Batch]:
        v = x[:, :1]
        root, z = self._standardised(x)
        along = -v / self.variance + 0.5 * (z.square().sum(1, keepdim=True) - (self.dim - 1))
        return self._value(x[:, 0], z), torch.cat([along, -(z * root) * root], 1)

    def _value(self, v: Values, z: Batch) -> Values:
        return 0.5 * (v.square() / self.variance + (self.dim - 1) * v + z.square().sum(1))

    @property
    def log_normalizer(self) -> float:
        return 0.5 * self.dim * math.log(2 * math.pi) + 0.5 * math.log(self.variance)

    @property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        variances = torch.full((self.dim,), self.variance / 2, dtype=torch.float64).exp()
        if not bool(torch.isfinite(variances).all()):
            return None  # larger than any float
        variances[0] = self.variance
        return torch.zeros(self.dim, dtype=torch.float64), torch.diag(variances)

    @property
    def constants(self) -> Mapping[str, Constant]:
        why = "none: E exp(c |x_i|) is infinite for every c > 0"
        return {"lsi": Constant(0.0, "exact", why), "poincare": Constant(0.0, "exact", why)}

    def sample(self, n: int, noise: Noise) -> Batch:
        z = noise.normal((n, self.dim))
        v = self.variance**0.5 * z[:, :1]
        return torch.cat([v, torch.exp(0.5 * v) * z[:, 1:]], 1)
