"""The error of an estimated score against the number of inner points."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import special

from ..errors import InvalidInput
from ..laws.normal import Normal, affine_map
from ..metrics.base import Estimate
from ..samplers.noise import Stream
from ..samplers.rdmc import RDMC
from .base import Case, Rate, Source
from .verdict import Row, Verdict, judge_rate

#: Inner samplers whose points have the posterior's law, up to an error of order one over their number.
CONSISTENT = ("importance", "exact", "rejection")


@dataclass(frozen=True)
class RDMCInner(Rate):
    """``(int_0^T E|S(x_t, t) - grad log p_t(x_t)|^2 dt)^1/2 ~ n^-1/2``, n the number of inner points, x_t ~ p_t.

    The integral is the one that bounds the KL of what comes out (`em-girsanov`); it is a mean over `instants` steps of the schedule. On a
    Gaussian target the step is affine in (x, noise) with exact inner draws, and with it the error's second moment is exact; elsewhere it
    is a mean over `particles` exact draws of x_t, with a 99 % interval. Langevin chains of finite length have a bias that no
    number of them removes; it is for inner samplers that have none.

    Arguments:
        instants: at least 1, evenly chosen among the steps.
        particles: at least 100, at each of them.
        claimed: None: the stated exponent. Else another one, a negative control.
    """

    statement: ClassVar[str] = "the L2 error of the estimated score falls like n^(-1/2) in the number n of inner points"
    source: ClassVar = Source(
        "Reverse diffusion Monte Carlo", "Huang, Dong, Hao, Ma, Zhang", 2024, "Lemma 1 and section 4", "https://arxiv.org/abs/2307.02037"
    )
    samplers: ClassVar[tuple[str, ...]] = ("rdmc",)
    instruments: ClassVar[str] = "AGP"
    abscissa: ClassVar[str] = "inner points n"
    quantity: ClassVar[str] = "score error"
    stated: ClassVar[float] = -0.5

    instants: int = 4
    particles: int = 2000
    claimed: float | None = None

    def __post_init__(self) -> None:
        if self.instants < 1 or self.particles < 100:
            raise InvalidInput(f"instants must be at least 1 and particles at least 100, got {self.instants} and {self.particles}")

    def hypotheses(self, case: Case) -> list[str]:
        sampler = case.sampler
        assert isinstance(sampler, RDMC)
        unmet = (
            [] if sampler.inner in CONSISTENT else [f"inner points of the posterior's law (inner: {' or '.join(CONSISTENT)}), got {sampler.inner}"]
        )
        if sampler.identity == "both" and case.target.is_gaussian:
            unmet.append("an error to measure: with both identities nothing is left of it on a Gaussian target")
        if isinstance(sampler.inner_chains, tuple) or sampler.budget is not None:
            unmet.append("one number of inner points for all times")
        return unmet + ([] if "diffused" in case.target.capabilities else [f"the oracle's score, which {case.target.name} does not have"])

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        sampler = case.sampler
        assert isinstance(sampler, RDMC) and isinstance(sampler.inner_chains, int)
        span, first = sampler.horizon - sampler.stop, sampler.initial_steps
        chosen = sorted({first + round(i * (sampler.steps - 1) / max(1, self.instants - 1)) for i in range(self.instants)})
        if isinstance(case.start, Normal) and case.target.is_gaussian and sampler.inner == "exact":
            square = span * float(np.mean([exact_error(case, k) for k in chosen]))
            return [(float(sampler.inner_chains), Estimate.within(square**0.5, 1e-12 * square**0.5))]
        means, variances = [], []
        for k in chosen:
            p = sampler.forward.noised(case.target, sampler.times[k])
            x = p.sample(self.particles, Stream("rdmc inner", case.target.id, k))
            score = sampler.look(case.target, k, x, Stream("rdmc inner", sampler.id, k)).score
            squares = ((score - p.score(x)) ** 2).sum(1)
            means.append(float(squares.mean()))
            variances.append(float(squares.var()) / len(squares))
        mean, half = float(np.mean(means)), float(special.ndtri(0.995)) * float(np.sqrt(np.sum(variances))) / len(chosen)
        value = (span * mean) ** 0.5
        return [(float(sampler.inner_chains), Estimate(value, (span * max(0.0, mean - half)) ** 0.5, (span * (mean + half)) ** 0.5))]

    def judge(self, rows: Sequence[Row]) -> Verdict:
        return judge_rate(rows, self.stated if self.claimed is None else self.claimed, self.sense, self.correction)


def exact_error(case: Case, k: int) -> float:
    """``E|S - grad log p_t|^2`` of the step after k steps, from its affine map and that of the step with the exact score."""
    sampler, target = case.sampler, case.target
    assert isinstance(sampler, RDMC)
    t, s = sampler.times[k], sampler.times[k + 1]
    step = affine_map(sampler.at(k), target)
    faithful = affine_map(dataclasses.replace(sampler, inner="oracle").at(k), target)
    moments = sampler.forward.noised(target, t).moments
    assert moments is not None
    mean, cov = (moment.numpy() for moment in moments)
    a, b = step.linear - faithful.linear, step.offset - faithful.offset
    noise = float(np.trace(step.noise_cov - faithful.noise_cov))
    return (float(((a @ mean + b) ** 2).sum() + np.trace(a @ cov @ a.T)) + noise) / sampler.forward.push(s, t) ** 2
