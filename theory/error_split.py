"""Where the error of a reverse diffusion comes from: early stopping, discretisation, initialisation, score."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..laws.grid import Grid
from ..laws.normal import Normal
from ..laws.propagate import Law, propagate
from ..metrics.base import Estimate
from ..metrics.w2 import W2
from ..samplers.diffusion.reverse import Reverse
from .base import Bound, Case, Source
from .reverse_sde import SONG, as_law
from .verdict import Row, Verdict, judge_bound

#: The parts, in the order in which they are switched on.
PARTS = ("early stopping", "discretisation", "initialisation", "score")


@dataclass(frozen=True)
class ErrorSplit(Bound):
    """``W2(p, pi) <= stop + disc + init + score``: with p the law of what the sampler returns, the errors are switched on one by one:

    stop ``W2(q_stop, pi)``; disc ``W2(A, q_stop)``, A the same steps from the forward law with the oracle score;
    init ``W2(B, A)``, B the same from the start that is used; score ``W2(p, B)``, p with the score that is used.

    Each is the distance of two laws that are carried without sampling error; their sum bounds the total by the triangle
    inequality, and the tightness says how much of it cancels. A network's score on the line is a function like any other, and its
    law is as exact as the oracle's.
    """

    id: ClassVar[str] = "error-split"
    statement: ClassVar[str] = "W2(p, pi) <= stopping + discretisation + initialisation + score"
    source: ClassVar = Source(
        SONG, "Song et al.", 2021, "section 3 (the sampler); the split by the triangle inequality", "https://arxiv.org/abs/2011.13456"
    )
    instruments: ClassVar[str] = "AG"
    quantity: ClassVar[str] = "w2"
    metric: ClassVar = W2()

    def hypotheses(self, case: Case) -> list[str]:
        if not isinstance(case.sampler, Reverse):
            return [f"a sampler that runs a forward process on positions backwards, got {case.sampler.name}"]
        unmet = [] if case.steps[-1] == case.sampler.steps else [f"runs to the end of its schedule (steps: [{case.sampler.steps}])"]
        oracle = "diffused" in case.target.capabilities
        return unmet + ([] if oracle else [f"a closed form after noising, which {case.target.name} does not have"])

    def parts(self, case: Case) -> dict[str, Estimate]:
        """The four distances, in the order of `PARTS`."""
        sampler, target, last = case.sampler, case.target, case.laws[-1]
        assert isinstance(sampler, Reverse) and isinstance(case.start, (Grid, Normal))
        stopped = as_law(last, sampler.forward.noised(target, sampler.stop))
        faithful = dataclasses.replace(sampler, score="oracle", error=0.0)

        def end(start: Law) -> Law:
            return propagate(start, faithful, target, [sampler.steps])[0]

        exact, given = end(as_law(case.start, sampler.origin(target))), end(case.start)
        distances = (W2()(stopped, target), *(W2().between(p, q) for p, q in ((exact, stopped), (given, exact), (last, given))))
        return dict(zip(PARTS, distances, strict=True))

    def bound(self, case: Case) -> np.ndarray:
        return np.array([sum(e.upper for e in self.parts(case).values())])

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        parts, k = self.parts(case), case.steps[-1]
        total = case.measure(W2())[-1]
        rows = [Row.of(total, factor * sum(e.upper for e in parts.values()), k=k, time=float(k), label=self.quantity)]
        # the parts are bounded by nothing: a row without a bound is drawn and not judged
        return rows + [Row.of(e, np.nan, k=k, time=float(k), label=what) for what, e in parts.items()]

    def judge(self, rows: Sequence[Row]) -> Verdict:
        verdict = judge_bound([r for r in rows if r.label == self.quantity])
        largest = {what: max((r.measured for r in rows if r.label == what), default=np.nan) for what in PARTS}
        return dataclasses.replace(verdict, figures=verdict.figures | {f"largest part, {what}": value for what, value in largest.items()})
