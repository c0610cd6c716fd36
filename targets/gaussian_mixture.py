"""Gaussian mixtures: several modes, and still an exact sampler, normaliser and score."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import InvalidInput, Unsupported
from .base import BOTH, DEPTH, POTENTIAL, SCORE, Batch, Constant, Target, Values, covariance
from .functional import holley_stroock
from .spectrum import spectral_gap

if TYPE_CHECKING:
    from ..samplers.noise import Noise
    from .kernel import Kernel


@dataclass(frozen=True, eq=False)
class GaussianMixture(Target):
    """``pi(x) = sum_k w_k N(x; mu_k, S_k)``, ``V = -log pi`` (so log Z = 0).

    ``score(x) = sum_k r_k(x) S_k^-1 (mu_k - x)``, with the responsibilities r_k from the same pass as V.

    Constants: where all S_k are one S, ``P - P D P <= Hess V <= P`` with P = S^-1 and D the largest covariance that
    weights on the means can have, at most diameter^2/4 in every direction. In d = 1 the Poincare constant is the
    spectral gap, and a symmetric two-mode mixture has a Holley-Stroock lower bound for its log-Sobolev constant.

    Cost: K products with a d x d matrix per row (with a vector where all S_k are diagonal), one exponential per component.

    Arguments:
        weights: K positive numbers; normalised to sum 1.
        means: shape (K, d).
        covs: K covariances, or one for all: numbers (isotropic), diagonals or matrices.

    Errors: `InvalidInput` where the shapes do not fit, a weight is not positive or a covariance not positive definite.
    """

    weights: Any
    means: Any
    covs: Any

    def __post_init__(self) -> None:
        weights = torch.atleast_1d(torch.as_tensor(self.weights, dtype=torch.float64))
        if weights.ndim != 1 or not bool((torch.isfinite(weights) & (weights > 0)).all()):
            raise InvalidInput("weights must be positive finite numbers, one per component")
        means = torch.as_tensor(self.means, dtype=torch.float64)
        means = means.unsqueeze(1) if means.ndim == 1 else means
        if means.ndim != 2 or len(means) != len(weights) or not bool(torch.isfinite(means).all()):
            raise InvalidInput(f"means must be {len(weights)} finite rows, one per weight, got shape {tuple(means.shape)}")
        # entries may differ in kind (a matrix, a diagonal, a number), so this is a list and never one array
        single = isinstance(self.covs, (int, float)) or getattr(self.covs, "ndim", 1) == 0
        given = [self.covs] * len(weights) if single else list(self.covs)
        if len(given) != len(weights):
            raise InvalidInput(f"covs must be one number or {len(weights)} covariances, got {len(given)}")
        covs = torch.stack([covariance(c, means.shape[1], f"covs[{k}]") for k, c in enumerate(given)])
        for field, value in (("weights", weights / weights.sum()), ("means", means), ("covs", covs)):
            object.__setattr__(self, field, value)

    @classmethod
    def two_modes(cls, separation: float, dim: int = 1, variance: float = 1.0, weight: float = 0.5) -> GaussianMixture:
        """Modes at +- separation/2 along the first axis, equal variances; `weight` is that of the left mode."""
        if dim < 1 or not separation >= 0 or not 0 < weight < 1:
            raise InvalidInput(f"two_modes needs dim >= 1, separation >= 0 and weight in (0, 1), got {dim}, {separation}, {weight}")
        means = torch.zeros((2, dim), dtype=torch.float64)
        means[0, 0], means[1, 0] = -separation / 2, separation / 2
        return cls([weight, 1.0 - weight], means, float(variance))

    @property
    def dim(self) -> int:
        return int(self.means.shape[1])

    @cached_property
    def _factors(self) -> torch.Tensor:
        return torch.linalg.cholesky(self.covs)

    @cached_property
    def _precisions(self) -> torch.Tensor:
        return torch.cholesky_inverse(self._factors)

    @cached_property
    def _log_weights(self) -> torch.Tensor:
        logdet = torch.log(torch.diagonal(self._factors, dim1=1, dim2=2)).sum(1)
        return torch.log(self.weights) - logdet - 0.5 * self.dim * float(np.log(2 * np.pi))

    def _components(self, x: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """log(w_k N_k(x)), shape (N, K), and the component scores S_k^-1 (mu_k - x), shape (N, K, d)."""
        away = self.means.to(x) - x.unsqueeze(1)
        pull = torch.einsum("nki,kij->nkj", away, self._precisions.to(x))
        return self._log_weights.to(x) - 0.5 * (away * pull).sum(2), pull

    @cached_property
    def kernel(self) -> Kernel:
        from . import kernels  # compiled code is loaded where it is used

        diagonal = torch.diagonal(self.covs, dim1=1, dim2=2)
        if not bool((self.covs == torch.diag_embed(diagonal)).all()):
            # L^-1 is a factor of the precision: (L L^T)^-1 = L^-T L^-1
            factors = torch.linalg.solve_triangular(self._factors, torch.eye(self.dim, dtype=torch.float64), upper=False)
            kind, precisions = 2, factors
        elif bool((diagonal == diagonal[:, :1]).all()):
            kind, precisions = 0, 1.0 / diagonal[:, 0]
        else:
            kind, precisions = 1, 1.0 / diagonal
        return kernels.mixture(self._log_weights.numpy(), self.means.numpy(), kind, precisions.numpy())

    def potential(self, x: Batch) -> Values:
        return self._evaluate(x, POTENTIAL)[0]

    def score(self, x: Batch) -> Batch:
        return self._evaluate(x, SCORE)[1]

    def potential_and_score(self, x: Batch) -> tuple[Values, Batch]:
        return self._evaluate(x, BOTH)

    def _evaluate(self, x: Batch, want: int) -> tuple[Values, Batch]:
        from .kernel import evaluate

        return evaluate(self.kernel, x, want) or self.reference(x)

    def reference(self, x: Batch) -> tuple[Values, Batch]:
        """(V, score) as torch expressions: on every device, differentiable, and what the kernel is tested against."""
        logs, pull = self._components(x)
        top = logs.amax(1, keepdim=True)
        # exp on arguments that underflow is ten times slower on a CPU, and exp(-80) is nothing beside 1
        share = torch.exp((logs - top).clamp(min=-80.0))
        total = share.sum(1, keepdim=True)
        return -(top + torch.log(total)).squeeze(1), torch.einsum("nk,nkd->nd", share / total, pull)

    @property
    def log_normalizer(self) -> float:
        return 0.0

    @cached_property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        mean = self.weights @ self.means
        centred = self.means - mean
        return mean, torch.einsum("k,kij->ij", self.weights, self.covs) + (centred * self.weights[:, None]).T @ centred

    @cached_property
    def constants(self) -> Mapping[str, Constant]:
        found: dict[str, Constant] = {}
        if bool((self.covs == self.covs[0]).all()):
            spectrum = torch.linalg.eigvalsh(self._precisions[0])
            diameter = float(torch.cdist(self.means, self.means).max())
            lower = float(spectrum[0]) - float(spectrum[-1]) ** 2 * diameter**2 / 4
            found["m"] = Constant(lower, "bound", "P - P Cov_r(mu) P with Cov_r(mu) <= diameter^2/4")
            found["M"] = Constant(max(float(spectrum[-1]), -lower), "bound", "P above, the lower end below")
            if lower > 0:
                found["lsi"] = Constant(lower, "bound", "Bakry-Emery: strongly log-concave")
        if self.dim == 1:
            with contextlib.suppress(Unsupported):  # not converged: then the constant is not declared, and the others are
                found["poincare"] = spectral_gap(self)
            symmetric = len(self.weights) == 2 and bool(self.weights[0] == self.weights[1]) and bool(self.covs[0] == self.covs[1])
            if symmetric and "lsi" not in found:
                found["lsi"] = holley_stroock(self, float(self.moments[0][0]))
        elif "lsi" in found:
            found["poincare"] = Constant(found["lsi"].value, "bound", "log-Sobolev implies Poincare")
        return found

    def sample(self, n: int, noise: Noise) -> Batch:
        u = noise.uniform((n,))
        # the last edge is left out: a cumulative sum may end an ulp below 1
        k = torch.searchsorted(torch.cumsum(self.weights, 0)[:-1].to(u), u)
        z = noise.normal((n, self.dim))
        return self.means.to(z)[k] + torch.einsum("nij,nj->ni", self._factors.to(z)[k], z)

    def restricted_gaussian(self, y: Batch, variance: float, noise: Noise) -> Batch:
        # component k given y has weight w_k N(y; mu_k, S_k + v I) and precision S_k^-1 + I/v
        eye = torch.eye(self.dim, dtype=torch.float64)
        widened = GaussianMixture(self.weights, self.means, self.covs + variance * eye)
        cumulative = torch.cumsum(torch.softmax(widened._components(y.double())[0], dim=1), dim=1)
        u = noise.uniform((len(y),)).double()
        k = (u.unsqueeze(1) > cumulative[:, :-1]).sum(1)
        factors = torch.linalg.cholesky(self._precisions + eye / variance)
        pulled = torch.einsum("kij,kj->ki", self._precisions, self.means)[k] + y.double() / variance
        mean = torch.cholesky_solve(pulled.unsqueeze(2), factors[k]).squeeze(2)
        z = noise.normal(tuple(y.shape)).double().unsqueeze(2)
        return (mean + torch.linalg.solve_triangular(factors[k].mT, z, upper=True).squeeze(2)).to(y)

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        reach = np.sqrt(2 * DEPTH * torch.diagonal(self.covs, dim1=1, dim2=2).numpy())
        means = self.means.numpy()
        return (means - reach).min(0), (means + reach).max(0)
