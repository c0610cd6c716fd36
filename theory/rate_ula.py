"""Rates of ULA: its bias in the step size and the dimension, and the number of steps to a given accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ..errors import InvalidInput
from ..laws.normal import Normal, affine_map
from ..metrics.base import Estimate
from ..metrics.w2 import W2
from .base import Case, Rate, Source, needs, with_step
from .complexity import Search, fewest
from .sources import chewi


class _Bias(Rate):
    """Stationary W2 bias against one parameter."""

    samplers: ClassVar[tuple[str, ...]] = ("ula",)
    quantity: ClassVar[str] = "stationary w2"

    def hypotheses(self, case: Case) -> list[str]:
        return needs(case, m="strongly log-concave", M="smooth")

    def bias(self, case: Case) -> Estimate:
        """W2(pi_h, pi)."""
        return W2()(case.stationary, case.target)


@dataclass(frozen=True)
class RateULABiasStep(_Bias):
    """``W2(pi_h, pi) ~ h``: first order on smooth targets. ula-w2 guarantees 1/2 only."""

    id: ClassVar[str] = "rate-ula-bias-h"
    statement: ClassVar[str] = "W2(pi_h, pi) ~ h^1 (ula-w2 guarantees h^(1/2))"
    source: ClassVar = Source(
        "Asymptotic bias of inexact Markov chain Monte Carlo methods in high dimension",
        "Durmus, Eberle",
        2021,
        "Theorem 2",
        "https://arxiv.org/abs/2108.00682",
    )
    stated: ClassVar[float] = 1.0
    abscissa: ClassVar[str] = "step size h"

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        return [(case.h, self.bias(case))]


@dataclass(frozen=True)
class RateULABiasDim(_Bias):
    """``W2(pi_h, pi) ~ d^(1/2)`` at fixed h: an equality on products."""

    id: ClassVar[str] = "rate-ula-bias-d"
    statement: ClassVar[str] = "W2(pi_h, pi) ~ d^(1/2) on products"
    source: ClassVar = chewi("Theorem 4.1.2")
    stated: ClassVar[float] = 0.5
    abscissa: ClassVar[str] = "dimension d"

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        return [(float(case.dim), self.bias(case))]


def _positive(value: float, name: str) -> None:
    if not 0 < value < np.inf:
        raise InvalidInput(f"{name} must be positive and finite, got {value}")


class _Complexity(Rate):
    """``N(eps) / log(sqrt(m) W2_0 / eps)``, N the fewest steps to ``sqrt(m) W2(mu_N, pi) <= eps`` over all step sizes.

    The stated exponents are those of an upper bound with its logarithm, so the logarithm is divided out.
    """

    source: ClassVar = chewi("Theorem 4.1.2")
    samplers: ClassVar[tuple[str, ...]] = ("ula",)
    instruments: ClassVar[str] = "A"
    sense: ClassVar[Literal["equal", "at most", "at least"]] = "at most"
    quantity: ClassVar[str] = "steps / log"

    def hypotheses(self, case: Case) -> list[str]:
        return needs(case, m="strongly log-concave", M="smooth")

    def complexity(self, case: Case, eps: float) -> Estimate:
        """The number of steps over its logarithm; the interval allows N to be off by one."""
        n = fewest_steps(case, eps)
        log = float(np.log(np.sqrt(case.constant("m")) * case.measure(W2())[0].value / eps))
        return Estimate(n / log, (n - 1) / log, (n + 1) / log)


@dataclass(frozen=True)
class RateULAComplexityKappa(_Complexity):
    """``N = O(kappa^2)`` in the condition number at fixed d and accuracy."""

    id: ClassVar[str] = "rate-ula-kappa"
    statement: ClassVar[str] = "steps to sqrt(m) W2 <= eps grow at most like kappa^2 log"
    stated: ClassVar[float] = 2.0
    abscissa: ClassVar[str] = "condition number kappa"

    eps: float = 0.1

    def __post_init__(self) -> None:
        _positive(self.eps, "eps")

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        return [(case.constant("M") / case.constant("m"), self.complexity(case, self.eps))]


@dataclass(frozen=True)
class RateULAComplexityDim(_Complexity):
    """``N = O(d)`` in the dimension at fixed kappa and accuracy."""

    id: ClassVar[str] = "rate-ula-d"
    statement: ClassVar[str] = "steps to sqrt(m) W2 <= eps grow at most like d log"
    stated: ClassVar[float] = 1.0
    abscissa: ClassVar[str] = "dimension d"

    eps: float = 0.1

    def __post_init__(self) -> None:
        _positive(self.eps, "eps")

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        return [(float(case.dim), self.complexity(case, self.eps))]


@dataclass(frozen=True)
class RateULAComplexityEps(_Complexity):
    """``N = O(eps^-2)`` in the accuracy: exponent of N in 1/eps at most 2.

    Arguments:
        largest, smallest: range of eps, in `count` geometric values.
    """

    id: ClassVar[str] = "rate-ula-eps"
    statement: ClassVar[str] = "steps to sqrt(m) W2 <= eps grow at most like (1/eps)^2 log"
    stated: ClassVar[float] = 2.0
    abscissa: ClassVar[str] = "inverse accuracy 1/eps"

    largest: float = 0.1
    smallest: float = 0.001
    count: int = 6

    def __post_init__(self) -> None:
        if not 0 < self.smallest < self.largest or self.count < 3:
            raise InvalidInput(
                f"largest and smallest must satisfy 0 < smallest < largest and count >= 3, got {self.largest}, {self.smallest}, {self.count}"
            )

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        return [(1 / eps, self.complexity(case, eps)) for eps in np.geomspace(self.largest, self.smallest, self.count)]


def fewest_steps(case: Case, eps: float) -> int:
    """The fewest ULA steps, over all step sizes below 2/(m + M), with ``sqrt(m) W2(mu_N, pi) <= eps``."""
    m, big, target, metric = case.constant("m"), case.constant("M"), case.target, W2()
    if not isinstance(case.start, Normal):
        raise InvalidInput("the complexity search runs on normal laws")
    start = case.start

    def search(h: float) -> Search:
        return Search(affine_map(with_step(case.sampler, h), target), start, lambda law: metric(law, target).value)

    return fewest(search, 2 / (m + big) * np.geomspace(1, 1e-5, 16), eps / np.sqrt(m))
