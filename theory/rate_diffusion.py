"""How the error of a reverse diffusion splits, one rate each: horizon, step, dimension, and error of the score."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ..metrics.base import Estimate
from ..metrics.kl import KL
from ..metrics.w2 import W2
from ..samplers.diffusion.reverse import Reverse
from .base import Case, Rate, Source
from .reverse_sde import as_law
from .verdict import Row, Verdict, judge_rate

BENTON = Source(
    "Nearly d-linear convergence bounds for diffusion models via stochastic localization",
    "Benton, De Bortoli, Doucet, Deligiannidis",
    2024,
    "Theorem 1",
    "https://arxiv.org/abs/2308.03686",
    "Chen, Lee, Lu (2023), https://arxiv.org/abs/2211.01916",
)


@dataclass(frozen=True)
class _Split(Rate):
    """``KL(q_stop || p)`` after the last recorded step against one quantity, everything else fixed.

    Arguments:
        claimed: None: the stated exponent. Else another one, a negative control.
    """

    source: ClassVar = BENTON
    instruments: ClassVar[str] = "AG"
    quantity: ClassVar[str] = "kl(target | law)"

    claimed: float | None = None

    def hypotheses(self, case: Case) -> list[str]:
        sampler = case.sampler
        if not isinstance(sampler, Reverse):
            return [f"a sampler that runs a forward process on positions backwards, got {sampler.name}"]
        unmet = [] if case.steps[-1] == sampler.steps else [f"runs to the end of its schedule (steps: [{sampler.steps}])"]
        return unmet + ([] if sampler.score == "oracle" else ["the oracle score, with what error it is given (score: oracle)"])

    @staticmethod
    def exact_start(case: Case) -> list[str]:
        """Unmet where the start is not the forward law at the horizon."""
        away = W2().between(case.start, as_law(case.start, case.sampler.origin(case.target))).value
        return [] if away < 1e-7 else ["starts at the forward law (start: forward)"]

    @staticmethod
    def no_error(case: Case) -> list[str]:
        """Unmet where an error is added to the score."""
        return ["no error of the score (error: 0)"] if getattr(case.sampler, "error", 0.0) > 0 else []

    @abstractmethod
    def abscissa_of(self, sampler: Reverse, case: Case) -> float:
        """What is varied."""

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        sampler = case.sampler
        assert isinstance(sampler, Reverse)
        last = case.laws[-1]
        return [(self.abscissa_of(sampler, case), KL().between(as_law(last, sampler.forward.noised(case.target, sampler.stop)), last))]

    def judge(self, rows: Sequence[Row]) -> Verdict:
        return judge_rate(rows, self.stated if self.claimed is None else self.claimed, self.sense, self.correction)


@dataclass(frozen=True)
class RateDiffusionHorizon(_Split):
    """In the horizon, from the prior: at most ``exp(-B(T))``, ``exp(-2T)`` for ``dx = -x dt + sqrt(2) dB``: exponent -2 or less in
    ``exp(B/2)``. The probability flow, a bijection, returns the very KL that it starts with."""

    id: ClassVar[str] = "rate-diffusion-horizon"
    statement: ClassVar[str] = "KL from the prior falls at least like exp(-2T): exponent at most -2 in exp(T)"
    stated: ClassVar[float] = -2.0
    sense: ClassVar[Literal["equal", "at most", "at least"]] = "at most"
    correction: ClassVar[float | None] = 2.0
    abscissa: ClassVar[str] = "exp(T)"
    samplers: ClassVar[tuple[str, ...]] = ("flow_adaptive",)

    def hypotheses(self, case: Case) -> list[str]:
        return super().hypotheses(case) or self.no_error(case)

    def abscissa_of(self, sampler: Reverse, case: Case) -> float:
        return float(1.0 / sampler.forward.scale(sampler.horizon))


@dataclass(frozen=True)
class RateDiffusionStep(_Split):
    """In the step, from the forward law with the oracle score: at least order 1; the Girsanov bound has order 1, and the law
    itself order 2 (twice that of W2), since KL is quadratic in the law's error."""

    id: ClassVar[str] = "rate-diffusion-step"
    statement: ClassVar[str] = "KL of the discretisation falls at least like h^1"
    stated: ClassVar[float] = 1.0
    sense: ClassVar[Literal["equal", "at most", "at least"]] = "at least"
    abscissa: ClassVar[str] = "step size h"

    def hypotheses(self, case: Case) -> list[str]:
        return super().hypotheses(case) or self.no_error(case) or self.exact_start(case)

    def abscissa_of(self, sampler: Reverse, case: Case) -> float:
        return (sampler.horizon - sampler.stop) / sampler.steps


@dataclass(frozen=True)
class RateDiffusionDim(_Split):
    """In the dimension: at most linear; products attain it."""

    id: ClassVar[str] = "rate-diffusion-d"
    statement: ClassVar[str] = "KL grows like d^1 on products (at most, in general)"
    stated: ClassVar[float] = 1.0
    abscissa: ClassVar[str] = "dimension d"

    def hypotheses(self, case: Case) -> list[str]:
        unmet = super().hypotheses(case) or self.no_error(case)
        if unmet or case.target.moments is None or not case.target.is_gaussian:
            return unmet or ["a Gaussian that is a power of one on the line"]
        mean, cov = (moment.numpy() for moment in case.target.moments)
        alike = np.ptp(mean) <= 1e-12 * (1 + abs(mean[0])) and np.abs(cov - cov[0, 0] * np.eye(len(cov))).max() <= 1e-12 * cov[0, 0]
        return [] if alike else ["a Gaussian that is a power of one on the line"]

    def abscissa_of(self, sampler: Reverse, case: Case) -> float:
        return float(case.dim)


@dataclass(frozen=True)
class RateDiffusionScore(_Split):
    """In the error of the score, of L2 norm e at every time: ``e^2 T`` in the bound, so exponent 2."""

    id: ClassVar[str] = "rate-diffusion-score"
    statement: ClassVar[str] = "KL grows like e^2 in the L2 error e of the score"
    stated: ClassVar[float] = 2.0
    abscissa: ClassVar[str] = "L2 error of the score"

    def hypotheses(self, case: Case) -> list[str]:
        return super().hypotheses(case) or self.exact_start(case)

    def abscissa_of(self, sampler: Reverse, case: Case) -> float:
        return sampler.error if sampler.error > 0 else float(np.nan)
