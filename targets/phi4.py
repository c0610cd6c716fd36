"""The phi^4 chain: a discretised field in a double well, with fixed ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from ..errors import InvalidInput
from .base import DEPTH, Batch, Constant, Target, Values
from .chain import Chain, reach, spring
from .lattice import log_sobolev

if TYPE_CHECKING:
    from ..samplers.noise import Noise


@dataclass(frozen=True, eq=False)
class Phi4(Target):
    """``V = beta { (a N / 2) sum_{i=1}^{N+1} (x_i - x_{i-1})^2 + (1 / (a N)) sum_i [(1 - x_i^2)^2 / 4 + b x_i] }``, ends 0.

    A field on (0, 1) at N points, ``x_0 = x_{N+1} = 0``; for b = 0 two modes, +-1 but near the ends. Z, the mean, the covariance
    and exact draws come from the transfer operator.

    The Hessian is ``beta [a N L + diag(3 x_i^2 - 1) / (a N)]``, L the second difference with fixed ends, whose least eigenvalue is
    ``4 sin^2(pi / (2 (N + 1)))``: at x = 0 the spectrum is lowest, and m exact. V is not smooth at infinity.

    Cost: O(N) per row for V and the score; a draw, N conditional densities on some 200 nodes.

    Arguments:
        dim: N >= 1.
        coupling: a > 0.
        beta: inverse temperature > 0.
        field: b, any sign.

    Errors: `InvalidInput` where N, a or beta is out of range.

    References: Gabrie, Rotskoff, Vanden-Eijnden, "Adaptive Monte Carlo augmented with normalizing flows" (2022), section on the
        stochastic Allen-Cahn model, https://doi.org/10.1073/pnas.2109420119

    Versions:
        Gabrie et al 2022 (https://github.com/marylou-gabrie/flonaco): a = 0.1, beta = 20, b = 0, trained models for N = 100, as here;
            beta is left out of its energy and put into the Gibbs factor.
        SLIPS / Grenioux et al 2024 (https://github.com/h2o64/slips): a = 0.1, beta = 20, N = 100 and b = 0, 0.025, 0.05, 0.075,
            0.1, as here.
    """

    dim: int = 100
    coupling: float = 0.1
    beta: float = 20.0
    field: float = 0.0

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (("", {"dim": 16}), ("", {"dim": 16, "field": 0.002}))

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise InvalidInput(f"dim must be at least 1, got {self.dim}")
        for name in ("coupling", "beta"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InvalidInput(f"{name} must be a positive finite number, got {getattr(self, name)}")
        if not np.isfinite(self.field):
            raise InvalidInput(f"field must be a finite number, got {self.field}")

    @property
    def _bond(self) -> float:
        """beta a N."""
        return self.beta * self.coupling * self.dim

    @property
    def _site(self) -> float:
        """beta / (a N)."""
        return self.beta / (self.coupling * self.dim)

    def potential(self, x: Batch) -> Values:
        steps = torch.diff(torch.nn.functional.pad(x, (1, 1)))
        well = 1 - x * x
        return self._bond / 2 * (steps * steps).sum(1) + self._site * (well * well / 4 + self.field * x).sum(1)

    def score(self, x: Batch) -> Batch:
        bends = torch.diff(torch.nn.functional.pad(x, (1, 1)), n=2)
        return self._bond * bends + self._site * (x * (1 - x * x) - self.field)

    @cached_property
    def _chain(self) -> Chain:
        site = partial(_well, weight=self._site, field=self.field)
        return Chain(site, partial(spring, stiffness=self._bond), self.dim, *reach(site, DEPTH + 10), ends=(0.0, 0.0))

    @property
    def log_normalizer(self) -> float:
        return self._chain.log_normalizer

    @cached_property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.as_tensor(self._chain.mean), torch.as_tensor(self._chain.cov)

    def sample(self, n: int, noise: Noise) -> Batch:
        return self._chain.sample(n, noise)

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        return np.full(self.dim, self._chain.lo), np.full(self.dim, self._chain.hi)

    @cached_property
    def constants(self) -> Mapping[str, Constant]:
        stiffness = float(self._bond * 4 * np.sin(np.pi / (2 * (self.dim + 1))) ** 2)
        lsi = log_sobolev(-self._site, self._site, self.dim, stiffness)
        return {
            "m": Constant(stiffness - self._site, "exact", "least eigenvalue of the Hessian at 0, where every site's curvature is least"),
            "lsi": lsi,
            "poincare": Constant(lsi.value, "bound", "log-Sobolev implies Poincare"),
        }


def _well(x: np.ndarray, weight: float, field: float) -> np.ndarray:
    return weight * ((1 - x * x) ** 2 / 4 + field * x)
