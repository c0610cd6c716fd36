"""Steps to a given accuracy of kinetic integrators, in the dimension and in the accuracy: KLMC and the randomized midpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ..errors import InvalidInput
from ..laws.moments import joined
from ..laws.normal import Normal, affine_map, lifted, position
from ..metrics.base import Estimate
from ..metrics.w2 import W2
from ..samplers.kinetic import Kinetic
from .base import Case, Rate, Source, needs, with_step
from .complexity import Search, fewest
from .verdict import Row, Verdict, judge_rate

CHENG = Source(
    "Underdamped Langevin MCMC: a non-asymptotic analysis",
    "Cheng, Chatterji, Bartlett, Jordan",
    2018,
    "Theorem 1",
    "https://arxiv.org/abs/1707.03663",
)
SHEN = Source(
    "The randomized midpoint method for log-concave sampling", "Shen, Lee", 2019, "abstract and Theorem 3", "https://arxiv.org/abs/1909.05503"
)


@dataclass(frozen=True)
class _Complexity(Rate):
    """``N(eps) / log(sqrt(m) W2_0/eps)``, N the fewest steps to ``sqrt(m) W2(mu_N, pi) <= eps`` over all step sizes, at the
    friction of the theorem, ``2 sqrt(M/mass)`` (in its units gamma = 2 and u = 1/M). Gaussian targets.

    The search carries laws of its own, from N(mean, variance I): a case with particles serves as well.

    Arguments:
        eps: accuracy, where it is not what is varied.
        mean, variance: of the start.
        claimed: None: the stated exponent. Else another one, a negative control.
    """

    instruments: ClassVar[str] = "AP"
    sense: ClassVar[Literal["equal", "at most", "at least"]] = "at most"
    quantity: ClassVar[str] = "steps / log"

    eps: float = 0.01
    mean: float = 2.0
    variance: float = 0.5
    claimed: float | None = None

    def __post_init__(self) -> None:
        for value, name in ((self.eps, "eps"), (self.variance, "variance")):
            if not 0 < value < np.inf:
                raise InvalidInput(f"{name} must be positive and finite, got {value}")

    @property
    def instrument(self) -> str:
        """Affine maps, whatever law the case carries."""
        return "A"

    def hypotheses(self, case: Case) -> list[str]:
        unmet = needs(case, m="strongly log-concave", M="smooth")
        if not case.target.is_gaussian:
            unmet.append("the target is Gaussian")
        if unmet or not isinstance(case.sampler, Kinetic):
            return unmet
        wanted, got = 2.0 * (case.constant("M") / case.sampler.mass) ** 0.5, case.sampler.rate(case.target)
        return [] if abs(got - wanted) <= 1e-6 * wanted else [f"friction 2 sqrt(M/mass) = {wanted:.6g}, got {got:.6g}"]

    def complexity(self, case: Case, eps: float) -> Estimate:
        """The number of steps over its logarithm; the interval allows N to be off by one."""
        root, d = case.constant("m") ** 0.5, case.dim
        start = Normal(np.full(d, self.mean), self.variance * np.eye(d))
        n = fewest(lambda h: _search(case, start, h), case.constant("M") ** -0.5 * np.geomspace(2.0, 2e-5, 18), eps / root)
        away = root * W2()(start, case.target).value
        if away <= eps:
            raise InvalidInput(f"eps must be below the distance of the start, sqrt(m) W2 = {away:.6g}, got {eps:g}")
        log = float(np.log(away / eps))
        side: Literal["exact", "upper"] = "upper" if case.sampler.name == "randomized_midpoint" else "exact"
        return Estimate(n / log, (n - 1) / log, (n + 1) / log, side=side)

    def judge(self, rows: Sequence[Row]) -> Verdict:
        return judge_rate(rows, self.stated if self.claimed is None else self.claimed, self.sense, self.correction)


def _search(case: Case, start: Normal, h: float) -> Search:
    """W2 of the law itself where the step is affine; where it draws uniforms, the distance of a coupling with the diffusion."""
    sampler, target = with_step(case.sampler, h), case.target
    if sampler.name != "randomized_midpoint":
        return Search(affine_map(sampler, target), lifted(start, sampler.momentum), lambda law: W2()(position(law, target.dim), target).value)
    step, moments, where = joined(sampler, target, start)
    return Search(step, Normal(moments, np.zeros((len(moments),) * 2)), lambda law: float(np.sqrt(max(0.0, law.mean[where].sum()))))


@dataclass(frozen=True)
class _Dim(_Complexity):
    abscissa: ClassVar[str] = "dimension d"

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        return [(float(case.dim), self.complexity(case, self.eps))]


@dataclass(frozen=True)
class _Eps(_Complexity):
    """eps is varied from `eps` down to `smallest`, in `count` geometric values."""

    abscissa: ClassVar[str] = "inverse accuracy 1/eps"

    smallest: float = 1e-5
    count: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.smallest < self.eps < np.inf or self.count < 3:
            raise InvalidInput(f"smallest and eps must satisfy 0 < smallest < eps and count >= 3, got {self.smallest}, {self.eps}, {self.count}")

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        return [(1 / eps, self.complexity(case, float(eps))) for eps in np.geomspace(self.eps, self.smallest, self.count)]


@dataclass(frozen=True)
class RateKineticDim(_Dim):
    """KLMC: ``N = O(sqrt(d))``, by W2 of the law of the iterates, exact."""

    id: ClassVar[str] = "rate-kinetic-d"
    statement: ClassVar[str] = "steps of KLMC to sqrt(m) W2 <= eps grow at most like d^(1/2) log"
    source: ClassVar = CHENG
    samplers: ClassVar[tuple[str, ...]] = ("klmc",)
    stated: ClassVar[float] = 0.5


@dataclass(frozen=True)
class RateKineticEps(_Eps):
    """KLMC: ``N = O(1/eps)``, attained on Gaussians, by W2 of the law of the iterates, exact."""

    id: ClassVar[str] = "rate-kinetic-eps"
    statement: ClassVar[str] = "steps of KLMC to sqrt(m) W2 <= eps grow like (1/eps)^1 log on Gaussians"
    sense: ClassVar[Literal["equal", "at most", "at least"]] = "equal"
    source: ClassVar = CHENG
    samplers: ClassVar[tuple[str, ...]] = ("klmc",)
    stated: ClassVar[float] = 1.0


@dataclass(frozen=True)
class RateMidpointDim(_Dim):
    """Randomized midpoint: ``N = O(d^(1/3))``, as measured by the coupling with the diffusion (`laws/moments.py`), an upper
    value of W2 and the quantity that the proof bounds."""

    id: ClassVar[str] = "rate-midpoint-d"
    statement: ClassVar[str] = "steps of the randomized midpoint to sqrt(m) W2 <= eps grow at most like d^(1/3) log"
    source: ClassVar = SHEN
    samplers: ClassVar[tuple[str, ...]] = ("randomized_midpoint",)
    stated: ClassVar[float] = 1.0 / 3.0


@dataclass(frozen=True)
class RateMidpointEps(_Eps):
    """Randomized midpoint: ``N = O(eps^(-2/3))``, as measured by the coupling with the diffusion, an upper value of W2."""

    id: ClassVar[str] = "rate-midpoint-eps"
    statement: ClassVar[str] = "steps of the randomized midpoint to sqrt(m) W2 <= eps grow at most like (1/eps)^(2/3) log"
    source: ClassVar = SHEN
    samplers: ClassVar[tuple[str, ...]] = ("randomized_midpoint",)
    stated: ClassVar[float] = 2.0 / 3.0
