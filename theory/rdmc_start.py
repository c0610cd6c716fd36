"""The start of reverse diffusion Monte Carlo at a moderate horizon: Langevin on the noised target."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..metrics.base import Estimate
from ..metrics.kl import KL
from ..samplers.rdmc import RDMC
from ..samplers.ula import ULA
from .base import Bound, Case
from .sources import vempala_wibisono
from .ula_kl import ULAKL
from .verdict import Row


@dataclass(frozen=True)
class RDMCStart(Bound):
    """``KL(mu_k || p_T) <= exp(-alpha h k) KL(mu_0 || p_T) + 8 h d L^2/alpha`` while k <= initial_steps, for ``h <= alpha/(4 L^2)``.

    h is `initial_step`, p_T the law of the forward process at the horizon, alpha its log-Sobolev constant and L its smoothness, as they
    are known of the noised target. Noise makes it log-concave: two unit modes at +-a become two at ``+-exp(-T) a``, with
    ``alpha >= 1 - exp(-2T) a^2`` once that is positive, where the target's own constant falls like ``exp(-a^2/2)``. So T need not be so
    large that p_T is N(0, I), at which starting costs ``exp(-2T) KL(pi || N(0, I))`` (`ou-kl`).

    It is the bound for ULA on p_T, whose score is the oracle's: an estimated score adds an error of its own. Later steps run the
    diffusion backwards, and nothing is said of them.
    """

    statement: ClassVar[str] = "KL(mu_k | p_T) <= exp(-alpha h k) KL(mu_0 | p_T) + 8 h d L^2/alpha for k <= initial_steps"
    source: ClassVar = vempala_wibisono("Theorem 2, on p_T")
    samplers: ClassVar[tuple[str, ...]] = ("rdmc",)
    quantity: ClassVar[str] = "kl to the law at the horizon"
    metric: ClassVar = KL()

    def hypotheses(self, case: Case) -> list[str]:
        sampler = case.sampler
        assert isinstance(sampler, RDMC)
        unmet = [] if sampler.inner == "oracle" else [f"the exact score (inner: oracle), got inner {sampler.inner}"]
        if "diffused" not in case.target.capabilities:
            return [*unmet, f"a closed form after noising, which {case.target.name} does not have"]
        if not any(0 < k <= sampler.initial_steps for k in case.steps):
            return [*unmet, f"a recorded step among the initial ones, got initial_steps {sampler.initial_steps} and steps {list(case.steps[1:])}"]
        return unmet or [f"at the horizon {sampler.horizon:g}: {words}" for words in ULAKL().hypotheses(initial(case))]

    def bound(self, case: Case) -> np.ndarray:
        chain = initial(case)
        return np.concatenate([ULAKL().bound(chain), np.full(len(case.steps) - len(chain.steps), np.nan)])

    def measured(self, case: Case) -> list[Estimate]:
        return initial(case).measure(self.metric)

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        return [dataclasses.replace(row, label=self.quantity) for row in ULAKL().rows(initial(case), factor)]


def initial(case: Case) -> Case:
    """The initial steps as what they are: ULA on the law at the horizon."""
    sampler = case.sampler
    assert isinstance(sampler, RDMC)
    n = sum(k <= sampler.initial_steps for k in case.steps)
    return Case(sampler.origin(case.target), ULA(sampler.initial_step), case.steps[:n], case.laws[:n])
