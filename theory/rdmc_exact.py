"""Reverse diffusion Monte Carlo with the exact score returns the target as the outer step goes to zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..metrics.base import Estimate
from ..metrics.w2 import W2
from ..samplers.rdmc import RDMC
from .base import Case, Rate, Source
from .reverse_sde import as_law
from .verdict import Row, Verdict, judge_rate


@dataclass(frozen=True)
class RDMCExact(Rate):
    """``max_k W2(p_k, q_(t_k)) ~ h`` from an exact start at p_T, over the recorded steps, h the mean step in time.

    What an update with a wrong factor before the score converges to is another law: its distance does not fall (with
    ``(e^h - 1) S`` in the place of ``2 (e^h - 1) S`` N(0, 1) comes out with the variance 1 + 2 T).

    Arguments:
        claimed: None: the stated order. Else another one, a negative control.
    """

    statement: ClassVar[str] = "with the exact score the law of RDMC is the forward one: W2 ~ h^1"
    source: ClassVar = Source("Reverse diffusion Monte Carlo", "Huang, Dong, Hao, Ma, Zhang", 2024, "Algorithm 1", "https://arxiv.org/abs/2307.02037")
    samplers: ClassVar[tuple[str, ...]] = ("rdmc",)
    instruments: ClassVar[str] = "AG"
    abscissa: ClassVar[str] = "step size h"
    quantity: ClassVar[str] = "w2 to the forward marginals"
    stated: ClassVar[float] = 1.0

    claimed: float | None = None

    def hypotheses(self, case: Case) -> list[str]:
        sampler = case.sampler
        assert isinstance(sampler, RDMC)
        unmet = [] if sampler.inner == "oracle" else [f"the exact score (inner: oracle), got inner {sampler.inner}"]
        if "diffused" not in case.target.capabilities:
            return [*unmet, f"a closed form after noising, which {case.target.name} does not have"]
        away = W2().between(case.start, as_law(case.start, sampler.origin(case.target))).value
        unmet += [] if away < 1e-7 else ["starts at the forward law (start: forward)"]
        return unmet + (["no initial Langevin steps (initial_steps: 0)"] if sampler.initial_steps else [])

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        sampler = case.sampler
        assert isinstance(sampler, RDMC)
        found = [
            W2().between(law, as_law(law, sampler.forward.noised(case.target, sampler.times[k])))
            for k, law in zip(case.steps, case.laws, strict=True)
            if k > 0
        ]
        return [((sampler.horizon - sampler.stop) / sampler.steps, max(found, key=lambda e: e.value))]

    def judge(self, rows: Sequence[Row]) -> Verdict:
        return judge_rate(rows, self.stated if self.claimed is None else self.claimed, self.sense, self.correction)
