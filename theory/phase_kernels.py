"""The closed-form perturbation kernels of CLD and PSLD are those of their stochastic differential equations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..laws.normal import Normal
from ..metrics.base import Estimate
from ..samplers.diffusion.phase_space import CLD, PSLD, PhaseSpaceSDE
from ..samplers.diffusion.schedule import Constant as Rate
from ..samplers.recipe import Constant
from ..samplers.recipe_sampler import HAMILTON, RecipeSampler
from ..targets.base import Target
from .base import Case, Identity, Source
from .verdict import Row

#: Nodes of the quadrature per interval, and intervals per unit of (largest rate) x time.
NODES, FINENESS = 12, 2.0


def forward(case: Case) -> PhaseSpaceSDE | None:
    """CLD or PSLD with the constants of the recipe, where the sampler is one of them on N(0, I); beta is a unit of time."""
    sampler, target = case.sampler, case.target
    if not isinstance(sampler, RecipeSampler) or not isinstance(sampler.recipe, Constant) or sampler.recipe.mass is None:
        return None
    d, q = sampler.recipe.matrices
    mass, beta = sampler.recipe.mass, float(q[-1, 0])
    if len(d) != 2 or d[0, 1] != 0.0 or beta <= 0.0 or not np.array_equal(q, beta * HAMILTON) or not _standard(target):
        return None
    if d[0, 0] == 0.0:
        return CLD(mass, float(d[1, 1] / beta), sampler.start, Rate(beta))
    return PSLD(mass, float(d[0, 0] / beta), float(d[1, 1] / (beta * mass)), sampler.start, Rate(2.0 * beta)) if d[1, 1] > 0.0 else None


def _standard(target: Target) -> bool:
    """Whether the target is N(0, I)."""
    if not target.is_gaussian or target.moments is None:
        return False
    mean, cov = (moment.numpy() for moment in target.moments)
    return bool(not mean.any() and np.abs(cov - np.eye(len(mean))).max() < 1e-12)


def quadrature(sde: PhaseSpaceSDE, t: float) -> np.ndarray:
    """``S(t) = e^(A tau) diag(0, gamma M) e^(A tau)^T + int_0^tau e^(A s) C e^(A s)^T ds`` by composite Gauss-Legendre, with
    scipy's matrix exponential: shares nothing with the closed form but A and C."""
    from scipy import linalg

    a, c, tau = np.asarray(sde.drift), np.asarray(sde.noise_cov), float(sde.schedule.integral(t))
    pieces = max(1, int(np.ceil(FINENESS * float(np.linalg.norm(a, 2)) * tau)))
    u, w = np.polynomial.legendre.leggauss(NODES)
    times = ((np.arange(pieces)[:, None] + (u + 1) / 2) * tau / pieces).ravel()
    e = linalg.expm(a * times[:, None, None])
    total = np.einsum("k,kij,jl,kml->im", np.tile(w, pieces) * tau / (2 * pieces), e, c, e)
    end = linalg.expm(a * tau)
    return np.asarray(total + end @ np.diag([0.0, sde.momentum * sde.mass]) @ end.T)


@dataclass(frozen=True)
class _Kernel(Identity):
    """From a point x_0 with p_0 ~ N(0, gamma M I), (x_t, p_t) is Gaussian with mean ``e^(A t) (x_0, 0)`` and the closed-form 2 x 2
    covariance of `samplers/diffusion/phase_space.py` for every coordinate.

    Compared at every recorded time with the law that the diffusion's own step, a matrix exponential, carries from x_0; and the
    covariance with a quadrature of its integral. Differences are relative: entry ij to ``sqrt(S_ii S_jj)``, the mean to
    ``|x_0|``. `factor` multiplies the closed-form covariance.
    """

    samplers: ClassVar[tuple[str, ...]] = ("recipe_diffusion",)
    instruments: ClassVar[str] = "A"
    quantity: ClassVar[str] = "relative difference"
    process: ClassVar[type[PhaseSpaceSDE]]

    def hypotheses(self, case: Case) -> list[str]:
        if not isinstance(forward(case), self.process):
            return [f"{self.process.__name__} on N(0, I), got {case.sampler.name} with other matrices, or {case.target.name}"]
        start = case.start
        return [] if isinstance(start, Normal) and not start.cov.any() else ["starts at a point (cov: 0)"]

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        sde, d, start = forward(case), case.dim, case.start
        assert sde is not None and isinstance(start, Normal)
        found = []
        for k, t, law in zip(case.steps, case.t, case.laws, strict=True):
            if k == 0 or not isinstance(law, Normal) or law.joint is None:
                continue
            kernel = sde.kernel(float(t))
            transition, cov = kernel.transition.numpy(), factor * kernel.cov.numpy()
            scale = np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
            mean = np.concatenate([transition[0, 0] * start.mean, transition[1, 0] * start.mean])
            off = {
                "mean": np.abs(law.joint.mean - mean).max() / max(1e-300, float(np.abs(start.mean).max())),
                "covariance": (np.abs(law.joint.cov - np.kron(cov, np.eye(d))) / np.kron(scale, np.ones((d, d)))).max(),
                "covariance by quadrature": (np.abs(quadrature(sde, float(t)) - cov) / scale).max(),
            }
            found += [Row.of(Estimate.within(float(e), 1e-14), 0.0, k=k, time=float(t), tolerance=1e-10, label=what) for what, e in off.items()]
        return found


@dataclass(frozen=True)
class CLDKernel(_Kernel):
    """CLD: ``dx = beta p/M dt``, ``dp = (-beta x - Gamma beta p/M) dt + sqrt(2 Gamma beta) dB``."""

    id: ClassVar[str] = "cld-kernel"
    statement: ClassVar[str] = "CLD from (x_0, p_0 ~ N(0, gamma M I)): mean and 2 x 2 covariance in closed form"
    source: ClassVar = Source(
        "Score-based generative modeling with critically-damped Langevin diffusion",
        "Dockhorn, Vahdat, Kreis",
        2022,
        "Appendix B.1",
        "https://arxiv.org/abs/2112.07068",
    )
    process: ClassVar[type[PhaseSpaceSDE]] = CLD


@dataclass(frozen=True)
class PSLDKernel(_Kernel):
    """PSLD: ``D = beta/2 diag(Gamma, M nu)``, ``Q = beta/2 [[0, -1], [1, 0]]``."""

    id: ClassVar[str] = "psld-kernel"
    statement: ClassVar[str] = "PSLD from (x_0, p_0 ~ N(0, gamma M I)): mean and 2 x 2 covariance in closed form"
    source: ClassVar = Source(
        "A complete recipe for diffusion generative models", "Pandey, Mandt", 2023, "Appendix B.3", "https://arxiv.org/abs/2303.01748"
    )
    process: ClassVar[type[PhaseSpaceSDE]] = PSLD
