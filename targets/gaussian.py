"""Gaussian targets: the family on which every constant is a closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from ..errors import InvalidInput
from .base import DEPTH, Batch, Constant, Split, Target, Values, admit_diffusion, covariance, vector

if TYPE_CHECKING:
    from ..samplers.noise import Noise
    from .kernel import Kernel


@dataclass(frozen=True, eq=False)
class Gaussian(Target):
    """N(mean, cov): ``V(x) = (x - mean)^T P (x - mean) / 2``, ``P = cov^-1``.

    Constants, all exact: m and M are the extreme eigenvalues of P, lsi = poincare = m.

    Cost: one product with a d x d matrix per row for V, its score, or both; O(d) where the covariance is diagonal.

    Arguments:
        mean: shape (d,), or a number in d = 1.
        cov: symmetric positive definite, shape (d, d); a vector is a diagonal, a number times the identity.

    Errors: `InvalidInput` where `cov` is not symmetric positive definite or its shape does not fit the mean.

    References: Bakry, Gentil, Ledoux, "Analysis and Geometry of Markov Diffusion Operators" (2014), sections 4.1 and 5.5
        (the constants of Gaussians), https://doi.org/10.1007/978-3-319-00227-9

    Versions:
        MCHMC 2022 (https://github.com/JakobRobnik/MicroCanonicalHMC): ill_conditioned with m = condition^-1/2, so that det P = 1.
        Inference Gym 2020 (https://github.com/tensorflow/probability): variances drawn from an inverse Gamma law, d = 100; not here.
        DDS 2023 (https://github.com/franciscovargas/denoising_diffusion_samplers): isotropic, variance 1, mean 6 ("far_gaussian").
        NCSN 2019 (https://github.com/ermongroup/ncsn): mean 0.1 to d / 10; "ill_conditioned" has variance 1e-4 on half the axes.
    """

    mean: Any
    cov: Any

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (
        ("isotropic", {"dim": 10}),
        ("ill_conditioned", {"dim": 20, "condition": 100, "rotation": 1}),
        ("ar1", {"dim": 2, "rho": 0.9}),
        ("random_eigenvalues", {"dim": 50, "low": 1, "high": 100, "seed": 1}),
    )

    def __post_init__(self) -> None:
        mean = vector(self.mean, "mean")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "cov", covariance(self.cov, len(mean), "cov"))

    @classmethod
    def isotropic(cls, dim: int, variance: float = 1.0, mean: float = 0.0) -> Gaussian:
        """N(mean * ones, variance * I) in `dim` dimensions."""
        _at_least_one(dim)
        return cls(torch.full((dim,), float(mean), dtype=torch.float64), float(variance))

    @classmethod
    def ill_conditioned(cls, dim: int, condition: float, m: float = 1.0, mean: float = 0.0, rotation: int | None = None) -> Gaussian:
        """Precision eigenvalues in a geometric sequence from `m` to ``m * condition``.

        In one dimension there is one eigenvalue, `m`.
        With `rotation` (a seed) the eigenvectors are a Haar-random basis, so that the precision is dense.
        """
        _at_least_one(dim)
        if not condition >= 1.0 or not m > 0.0:
            raise InvalidInput(f"condition must be at least 1 and m positive, got condition={condition}, m={m}")
        precision = m * np.geomspace(1.0, condition, dim) if dim > 1 else np.array([m])
        cov = np.diag(1.0 / precision)
        if rotation is not None:
            cov = _turned(precision, np.random.Generator(np.random.Philox(rotation)))
        return cls(torch.full((dim,), float(mean), dtype=torch.float64), cov)

    @classmethod
    def random_eigenvalues(cls, dim: int, low: float, high: float, seed: int = 0, mean: float = 0.0) -> Gaussian:
        """Precision eigenvalues drawn log-uniformly on [low, high], then a Haar-random basis: a function of its arguments alone."""
        _at_least_one(dim)
        if not 0.0 < low <= high < math.inf or seed < 0:
            raise InvalidInput(f"random_eigenvalues needs 0 < low <= high and seed >= 0, got {low}, {high}, {seed}")
        random = np.random.Generator(np.random.Philox(key=np.array([seed, 1], dtype=np.uint64)))
        precision = np.clip(low * (high / low) ** random.random(dim), low, high)
        return cls(torch.full((dim,), float(mean), dtype=torch.float64), _turned(precision, random))

    @classmethod
    def ar1(cls, dim: int, rho: float, mean: float = 0.0) -> Gaussian:
        """Stationary AR(1): covariance ``rho^|i-j|``; its precision is tridiagonal."""
        _at_least_one(dim)
        if not -1.0 < rho < 1.0:
            raise InvalidInput(f"rho must lie strictly between -1 and 1, got {rho}")
        i = np.arange(dim)
        return cls(torch.full((dim,), float(mean), dtype=torch.float64), float(rho) ** np.abs(i[:, None] - i[None, :]))

    @property
    def dim(self) -> int:
        return len(self.mean)

    @cached_property
    def _factor(self) -> torch.Tensor:
        return torch.linalg.cholesky(self.cov)

    @cached_property
    def precision(self) -> torch.Tensor:
        """P = cov^-1, shape (d, d)."""
        return torch.cholesky_inverse(self._factor) if self._inverse_variances is None else torch.diag(self._inverse_variances)

    @cached_property
    def _inverse_variances(self) -> torch.Tensor | None:
        """The precision's diagonal where it is all there is, else None: products are then O(d)."""
        variances = torch.diagonal(self.cov)
        return 1.0 / variances if bool((self.cov == torch.diag(variances)).all()) else None

    @cached_property
    def kernel(self) -> Kernel:
        from . import kernels  # compiled code is loaded where it is used

        return kernels.gaussian(self.mean.numpy(), (self.precision if self._inverse_variances is None else self._inverse_variances).numpy())

    def potential(self, x: Batch) -> Values:
        return self.potential_and_score(x)[0]

    def score(self, x: Batch) -> Batch:
        away = self.mean.to(x) - x
        return away @ self.precision.to(x) if self._inverse_variances is None else away * self._inverse_variances.to(x)

    def potential_and_score(self, x: Batch) -> tuple[Values, Batch]:
        score = self.score(x)
        return 0.5 * ((self.mean.to(x) - x) * score).sum(1), score

    @property
    def log_normalizer(self) -> float:
        return float(0.5 * self.dim * np.log(2 * np.pi) + torch.log(torch.diagonal(self._factor)).sum())

    @property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.mean, self.cov

    @property
    def is_gaussian(self) -> bool:
        return True

    @cached_property
    def constants(self) -> Mapping[str, Constant]:
        if self._inverse_variances is not None:
            m, big = float(self._inverse_variances.min()), float(self._inverse_variances.max())
        else:  # of the covariance, whose widest axis is known to rounding; the narrowest is moved to the safe side
            variances = torch.linalg.eigvalsh(self.cov)
            rounding = 4e-16 * self.dim * float(variances[-1])
            m, big = 1.0 / (float(variances[-1]) + rounding), 1.0 / max(float(variances[0]) - rounding, 1e-300)
        return {
            "m": Constant(m, "exact", "smallest eigenvalue of the precision"),
            "M": Constant(big, "exact", "largest eigenvalue of the precision"),
            "lsi": Constant(m, "exact", "Bakry-Emery, attained by Gaussians"),
            "poincare": Constant(m, "exact", "attained by the linear function along the widest axis"),
        }

    @cached_property
    def split(self) -> Split | None:
        """Coordinates of its own in the axes where the covariance is diagonal, else along its eigenvectors."""
        if self.dim == 1:
            return None
        basis, variances = None, torch.diagonal(self.cov)
        if self._inverse_variances is None:
            variances, basis = torch.linalg.eigh(self.cov)
        mean = self.mean if basis is None else self.mean @ basis
        return Split(basis, tuple(Gaussian(m, v) for m, v in zip(mean, variances, strict=True)))

    def hessian(self, x: Batch) -> torch.Tensor:
        return self.precision.to(x).expand(len(x), -1, -1)

    def diffused(self, scale: float, variance: float) -> Gaussian:
        """Again a Gaussian: mean ``scale mean``, covariance ``scale^2 cov + variance I``."""
        admit_diffusion(scale, variance)
        return Gaussian(scale * self.mean, scale**2 * self.cov + variance * torch.eye(self.dim, dtype=torch.float64))

    def sample(self, n: int, noise: Noise) -> Batch:
        z = noise.normal((n, self.dim))
        return self.mean.to(z) + z @ self._factor.T.to(z)

    def restricted_gaussian(self, y: Batch, variance: float, noise: Noise) -> Batch:
        # precision P + I/v and mean (P + I/v)^-1 (P mean + y/v): affine in (y, noise)
        q = self.precision + torch.eye(self.dim, dtype=torch.float64) / variance
        factor = torch.linalg.cholesky(q)
        mean = torch.cholesky_solve((self.precision @ self.mean + y.double() / variance).T, factor).T
        z = noise.normal(tuple(y.shape))
        return mean.to(y) + torch.linalg.solve_triangular(factor.T, z.double().T, upper=True).T.to(y)

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        mean = self.mean.numpy()
        reach = np.sqrt(2 * DEPTH * torch.diagonal(self.cov).numpy())
        return mean - reach, mean + reach


def _turned(precision: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The covariance of a precision with these eigenvalues along a Haar-random basis."""
    q, r = np.linalg.qr(random.standard_normal((len(precision),) * 2))
    q = q * np.sign(np.diag(r))
    cov = (q / precision) @ q.T
    return np.asarray((cov + cov.T) / 2)


def _at_least_one(dim: int) -> None:
    if dim < 1:
        raise InvalidInput(f"dim must be at least 1, got {dim}")
