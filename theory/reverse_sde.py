"""The reverse diffusion and the probability flow have the marginals of the forward process, as the step goes to zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..laws.grid import Grid
from ..laws.normal import Normal
from ..laws.propagate import Law
from ..metrics.base import Estimate
from ..metrics.w2 import W2
from ..samplers.diffusion.reverse import Reverse
from ..targets.base import Target
from .base import Case, Rate, Source
from .verdict import Row, Verdict, judge_rate

SONG = "Score-based generative modeling through stochastic differential equations"


def as_law(like: Law, target: Target) -> Law:
    """A target as a law of the kind, and on the mesh, of `like`."""
    if isinstance(like, Grid):
        return Grid.of_target(target, like.mesh)
    assert target.moments is not None
    return Normal(*(moment.numpy() for moment in target.moments))


@dataclass(frozen=True)
class _Marginals(Rate):
    """``max_k W2(law after k steps, q_(t_k)) ~ h^order`` from an exact start at q_T, over the recorded steps, h the mean step in
    time: with the oracle score nothing but the discretisation is left.

    Arguments:
        claimed: None: the stated order. Else another one, a negative control.
    """

    instruments: ClassVar[str] = "AG"
    abscissa: ClassVar[str] = "step size h"
    quantity: ClassVar[str] = "w2 to the forward marginals"

    claimed: float | None = None

    def hypotheses(self, case: Case) -> list[str]:
        sampler = case.sampler
        assert isinstance(sampler, Reverse)
        unmet = [] if sampler.score == "oracle" and sampler.error == 0 else ["the oracle score (score: oracle, error: 0)"]
        away = W2().between(case.start, as_law(case.start, sampler.origin(case.target))).value
        unmet += [] if away < 1e-7 else ["starts at the forward law (start: forward)"]
        return unmet + ([] if case.steps[-1] > 0 else ["records a step"])

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        sampler = case.sampler
        assert isinstance(sampler, Reverse)
        found = [
            W2().between(law, as_law(law, sampler.forward.noised(case.target, sampler.times[k])))
            for k, law in zip(case.steps, case.laws, strict=True)
            if k > 0
        ]
        worst = max(found, key=lambda e: e.value)
        return [((sampler.horizon - sampler.stop) / sampler.steps, worst)]

    def judge(self, rows: Sequence[Row]) -> Verdict:
        return judge_rate(rows, self.stated if self.claimed is None else self.claimed, self.sense, self.correction, small=True)


@dataclass(frozen=True)
class ReverseSDE(_Marginals):
    """The reverse stochastic differential equation, by Euler-Maruyama or the exponential integrator: order 1."""

    id: ClassVar[str] = "reverse-sde"
    statement: ClassVar[str] = "the reverse SDE has the forward marginals: W2 of its discretisation ~ h^1"
    source: ClassVar = Source(SONG, "Song et al.", 2021, "eq. 6", "https://arxiv.org/abs/2011.13456", "Anderson (1982)")
    samplers: ClassVar[tuple[str, ...]] = ("reverse_euler", "reverse_exponential")
    stated: ClassVar[float] = 1.0


@dataclass(frozen=True)
class ReverseFlow(_Marginals):
    """The probability flow, by Heun's method: order 2."""

    id: ClassVar[str] = "reverse-flow"
    statement: ClassVar[str] = "the probability flow has the forward marginals: W2 of Heun's method ~ h^2"
    source: ClassVar = Source(SONG, "Song et al.", 2021, "eq. 13 and Appendix D.1", "https://arxiv.org/abs/2011.13456")
    samplers: ClassVar[tuple[str, ...]] = ("flow_heun",)
    stated: ClassVar[float] = 2.0
