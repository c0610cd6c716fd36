"""Orders of the samplers that run CLD and PSLD backwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..laws.grid import Grid
from ..laws.normal import Normal, position
from ..laws.phase import line
from ..laws.propagate import Law
from ..metrics.base import Estimate
from ..metrics.tv import TV
from ..metrics.w2 import W2
from ..samplers.diffusion.reverse_phase import ReversePhase
from ..samplers.diffusion.sscs import SSCS
from ..targets.base import Target
from .base import Case, Rate, Source
from .reverse_sde import as_law
from .verdict import Row, Verdict, judge_rate


def _positions(like: Law, joint: Target, dim: int) -> Law:
    """The position's part of a joint law, as a law of the kind, and on the mesh, of `like`."""
    if isinstance(like, Grid):
        assert like.joint is not None
        return line(Grid.of_target(joint, like.joint.mesh), dim)
    assert joint.moments is not None
    return position(Normal(*(moment.numpy() for moment in joint.moments)), dim)


@dataclass(frozen=True)
class _PhaseOrder(Rate):
    """``W2`` of the positions after the last step to the forward law's at `stop`, from the exact joint law at the horizon, with
    the oracle score: ``~ h^order``, h the mean step in time.

    Arguments:
        claimed: None: the stated order. Else another one, a negative control.
    """

    source: ClassVar = Source(
        "Score-based generative modeling with critically-damped Langevin diffusion",
        "Dockhorn, Vahdat, Kreis",
        2022,
        "section 3.3 and Appendix D",
        "https://arxiv.org/abs/2112.07068",
        "Pandey, Mandt (2023), https://arxiv.org/abs/2303.01748",
    )
    instruments: ClassVar[str] = "AG"
    abscissa: ClassVar[str] = "step size h"
    quantity: ClassVar[str] = "w2 of the positions"

    claimed: float | None = None

    def hypotheses(self, case: Case) -> list[str]:
        sampler = case.sampler
        assert isinstance(sampler, ReversePhase)
        unmet = [] if sampler.score == "oracle" and sampler.error == 0 else ["the oracle score (score: oracle, error: 0)"]
        if getattr(case.start, "joint", None) is None:
            return [*unmet, "starts at the forward law (start: forward)"]
        joint = case.start.joint  # type: ignore[union-attr]
        assert isinstance(joint, (Grid, Normal))
        away = (TV() if isinstance(joint, Grid) else W2()).between(joint, as_law(joint, sampler.origin(case.target))).value
        unmet += [] if away < 1e-6 else ["starts at the forward law (start: forward)"]
        return unmet + ([] if case.steps[-1] == sampler.steps else [f"runs to the end of its schedule (steps: [{sampler.steps}])"])

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        sampler, last = case.sampler, case.laws[-1]
        assert isinstance(sampler, ReversePhase)
        there = _positions(last, sampler.forward.noised(case.target, sampler.stop), case.dim)
        return [((sampler.horizon - sampler.stop) / sampler.steps, W2().between(last, there))]

    def judge(self, rows: Sequence[Row]) -> Verdict:
        return judge_rate(rows, self.stated if self.claimed is None else self.claimed, self.sense, self.correction, small=True)


@dataclass(frozen=True)
class SSCSOrder(_PhaseOrder):
    """SSCS whose inner score step is of order 2 (``inner: midpoint``): order 2. With the published Euler step inside, the
    symmetric splitting does not help: see sscs-published."""

    id: ClassVar[str] = "sscs-order"
    statement: ClassVar[str] = "SSCS with a midpoint score step: W2 ~ h^2"
    samplers: ClassVar[tuple[str, ...]] = ("sscs",)
    stated: ClassVar[float] = 2.0

    def hypotheses(self, case: Case) -> list[str]:
        assert isinstance(case.sampler, SSCS)
        return super().hypotheses(case) + ([] if case.sampler.inner == "midpoint" else ["an inner step of order 2 (inner: midpoint)"])


@dataclass(frozen=True)
class SSCSPublished(_PhaseOrder):
    """SSCS as published, its inner score step by Euler with the score at the start of the step: order 1."""

    id: ClassVar[str] = "sscs-published"
    statement: ClassVar[str] = "SSCS with the published Euler score step: W2 ~ h^1"
    samplers: ClassVar[tuple[str, ...]] = ("sscs",)
    stated: ClassVar[float] = 1.0

    def hypotheses(self, case: Case) -> list[str]:
        assert isinstance(case.sampler, SSCS)
        return super().hypotheses(case) + ([] if case.sampler.inner == "euler" else ["the published inner step (inner: euler)"])


@dataclass(frozen=True)
class PhaseEulerOrder(_PhaseOrder):
    """Euler-Maruyama on (x, p): order 1."""

    id: ClassVar[str] = "phase-euler-order"
    statement: ClassVar[str] = "Euler-Maruyama on the reverse CLD and PSLD: W2 ~ h^1"
    samplers: ClassVar[tuple[str, ...]] = ("phase_euler",)
    stated: ClassVar[float] = 1.0
