"""Log-Gaussian Cox process: a Gaussian field seen through Poisson counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch

from ..errors import InvalidInput
from .base import Batch, Constant, Target, Values


@dataclass(frozen=True, eq=False)
class LogGaussianCox(Target):
    """``V(x) = (x - mu)^T K^-1 (x - mu) / 2 - sum_i (y_i x_i - a exp(x_i))``: the posterior of a log-intensity given counts.

    M x M cells of the unit square, ``a = 1 / M^2`` the area of one; ``K_ij = s^2 exp(-|i - j| / (M b))`` with |i - j| between the
    cells' indices, that is, length b on the unit square; ``mu = log(126) - s^2 / 2``, so that 126 points are expected. The counts
    y_i ~ Poisson(a exp(x_i)) are generated from the model, field first, by a keyed generator: they are a function of the
    parameters alone, and not the pine saplings of the papers.

    ``Hess V = K^-1 + a diag(exp(x_i))``: the infimum of its spectrum is that of K^-1, approached as x -> -inf, and it is not
    bounded. V is +inf (score -inf) beyond x_i = 709 in float64, 88 in float32. log Z is not known.

    Cost: one product with an M^2 x M^2 matrix per row and M^2 exponentials, for V, its score, or both.

    Arguments:
        side: M >= 1.
        seed: of the data, a whole number >= 0.
        variance: s^2 > 0.
        length: b > 0.

    Errors: `InvalidInput` where a parameter is out of range.

    References: Moller, Syversveen, Waagepetersen, "Log Gaussian Cox processes" (1998),
        https://doi.org/10.1111/1467-9469.00115; Christensen, Roberts, Rosenthal, "Scaling limits for the transient phase of
        local Metropolis-Hastings algorithms" (2005), https://doi.org/10.1111/j.1467-9868.2005.00500.x

    Versions:
        Annealed flow transport / Arbel, Matthews, Doucet 2021 (https://github.com/google-deepmind/annealed_flow_transport):
            variance 1.91, length 1/33, as here; 40 x 40 = 1600 cells, counts of the 126 Finnish pine saplings, so a different y;
            optionally in whitened coordinates, another density.
        DDS / Vargas, Grathwohl, Doucet 2023 (https://github.com/franciscovargas/denoising_diffusion_samplers): that density, not
            whitened.
        PIS / Zhang, Chen 2022 (https://github.com/qsh-zh/pis): that density, in float32.
        sde_sampler / Richter, Berner 2024 (https://github.com/juliusberner/sde_sampler): that density; its log Z = 512.6 is DDS's long
            SMC run, with the Gaussian prior normalised and the y_i! left out.
        PDDS / Phillips et al 2024 (https://github.com/angusphillips/particle_denoising_diffusion_sampler): that density.
        Inference Gym (https://github.com/tensorflow/probability): another model: Matern 3/2, amplitude and length sampled too,
            10 x 10 cells, synthetic counts raised to at least 1.
    """

    side: int = 8
    seed: int = 0
    variance: float = 1.91
    length: float = 1 / 33

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (("", {"side": 8}),)

    def __post_init__(self) -> None:
        if self.side < 1 or self.seed < 0:
            raise InvalidInput(f"log_gaussian_cox needs side >= 1 and seed >= 0, got {self.side} and {self.seed}")
        for name in ("variance", "length"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InvalidInput(f"{name} must be a positive finite number, got {getattr(self, name)}")

    @property
    def dim(self) -> int:
        return self.side**2

    @property
    def mean(self) -> float:
        """mu, of the prior."""
        return float(np.log(126.0) - self.variance / 2)

    @cached_property
    def covariance(self) -> torch.Tensor:
        """K, of the prior, shape (d, d); cells in rows."""
        i = np.arange(self.dim)
        cells = np.stack([i // self.side, i % self.side], axis=1)
        apart = np.linalg.norm(cells[:, None] - cells[None, :], axis=2)
        return torch.as_tensor(self.variance * np.exp(-apart / (self.side * self.length)))

    @cached_property
    def precision(self) -> torch.Tensor:
        """K^-1."""
        return torch.cholesky_inverse(torch.linalg.cholesky(self.covariance))

    @cached_property
    def counts(self) -> torch.Tensor:
        """y, shape (d,)."""
        random = np.random.Generator(np.random.Philox(key=np.array([self.seed, 0], dtype=np.uint64)))
        field = self.mean + np.linalg.cholesky(self.covariance.numpy()) @ random.standard_normal(self.dim)
        return torch.as_tensor(random.poisson(np.exp(field) / self.dim).astype(float))

    def potential(self, x: Batch) -> Values:
        return self.potential_and_score(x)[0]

    def score(self, x: Batch) -> Batch:
        return self.potential_and_score(x)[1]

    def potential_and_score(self, x: Batch) -> tuple[Values, Batch]:
        away, counts = x - self.mean, self.counts.to(x)
        pull, intensity = away @ self.precision.to(x), x.exp() / self.dim
        return (away * pull / 2 - counts * x + intensity).sum(1), counts - pull - intensity

    @cached_property
    def constants(self) -> Mapping[str, Constant]:
        m = 1.0 / float(torch.linalg.eigvalsh(self.covariance)[-1])
        return {
            "m": Constant(m, "exact", "infimum of the Hessian's spectrum, approached as x -> -inf: one over K's largest eigenvalue"),
            "lsi": Constant(m, "bound", "Bakry-Emery with m"),
            "poincare": Constant(m, "bound", "log-Sobolev implies Poincare"),
        }
