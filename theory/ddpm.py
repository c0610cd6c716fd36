"""The discrete chain behind DDPM: its marginals, and its posterior given both ends."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from ..metrics.base import Estimate
from ..samplers.diffusion.forward import VP, Forward
from ..samplers.diffusion.reverse import Reverse
from .base import Case, Identity, Source
from .verdict import Row

#: x_0 and x_t at which means are compared.
POINTS = (-1.7, 0.4, 2.3)


def ho(where: str) -> Source:
    return Source("Denoising diffusion probabilistic models", "Ho, Jain, Abbeel", 2020, where, "https://arxiv.org/abs/2006.11239")


@dataclass(frozen=True)
class _Chain(Identity):
    """On the times of a reverse sampler, forwards from 0; the law that the case carries is not looked at."""

    instruments: ClassVar[str] = "AGP"
    quantity: ClassVar[str] = "relative difference"

    @property
    def instrument(self) -> str:
        """Formulas against formulas."""
        return "Q"

    def hypotheses(self, case: Case) -> list[str]:
        return [] if isinstance(case.sampler, Reverse) else [f"a sampler that runs a forward process on positions backwards, got {case.sampler.name}"]


def _times(sampler: Reverse) -> list[float]:
    return [0.0, *(t for t in reversed(sampler.times) if t > 0)]


@dataclass(frozen=True)
class DDPMMarginal(_Chain):
    """``q(x_t | x_0) = N(a_t x_0, v_t I)`` in closed form is the composition of the one-step kernels
    ``N(a_t/a_s x_s, v_(s,t) I)``: ``v_t = (a_t/a_s)^2 v_s + v_(s,t)``; and v_t is the integral ``int_0^t (a_t/a_u)^2 g_u^2 du`` of the
    stochastic differential equation, by quadrature. For VP: ``a_t^2 = abar_t``, ``v_t = 1 - abar_t``.

    `factor` multiplies the closed-form variance.
    """

    id: ClassVar[str] = "ddpm-marginal"
    statement: ClassVar[str] = "q(x_t | x_0) = N(a_t x_0, v_t I) is the composition of the one-step kernels"
    source: ClassVar = ho("eq. 4")

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        assert isinstance(case.sampler, Reverse)
        process, scale, variance = case.sampler.forward, 1.0, 0.0
        found = []
        for i, (s, t) in enumerate(pairwise(_times(case.sampler)), 1):
            ratio, added = process.between(s, t)
            scale, variance = ratio * scale, ratio**2 * variance + added
            a, v = process.kernel(t)
            integral = sum(
                (a / process.scale(y)) ** 2 * Forward.added(process, x, y) for x, y in pairwise(np.linspace(0.0, t, 9).tolist())
            )  # by parts: a whole interval may span orders of magnitude of g
            off = {"scale": scale / a - 1, "variance": variance / (factor * v) - 1, "variance by quadrature": integral / (factor * v) - 1}
            found += [Row.of(Estimate.within(abs(e), 1e-14), 0.0, k=i, time=t, tolerance=1e-10, label=what) for what, e in off.items()]
        return found


@dataclass(frozen=True)
class DDPMPosterior(_Chain):
    """``q(x_s | x_t, x_0)`` for s < t, with ``alpha = abar_t/abar_s``: mean
    ``sqrt(abar_s) (1 - alpha)/(1 - abar_t) x_0 + sqrt(alpha) (1 - abar_s)/(1 - abar_t) x_t``, variance
    ``(1 - alpha) (1 - abar_s)/(1 - abar_t)``; against the product of the two Gaussians ``q(x_s | x_0) q(x_t | x_s)``, by precisions.

    Arguments:
        printed: the variance with ``1 - sqrt(abar_s)``, as in the lecture notes (docs/errata.md, 2): a negative control.
    """

    id: ClassVar[str] = "ddpm-posterior"
    statement: ClassVar[str] = "Var(x_s | x_t, x_0) = (1 - alpha)(1 - abar_s)/(1 - abar_t), alpha = abar_t/abar_s"
    source: ClassVar = ho("eq. 6 and 7")

    printed: bool = False

    def hypotheses(self, case: Case) -> list[str]:
        unmet = super().hypotheses(case)
        if unmet or (isinstance(case.sampler, Reverse) and isinstance(case.sampler.forward, VP)):
            return unmet
        return ["a variance-preserving process (process: vp)"]

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        assert isinstance(case.sampler, Reverse)
        process, found = case.sampler.forward, []
        for i, (s, t) in enumerate(pairwise(_times(case.sampler)), 1):
            if s == 0.0:
                continue  # given x_0 there is nothing left of x_s
            (a, v), (ratio, added) = process.kernel(s), process.between(s, t)
            abar_s, alpha = a**2, ratio**2
            # 1 - abar and 1 - alpha as they are known without cancellation
            rest_s, rest_t, rest = v, process.variance(t), added
            stated = factor * rest * ((1.0 - np.sqrt(abar_s)) if self.printed else rest_s) / rest_t
            exact = 1.0 / (1.0 / v + ratio**2 / added)
            worst = 0.0
            for x0 in POINTS:
                for xt in POINTS:
                    mean = np.sqrt(abar_s) * rest / rest_t * x0 + np.sqrt(alpha) * rest_s / rest_t * xt
                    product = exact * (a * x0 / v + ratio * xt / added)
                    worst = max(worst, abs(mean - product) / (abs(x0) + abs(xt)))
            for what, e in (("variance", abs(stated / exact - 1.0)), ("mean", worst)):
                found.append(Row.of(Estimate.within(e, 1e-14), 0.0, k=i, time=t, tolerance=1e-10, label=what))
        return found
