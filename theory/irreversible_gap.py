"""A skew matrix added to Langevin dynamics on a Gaussian never slows it, and never beats the mean of the spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ..laws.normal import affine_map
from ..metrics.base import Estimate
from ..samplers.recipe_sampler import RecipeSampler
from .base import Case, Source, Theorem, step_at_most
from .verdict import Row, Verdict, judge_bound

#: log2 of the number of steps over which the exponent is taken.
SQUARINGS = 40


@dataclass(frozen=True)
class IrreversibleGap(Theorem):
    """For ``dX = -(I + Q) P (X - mu) dt + sqrt(2) dB``, Q skew, the exponent r(Q) at which L2(pi) is forgotten:

    ``lambda_min(P) = r(0) <= r(Q) <= trace(P)/d``. The first: Hwang, Hwang-Ma, Sheu; the second, and that it is attained:
    Lelievre, Nier, Pavliotis.

    Measured: ``-log |A^n|/(n h)``, A the map of a step of time h as probed, ``n = 2^40`` by squaring with rescaling, in the norm
    of L2(pi) on linear functions, ``|P^(1/2) A P^(-1/2)|``; on Gaussians they are the slowest to be forgotten. r lies above it, by at
    most ``[log d + (d - 1) log(max(1, n |A|_F / rho))]/(n h)``: Schur's form has d - 1 powers of its triangle, and the spectral
    radius rho is at least ``|det A|^(1/d)``. Two rows: lambda_min(P)/r against 1, and r d/trace(P) against 1.

    The gain is one of time. A large Q turns as well as contracts, and a discretisation has to follow: the label of the first row
    says by what an Euler step of the best length forgets more than one of ULA's (`per_step`).
    """

    statement: ClassVar[str] = "lambda_min(P) <= r(Q) <= trace(P)/d for D = I and Q skew"
    source: ClassVar = Source(
        "Accelerating diffusions",
        "Hwang, Hwang-Ma, Sheu",
        2005,
        "abstract (the spectral gap with a divergence-free drift is at least that without)",
        "https://arxiv.org/abs/math/0505245",
        "Hwang, Hwang-Ma, Sheu 1993, https://doi.org/10.1214/aoap/1177005371 (Gaussians); "
        "Lelievre, Nier, Pavliotis 2013, Theorem 1, https://arxiv.org/abs/1212.0876 (the upper end)",
    )
    samplers: ClassVar[tuple[str, ...]] = ("recipe_diffusion",)
    instruments: ClassVar[str] = "A"
    kind: ClassVar[Literal["bound"]] = "bound"
    quantity: ClassVar[str] = "lambda_min(P) / exponent"

    def hypotheses(self, case: Case) -> list[str]:
        sampler = case.sampler
        assert isinstance(sampler, RecipeSampler)
        if not case.target.is_gaussian:
            return ["the target is Gaussian"]
        if sampler.recipe.mass is not None:
            return ["positions without a momentum"]
        linear = sampler.recipe.linear(case.target)
        if linear is None or not np.array_equal(linear[1], 2.0 * np.eye(case.dim)):
            return ["D = I"]
        return step_at_most(case, 600.0 / float(np.linalg.eigvalsh(self._precision(case))[-1]), "600/M (beyond it the map underflows)")

    @staticmethod
    def _precision(case: Case) -> np.ndarray:
        assert case.target.moments is not None
        return np.asarray(np.linalg.inv(case.target.moments[1].numpy()))

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        values, vectors = np.linalg.eigh(self._precision(case))
        root = np.sqrt(values)
        linear = case.sampler.recipe.linear(case.target)  # type: ignore[attr-defined]
        step = affine_map(case.sampler, case.target).linear
        low, high = exponent(vectors.T @ step @ vectors * root[:, None] / root[None, :], case.h)
        slowest, mean = float(values[0]), float(values.mean())
        gain = Estimate(slowest / low, slowest / high, slowest / low)
        share = Estimate(low / mean, low / mean, high / mean)
        return [
            Row.of(gain, factor, label=f"{self.quantity}; Euler steps gain {per_step(-np.linalg.eigvals(linear[0])) / per_step(values):.4g}"),
            Row.of(share, factor, label="exponent / (trace(P)/d)"),
        ]

    def judge(self, rows: Sequence[Row]) -> Verdict:
        verdict = judge_bound(rows)
        gains = [1.0 / r.measured for r in rows if r.label.startswith(self.quantity)]
        shares = [r.measured for r in rows if not r.label.startswith(self.quantity)]
        if gains and shares:
            verdict.figures.update(
                {"least speed-up": min(gains), "largest speed-up": max(gains), "least share of trace(P)/d": min(shares), "largest share": max(shares)}
            )
        return verdict


def exponent(step: np.ndarray, time: float) -> tuple[float, float]:
    """An interval of ``-log rho(A)/time``, rho the spectral radius, by Gelfand's formula at ``2^40`` powers.

    Arguments:
        step: A, shape (d, d), not singular. time: what one application covers, > 0.
    """
    d, n = len(step), 2.0**SQUARINGS
    power, log_norm = step, 0.0
    for i in range(SQUARINGS + 1):
        if i:
            power, log_norm = power @ power, 2.0 * log_norm
        size = float(np.linalg.norm(power, 2))
        power, log_norm = power / size, log_norm + np.log(size)
    low = -float(log_norm) / (n * time)
    log_radius = float(np.linalg.slogdet(step)[1]) / d
    slack = np.log(d) + (d - 1) * max(0.0, np.log(n * np.linalg.norm(step)) - log_radius)
    return low, low + float(slack) / (n * time)


def per_step(eigenvalues: np.ndarray) -> float:
    """The largest ``-log max |1 - h mu|`` over h: what an Euler step of the best length forgets, eigenvalues mu with positive real part."""
    from scipy.optimize import minimize_scalar

    longest = float((2.0 * eigenvalues.real / np.abs(eigenvalues) ** 2).min())  # beyond it the step explodes; |1 - h mu|^2 is convex in h
    found = minimize_scalar(
        lambda h: float(np.abs(1.0 - h * eigenvalues).max()), bounds=(0.0, longest), method="bounded", options={"xatol": 1e-9 * longest}
    )
    return -float(np.log(found.fun))
