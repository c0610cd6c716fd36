"""Forward processes on positions: linear diffusions that turn a density into noise, with their closed-form kernels."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import numpy as np

from ...errors import InvalidInput
from ...targets.base import Target
from ..base import positive
from .schedule import Constant, Linear, Schedule

#: Gauss-Legendre nodes of the integrals that have no closed form here.
NODES = 24


class Forward(ABC):
    """``dx = f(t) x dt + g(t) dB`` on [0, horizon], with ``x_t | x_0 ~ N(a(t) x_0, v(t) I)``.

    From (a, v) follows all else: ``f = a'/a``, ``g^2 = v' - 2 f v``, and ``x_t | x_s ~ N(a_t/a_s x_s, (v_t - (a_t/a_s)^2 v_s) I)``.

    Errors: `InvalidInput` for a time outside [0, horizon].
    """

    horizon: float

    @abstractmethod
    def scale(self, t: float) -> float:
        """a(t)."""

    @abstractmethod
    def variance(self, t: float) -> float:
        """v(t), accurate relative to itself at small t."""

    @abstractmethod
    def drift(self, t: float) -> float:
        """f(t)."""

    @abstractmethod
    def noise(self, t: float) -> float:
        """g(t)^2."""

    @property
    def prior(self) -> float:
        """Variance of the Gaussian that stands for the law at the horizon: the limit of v, or v there. Default: 1."""
        return 1.0

    # The same for all.

    @final
    def kernel(self, t: float) -> tuple[float, float]:
        """(a(t), v(t))."""
        self.admit(t)
        return self.scale(t), self.variance(t)

    @final
    def between(self, s: float, t: float) -> tuple[float, float]:
        """(scale, variance) of ``x_t | x_s``, s <= t."""
        self.admit(s)
        self.admit(t)
        ratio = self.scale(t) / self.scale(s)
        return ratio, self.added(s, t)

    def added(self, s: float, t: float) -> float:
        """``int_s^t (a_t/a_u)^2 g_u^2 du``, by quadrature; to be overridden where it has a closed form."""
        return self._integral(s, t, lambda u: (self.scale(t) / self.scale(u)) ** 2 * self.noise(u))

    def push(self, s: float, t: float) -> float:
        """``int_s^t (a_s/a_u) g_u^2 du``: what a score held fixed from t back to s moves x by, beside the linear part."""
        return self._integral(s, t, lambda u: self.scale(s) / self.scale(u) * self.noise(u))

    def back(self, s: float, t: float) -> float:
        """``int_s^t (a_s/a_u)^2 g_u^2 du``: the variance that the noise of the reverse process gathers from t back to s."""
        return self.added(s, t) * (self.scale(s) / self.scale(t)) ** 2

    @final
    def noised(self, target: Target, t: float) -> Target:
        """The law of x_t from x_0 ~ target, as a target of its own: potential, score, exact draws, constants.

        Errors: `Unsupported` where the target has no closed form after noising.
        """
        self.admit(t)
        return diffused(target, self.scale(t), self.variance(t))

    def admit(self, t: float) -> None:
        """Raise one line for a time outside the schedule."""
        if not 0.0 <= t <= self.horizon * (1 + 1e-12):
            raise InvalidInput(f"time must lie in [0, {self.horizon:g}], the span of the schedule, got {t}")

    @staticmethod
    def _integral(s: float, t: float, function: object) -> float:
        u, w = _legendre()
        return float(sum(weight * function(s + (t - s) * (node + 1) / 2) for node, weight in zip(u, w, strict=True)) * (t - s) / 2)  # type: ignore[operator]


@lru_cache(maxsize=1)
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    u, w = np.polynomial.legendre.leggauss(NODES)
    return u, w


@lru_cache(maxsize=4096)
def diffused(target: Target, scale: float, variance: float) -> Target:
    """`Target.diffused`, made once for all blocks of particles."""
    return target.diffused(scale, variance)


@dataclass(frozen=True)
class VP(Forward):
    """Variance preserving: ``dx = -beta/2 x dt + sqrt(beta) dB``; ``a = exp(-B/2)``, ``v = 1 - exp(-B)``, ``B = int_0^t beta``.

    With constant beta = 2 it is the Ornstein-Uhlenbeck process ``dx = -x dt + sqrt(2) dB``.

    References: Song et al., "Score-based generative modeling through stochastic differential equations" (2021), eq. 11 and
        Appendix B, https://arxiv.org/abs/2011.13456
    """

    horizon: float
    schedule: Schedule

    def __post_init__(self) -> None:
        positive(self.horizon, "horizon")

    def scale(self, t: float) -> float:
        return math.exp(-0.5 * self.schedule.integral(t))

    def variance(self, t: float) -> float:
        return -math.expm1(-self.schedule.integral(t))

    def drift(self, t: float) -> float:
        return -0.5 * self.schedule.rate(t)

    def noise(self, t: float) -> float:
        return self.schedule.rate(t)

    def added(self, s: float, t: float) -> float:
        return -math.expm1(self.schedule.integral(s) - self.schedule.integral(t))

    def push(self, s: float, t: float) -> float:
        return 2.0 * math.expm1(0.5 * (self.schedule.integral(t) - self.schedule.integral(s)))


@dataclass(frozen=True)
class SubVP(Forward):
    """``dx = -beta/2 x dt + sqrt(beta (1 - exp(-2B))) dB``: VP's mean, and ``v = (1 - exp(-B))^2``, VP's variance squared.

    References: Song et al., "Score-based generative modeling through stochastic differential equations" (2021), eq. 12,
        https://arxiv.org/abs/2011.13456
    """

    horizon: float
    schedule: Schedule

    def __post_init__(self) -> None:
        positive(self.horizon, "horizon")

    def scale(self, t: float) -> float:
        return math.exp(-0.5 * self.schedule.integral(t))

    def variance(self, t: float) -> float:
        return math.expm1(-self.schedule.integral(t)) ** 2

    def drift(self, t: float) -> float:
        return -0.5 * self.schedule.rate(t)

    def noise(self, t: float) -> float:
        return -self.schedule.rate(t) * math.expm1(-2.0 * self.schedule.integral(t))

    def added(self, s: float, t: float) -> float:
        start, end = self.schedule.integral(s), self.schedule.integral(t)
        return 4.0 * math.exp(-end) * math.sinh(0.5 * (start + end)) * math.sinh(0.5 * (end - start))


@dataclass(frozen=True)
class VE(Forward):
    """Variance exploding: ``dx = sqrt(d sigma^2/dt) dB``, ``sigma(t) = least (largest/least)^(t/T)``; ``a = 1``,
    ``v = sigma(t)^2 - least^2``, so that x_0 is the target's draw itself.

    References: Song et al., "Score-based generative modeling through stochastic differential equations" (2021), eq. 9 and
        Appendix C, https://arxiv.org/abs/2011.13456

    Arguments: horizon: T. least, largest: sigma at 0 and at T, ``0 < least < largest``.
    """

    horizon: float
    least: float
    largest: float

    def __post_init__(self) -> None:
        positive(self.horizon, "horizon")
        positive(self.least, "least")
        if not self.least < self.largest < math.inf:
            raise InvalidInput(f"largest must be above least = {self.least:g} and finite, got {self.largest}")

    @property
    def _rate(self) -> float:
        return 2.0 * math.log(self.largest / self.least) / self.horizon

    def scale(self, t: float) -> float:
        return 1.0

    def variance(self, t: float) -> float:
        return self.least**2 * math.expm1(self._rate * t)

    def drift(self, t: float) -> float:
        return 0.0

    def noise(self, t: float) -> float:
        return self._rate * self.least**2 * math.exp(self._rate * t)

    def added(self, s: float, t: float) -> float:
        return self.least**2 * math.exp(self._rate * s) * math.expm1(self._rate * (t - s))

    def push(self, s: float, t: float) -> float:
        return self.added(s, t)

    def time(self, variance: float) -> float:
        """The t at which ``v(t)`` is this."""
        return math.log1p(variance / self.least**2) / self._rate

    @property
    def prior(self) -> float:
        """v(T)."""
        return self.variance(self.horizon)


def ou(horizon: float) -> VP:
    """``dx = -x dt + sqrt(2) dB`` on [0, horizon]."""
    return VP(horizon, Constant(2.0))


def vp(horizon: float, first: float, last: float) -> VP:
    """VP with beta rising linearly from `first` to `last` (constant where they are equal)."""
    return VP(horizon, Constant(first) if first == last else Linear(first, last, horizon))
