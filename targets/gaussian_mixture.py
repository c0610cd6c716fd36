"""Gaussian mixtures: several modes, and still an exact sampler, normaliser and score."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from ..errors import InvalidInput
from .base import BOTH, DEPTH, POTENTIAL, SCORE, Batch, Constant, Split, Target, Values, admit_diffusion, covariance
from .mixture_constants import constants_of, split_of

if TYPE_CHECKING:
    from ..samplers.noise import Noise
    from .kernel import Kernel


@dataclass(frozen=True, eq=False)
class GaussianMixture(Target):
    """``pi(x) = sum_k w_k N(x; mu_k, S_k)``, ``V = -log pi`` (so log Z = 0).

    ``score(x) = sum_k r_k(x) S_k^-1 (mu_k - x)``, with the responsibilities r_k from the same pass as V.

    ``Hess V = E_r[P_k] - Cov_r(g_k)`` with P_k = S_k^-1 and g_k = P_k (x - mu_k). Where all S_k are one S this is P - P D P,
    D the covariance of the means under r, and V is smooth: with two components, d apart, m is the smallest eigenvalue of
    P - P d d^T P / 4 and M = max(largest eigenvalue of P, -m), both exact; with more, m is a bound, and on the line a search
    (far out, too: nearly equal variances tie a second time there, and m is then that of modes which are no neighbours).
    Where the S_k differ, V is smooth only if one component has the smallest precision in every direction: `zod_mc` has
    none, its Hessian falls like -|x|^2 along the rays where the lightest tails tie, and there is no m and no M (so it is
    after noising, at every time: the order of the precisions stays). The Poincare constant is that of the factors where
    the mixture is a product, else a spectral gap in d = 1 and 2; the log-Sobolev constant is Bakry and Emery's where
    m > 0, on the line that of Holley and Stroock (a symmetric pair) or Muckenhoupt's.

    Cost: K products with a d x d matrix per row (with a vector where all S_k are diagonal), one exponential per component.

    Arguments:
        weights: K positive numbers; normalised to sum 1.
        means: shape (K, d).
        covs: K covariances, or one for all: numbers (isotropic), diagonals or matrices.

    Errors: `InvalidInput` where the shapes do not fit, a weight is not positive or a covariance not positive definite.

    References: Dalalyan, "Theoretical guarantees for approximate sampling from smooth and log-concave densities" (2017),
        the example of a Gaussian mixture, https://arxiv.org/abs/1412.7392

    Versions:
        Dalalyan 2017 (https://arxiv.org/abs/1412.7392): log_concave_pair; means +-a, covariance I, |a| < 1, m = 1 - |a|^2.
        Song, Ermon 2019 (https://arxiv.org/abs/1907.05600): song_ermon; their code's annealed copy leaves d out of the normaliser.
        PIS 2022 (https://github.com/qsh-zh/pis): nine_modes is its class Fun; its file "nine" asks for 3 modes on a circle.
        DGFS 2023 (https://github.com/zdhNarsil/Diffusion-Generative-Flow-Samplers): nine_modes, scale 0.5477222 for sqrt(0.3).
        GFN diffusion 2024 (https://github.com/GFNOrg/gfn-diffusion): nine_modes, and twenty_five_modes with variance 0.3.
        FAB 2023 (https://github.com/lollcat/fab-torch): fab_forty; its density is cut to 0 below a log-density of -1e4.
        iDEM 2024 (https://github.com/jarridrb/DEM): fab_forty by FAB's own class; its sampler sees it divided by 50.
        DIS 2024 (https://github.com/juliusberner/sde_sampler): "fab" is fab_forty with seed 42: the same law of means, other means.
        Blessing et al 2024 (https://github.com/DenisBless/variational_sampling_methods): GMM40 draws JAX's uniforms, scale 1 and not 1.313.
        DDS 2023 (https://github.com/franciscovargas/denoising_diffusion_samplers): circle of 8, radius 0.5, variance 0.075^2.
        SLIPS 2024 (https://github.com/h2o64/slips): circle, where "scale" 0.7 is the variance; growing, weights 2 to 1.
        ZOD-MC 2024 (https://github.com/KevinRojas1499/ZOD-MC): zod_mc, zod_mc_five; its score carries + 1e-8 under the density, so it fades far out.
    """

    weights: Any
    means: Any
    covs: Any

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (
        ("two_modes", {"separation": 6}),
        ("log_concave_pair", {}),
        ("song_ermon", {}),
        ("nine_modes", {}),
        ("twenty_five_modes", {}),
        ("circle", {}),
        ("fab_forty", {}),
        ("zod_mc", {}),
        ("zod_mc_five", {}),
        ("growing", {"dim": 16}),
    )

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

    @classmethod
    def log_concave_pair(cls, dim: int = 2, square: float = 0.5) -> GaussianMixture:
        """N(a, I) and N(-a, I) in equal parts, a along (1, ..., 1) with ``|a|^2 = square`` < 1: m = 1 - |a|^2 and M = 1."""
        if dim < 1 or not 0 <= square < 1:
            raise InvalidInput(f"log_concave_pair needs dim >= 1 and square in [0, 1), got {dim}, {square}")
        a = torch.full((dim,), math.sqrt(square / dim), dtype=torch.float64)
        return cls([0.5, 0.5], torch.stack([-a, a]), 1.0)

    @classmethod
    def song_ermon(cls, dim: int = 2, offset: float = 5.0, weight: float = 0.2) -> GaussianMixture:
        """``weight`` N(-offset (1, .., 1), I) + (1 - ``weight``) N(offset (1, .., 1), I)."""
        if dim < 1 or not offset > 0 or not 0 < weight < 1:
            raise InvalidInput(f"song_ermon needs dim >= 1, offset > 0 and weight in (0, 1), got {dim}, {offset}, {weight}")
        ones = torch.ones(dim, dtype=torch.float64)
        return cls([weight, 1.0 - weight], torch.stack([-offset * ones, offset * ones]), 1.0)

    @classmethod
    def growing(cls, dim: int, spacing: float = 1.0, variance: float = 0.05) -> GaussianMixture:
        """Modes of weights 2 to 1 at -2/3 and 4/3 `spacing` times (1, ..., 1), centred, ``2 spacing sqrt(dim)`` apart."""
        if dim < 1 or not spacing > 0:
            raise InvalidInput(f"growing needs dim >= 1 and spacing > 0, got {dim}, {spacing}")
        ones = torch.ones(dim, dtype=torch.float64)
        return cls([2.0, 1.0], torch.stack([-2 / 3 * spacing * ones, 4 / 3 * spacing * ones]), float(variance))

    @classmethod
    def nine_modes(cls, spacing: float = 5.0, variance: float = 0.3) -> GaussianMixture:
        """Equal weights on a 3 x 3 grid, {-5, 0, 5}^2."""
        return cls._square(3, spacing, variance)

    @classmethod
    def twenty_five_modes(cls, spacing: float = 5.0, variance: float = 0.3) -> GaussianMixture:
        """Equal weights on a 5 x 5 grid, {-10, -5, 0, 5, 10}^2."""
        return cls._square(5, spacing, variance)

    @classmethod
    def _square(cls, side: int, spacing: float, variance: float) -> GaussianMixture:
        if not spacing > 0:
            raise InvalidInput(f"spacing must be positive, got {spacing}")
        line = [spacing * (i - (side - 1) / 2) for i in range(side)]
        return cls([1.0] * side**2, list(itertools.product(line, line)), float(variance))

    @classmethod
    def circle(cls, modes: int = 8, radius: float = 10.0, variance: float = 0.7) -> GaussianMixture:
        """Equal weights at equal angles on a circle, the first mode at (0, radius)."""
        if modes < 2 or not radius > 0:
            raise InvalidInput(f"circle needs modes >= 2 and radius > 0, got {modes}, {radius}")
        angle = 2 * math.pi * torch.arange(modes, dtype=torch.float64) / modes
        return cls([1.0] * modes, radius * torch.stack([torch.sin(angle), torch.cos(angle)], 1), float(variance))

    @classmethod
    def fab_forty(cls, seed: int = 0) -> GaussianMixture:
        """FAB's 40 modes: means uniform on [-40, 40]^2, drawn in single precision by torch's generator, deviation softplus(1)."""
        if seed < 0:
            raise InvalidInput(f"seed must not be negative, got {seed}")
        drawn = torch.rand((40, 2), generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
        return cls([1.0] * 40, ((drawn - 0.5) * 2 * 40.0).double(), math.log1p(math.e) ** 2)

    @classmethod
    def zod_mc(cls, radius: float = 11.0) -> GaussianMixture:
        """Four tilted modes of weights 0.1 to 0.4; the means at radius 11 are (0, 0), (0, 11), (9, 9), (11, 0), and scale with it."""
        if not radius > 0:
            raise InvalidInput(f"radius must be positive, got {radius}")
        means = torch.tensor([[0, 0], [0, 11], [9, 9], [11, 0]], dtype=torch.float64) * (radius / 11.0)
        covs = [[[1, 0.5], [0.5, 1]], [[0.3, -0.2], [-0.2, 0.3]], [[1, 0.3], [0.3, 1]], [[1.2, -1], [-1, 1.2]]]
        return cls([0.1, 0.2, 0.3, 0.4], means, covs)

    @classmethod
    def zod_mc_five(cls) -> GaussianMixture:
        """Three modes in d = 5 with correlations up to 7/9, weights 1/4, 1/2, 1/4."""
        covs = torch.eye(5, dtype=torch.float64).repeat(3, 1, 1)
        covs[0, :2, :2], covs[0, 2:4, 2:4] = torch.tensor([[3.0, 2.0], [2.0, 3.0]]), torch.tensor([[4.0, 2.0], [2.0, 4.0]])
        covs[1, 0, 0] = covs[1, 2, 2] = 9.0
        covs[1, 0, 2], covs[1, 2, 0], covs[1, 1, 3], covs[1, 3, 1] = 7.0, 7.0, 0.4, 0.4
        covs[2, :2, :2], covs[2, 2:4, 2:4] = torch.tensor([[1.0, 0.4], [0.4, 1.0]]), torch.tensor([[4.0, 3.0], [3.0, 4.0]])
        return cls([0.25, 0.5, 0.25], [[-4, -4, -3, -4, -4], [4, 3, 4, 2, 4], [-4, -2, -4, 4, -1]], covs)

    @property
    def dim(self) -> int:
        return int(self.means.shape[1])

    @cached_property
    def _factors(self) -> torch.Tensor:
        return torch.linalg.cholesky(self.covs)

    @cached_property
    def precisions(self) -> torch.Tensor:
        """P_k = S_k^-1, shape (K, d, d)."""
        return torch.cholesky_inverse(self._factors)

    @cached_property
    def _log_weights(self) -> torch.Tensor:
        logdet = torch.log(torch.diagonal(self._factors, dim1=1, dim2=2)).sum(1)
        return torch.log(self.weights) - logdet - 0.5 * self.dim * float(np.log(2 * np.pi))

    def _components(self, x: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """log(w_k N_k(x)), shape (N, K), and the component scores S_k^-1 (mu_k - x), shape (N, K, d)."""
        away = self.means.to(x) - x.unsqueeze(1)
        pull = torch.einsum("nki,kij->nkj", away, self.precisions.to(x))
        return self._log_weights.to(x) - 0.5 * (away * pull).sum(2), pull

    @cached_property
    def kernel(self) -> Kernel:
        from .mixture_kernel import mixture  # compiled code is loaded where it is used

        diagonal = torch.diagonal(self.covs, dim1=1, dim2=2)
        if not bool((self.covs == torch.diag_embed(diagonal)).all()):
            # L^-1 is a factor of the precision: (L L^T)^-1 = L^-T L^-1
            factors = torch.linalg.solve_triangular(self._factors, torch.eye(self.dim, dtype=torch.float64), upper=False)
            kind, precisions = 2, factors
        elif bool((diagonal == diagonal[:, :1]).all()):
            kind, precisions = 0, 1.0 / diagonal[:, 0]
        else:
            kind, precisions = 1, 1.0 / diagonal
        return mixture(self._log_weights.numpy(), self.means.numpy(), kind, precisions.numpy())

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
        return constants_of(self)

    @cached_property
    def split(self) -> Split | None:
        return split_of(self)

    def hessian(self, x: Batch) -> torch.Tensor:
        logs, pull = self._components(x)
        share = torch.softmax(logs, 1)
        centred = pull - torch.einsum("nk,nkd->nd", share, pull).unsqueeze(1)
        return torch.einsum("nk,kij->nij", share, self.precisions.to(x)) - torch.einsum("nk,nki,nkj->nij", share, centred, centred)

    def diffused(self, scale: float, variance: float) -> GaussianMixture:
        """Again a mixture: means ``scale mu_k``, covariances ``scale^2 S_k + variance I``."""
        admit_diffusion(scale, variance)
        return GaussianMixture(self.weights, scale * self.means, scale**2 * self.covs + variance * torch.eye(self.dim, dtype=torch.float64))

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
        factors = torch.linalg.cholesky(self.precisions + eye / variance)
        pulled = torch.einsum("kij,kj->ki", self.precisions, self.means)[k] + y.double() / variance
        mean = torch.cholesky_solve(pulled.unsqueeze(2), factors[k]).squeeze(2)
        z = noise.normal(tuple(y.shape)).double().unsqueeze(2)
        return (mean + torch.linalg.solve_triangular(factors[k].mT, z, upper=True).squeeze(2)).to(y)

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        reach = np.sqrt(2 * DEPTH * torch.diagonal(self.covs, dim1=1, dim2=2).numpy())
        means = self.means.numpy()
        return (means - reach).min(0), (means + reach).max(0)
