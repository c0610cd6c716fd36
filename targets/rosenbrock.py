"""The Hybrid Rosenbrock density: curved, and still with an exact sampler, normaliser and moments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.polynomial import polynomial

from ..errors import InvalidInput, Unsupported
from .base import DEPTH, Batch, Constant, Constants, Target, Values

if TYPE_CHECKING:
    from ..samplers.noise import Noise


@dataclass(frozen=True, eq=False)
class Rosenbrock(Target):
    """``V(x) = a (x_1 - mu)^2 + b sum_{j=1}^{blocks} sum_{i=2}^{length} (x_{j,i} - x_{j,i-1}^2)^2`` with ``x_{j,1} = x_1``.

    Dimension ``(length - 1) blocks + 1``, coordinates x_1, then block after block. It is a tree of Gaussian conditionals,
    ``x_1 ~ N(mu, 1/(2a))`` and ``x_{j,i} ~ N(x_{j,i-1}^2, 1/(2b))`` given its parent, hence ``Z = sqrt(pi/a) (pi/b)^{(d-1)/2}``,
    draws from the root outwards, and moments in closed form: given its parent y, ``E p(x_{j,i})`` is again a polynomial in y.

    Constants: ``d^2 V / d x_{j,i-1}^2`` contains ``-4 b x_{j,i}`` and ``12 b x_{j,i-1}^2``: there is neither m nor M. ``x_{j,2}`` is
    about ``x_1^2``, so ``E exp(c x_{j,2}^2) = inf`` for every c > 0, against Herbst: no log-Sobolev inequality holds. Where length
    >= 3, ``x_{j,3}`` is about ``x_1^4`` and ``E exp(c |x_{j,3}|) = inf``: then there is no Poincare inequality either. Where length = 2,
    ``f = exp(c x_{j,2})`` with c up to a / 2 shows that the Poincare constant is at most ``a^2 / 4``.

    The full Rosenbrock density ``exp(-sum_{i<d} [100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2] / 20)`` has a second factor on every
    coordinate but the last, so its conditionals are not Gaussian and Z is unknown. The even one is a product of d / 2 planes:
    the 2-D density here, repeated.

    Cost: O(d) per row.

    Arguments:
        length: n_1 >= 2, coordinates in a block with the common x_1.
        blocks: n_2 >= 1.
        a: > 0, of x_1 alone.
        b: > 0, the same for every edge.
        mu: the mean of x_1, finite.

    Errors: `InvalidInput` where an argument is out of range.

    References: Pagani, Wiegand, Nadarajah, "An n-dimensional Rosenbrock distribution for Markov chain Monte Carlo testing"
        (2022), https://arxiv.org/abs/1903.09556
        Bakry, Gentil, Ledoux, "Analysis and Geometry of Markov Diffusion Operators" (2014), Propositions 4.4.2 and 5.4.1,
        https://doi.org/10.1007/978-3-319-00227-9

    Versions:
        Goodman, Weare 2010 (https://doi.org/10.2140/camcos.2010.5.65): the plane with a = 1/20, b = 100/20, mu = 1: `classical` here.
        Pagani, Wiegand, Nadarajah 2022 (https://arxiv.org/abs/1903.09556): length = 3, blocks = 2, a = 1/20, b = 100/20, mu = 1 (tutorial), as here.
        CRAN Rosenbrock 0.1.0 (https://cran.r-project.org/package=Rosenbrock): its `rhybrid` draws x_1 with deviation 1/(2a), not 1/sqrt(2a).
        sde_sampler (https://github.com/juliusberner/sde_sampler): the full Rosenbrock function in dim = 15, divided by 10; not this density.
    """

    length: int = 3
    blocks: int = 2
    a: float = 0.05
    b: float = 5.0
    mu: float = 1.0

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (
        ("classical", {}),
        ("", {"length": 3, "blocks": 2, "a": 0.05, "b": 5.0, "mu": 1.0}),
        ("", {"length": 2, "blocks": 4, "a": 0.5, "b": 0.5, "mu": 1.0}),
    )

    def __post_init__(self) -> None:
        if self.length < 2 or self.blocks < 1:
            raise InvalidInput(f"length must be at least 2 and blocks at least 1, got {self.length} and {self.blocks}")
        for name, value in (("a", self.a), ("b", self.b)):
            if not (math.isfinite(value) and value > 0):
                raise InvalidInput(f"{name} must be positive, got {value}")
        if not math.isfinite(self.mu):
            raise InvalidInput(f"mu must be finite, got {self.mu}")

    @classmethod
    def classical(cls, a: float = 0.05, b: float = 5.0, mu: float = 1.0) -> Rosenbrock:
        """The plane: ``V(x) = a (x_1 - mu)^2 + b (x_2 - x_1^2)^2``; by default the Rosenbrock function over 20."""
        return cls(2, 1, a, b, mu)

    @property
    def dim(self) -> int:
        return (self.length - 1) * self.blocks + 1

    @cached_property
    def _parent(self) -> torch.Tensor:
        """Index of the parent of each coordinate but the first."""
        child = torch.arange(1, self.dim)
        return torch.where((child - 1) % (self.length - 1) == 0, 0, child - 1)

    def potential(self, x: Batch) -> Values:
        residual = x[:, 1:] - x[:, self._parent.to(x.device)] ** 2
        return self.a * (x[:, 0] - self.mu) ** 2 + self.b * residual.square().sum(1)

    def score(self, x: Batch) -> Batch:
        return self.potential_and_score(x)[1]

    def potential_and_score(self, x: Batch) -> tuple[Values, Batch]:
        parent = self._parent.to(x.device)
        above, from_mu = x[:, parent], x[:, :1] - self.mu
        residual = x[:, 1:] - above**2
        own = torch.cat([-2 * self.a * from_mu, -2 * self.b * residual], 1)
        return self.a * from_mu[:, 0] ** 2 + self.b * residual.square().sum(1), own.index_add(1, parent, 4 * self.b * residual * above)

    @property
    def log_normalizer(self) -> float:
        return 0.5 * math.log(math.pi / self.a) + 0.5 * (self.dim - 1) * math.log(math.pi / self.b)

    @cached_property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        n = self.length
        # lifted[k]: E(coordinate k levels below y | y), a polynomial in y
        lifted = [np.array([0.0, 1.0])]
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(n - 1):
                lifted.append(self._given_parent(lifted[-1]))
                if not np.isfinite(self._expectation(polynomial.polymul(lifted[-1], lifted[-1]))):
                    return None  # larger than any float
            mean = np.array([self._expectation(p) for p in lifted])
            apart, together = np.empty((n, n)), np.empty((n, n))
            for i in range(n):
                for k in range(i, n):
                    apart[i, k] = apart[k, i] = self._expectation(polynomial.polymul(lifted[i], lifted[k]))
                    p = polynomial.polymul(lifted[0], lifted[k - i])  # of the coordinate at level i: itself, times what is below it
                    for _ in range(i):
                        p = self._given_parent(p)
                    together[i, k] = together[k, i] = self._expectation(p)
            level = np.concatenate([[0], np.tile(np.arange(1, n), self.blocks)])
            block = np.concatenate([[0], np.repeat(np.arange(self.blocks), n - 1)])
            second = np.where(block[:, None] == block, together[level[:, None], level], apart[level[:, None], level])
            cov = second - mean[level, None] * mean[level]
        return (torch.as_tensor(mean[level]), torch.as_tensor(cov)) if np.isfinite(cov).all() else None

    def _given_parent(self, p: np.ndarray) -> np.ndarray:
        """``y -> E p(y^2 + xi / sqrt(2b))``: smoothed, and y^2 in the place of y."""
        smooth = _smoothed(p, 0.5 / self.b)
        out = np.zeros(2 * len(smooth) - 1)
        out[::2] = smooth
        return out

    def _expectation(self, p: np.ndarray) -> float:
        """``E p(x_1)``."""
        return float(polynomial.polyval(self.mu, _smoothed(p, 0.5 / self.a)))

    @cached_property
    def constants(self) -> Mapping[str, Constant]:
        light = Constant(0.0, "exact", "none: E exp(c x_{j,2}^2) is infinite for every c > 0, against Herbst's argument")
        if self.length == 2:
            return Constants(lsi=light)
        heavy = Constant(0.0, "exact", "none: E exp(c |x_{j,3}|) is infinite for every c > 0")
        return Constants(lsi=heavy, poincare=heavy)

    def sample(self, n: int, noise: Noise) -> Batch:
        z = noise.normal((n, self.dim))
        root = self.mu + z[:, :1] / (2 * self.a) ** 0.5
        steps = z[:, 1:].reshape(n, self.blocks, self.length - 1) / (2 * self.b) ** 0.5
        levels = [root.expand(n, self.blocks)]
        for i in range(self.length - 1):
            levels.append(levels[-1] ** 2 + steps[:, :, i])
        return torch.cat([root, torch.stack(levels[1:], 2).reshape(n, self.dim - 1)], 1)

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        if self.length > 2:
            raise Unsupported(f"{self.name} of length {self.length} has tails heavier than exponential; give the grid a box")
        # every Gaussian step within sqrt(2 DEPTH) = 9.5 standard deviations
        reach, width = (DEPTH / self.a) ** 0.5, (DEPTH / self.b) ** 0.5
        nearest = max(abs(self.mu) - reach, 0.0)
        lo = [self.mu - reach] + [nearest**2 - width] * self.blocks
        return np.array(lo), np.array([self.mu + reach] + [(abs(self.mu) + reach) ** 2 + width] * self.blocks)


def _smoothed(p: np.ndarray, variance: float) -> np.ndarray:
    """``y -> E p(y + s xi)`` is ``sum_k (s^2/2)^k p^(2k) / k!``: coefficients by increasing degree, no term cancels for one sign."""
    total, term, k = p.copy(), p, 0
    while len(term) > 2:
        k += 1
        term = polynomial.polyder(term, 2) * (variance / (2 * k))
        total[: len(term)] += term
    return total
