"""Noise schedules: the speed beta(t) at which a forward process runs, and its exact integral."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeVar

import torch

from ...errors import InvalidInput
from ..base import positive

#: Times: one float, or a float64 tensor of any shape; answers come in kind.
Time = TypeVar("Time", float, torch.Tensor)


class Schedule(ABC):
    """``beta(t) > 0`` on ``[0, horizon]``: a process of drift ``beta f`` and noise ``sqrt(beta) G dB`` is the one of beta = 1
    at the time ``tau = int_0^t beta``.

    Errors: `InvalidInput` for a time that is negative, beyond the horizon, not finite, or in less than float64.
    """

    @abstractmethod
    def rate(self, t: Time) -> Time:
        """``beta(t)``, in units of one over time."""

    @abstractmethod
    def integral(self, t: Time) -> Time:
        """``int_0^t beta(s) ds``, without unit."""


@dataclass(frozen=True)
class Constant(Schedule):
    """``beta(t) = beta`` for all t >= 0; the integral is ``beta t``.

    Arguments:
        beta: positive, in units of one over time.
    """

    beta: float

    def __post_init__(self) -> None:
        positive(self.beta, "beta")

    def rate(self, t: Time) -> Time:
        _admit(t)
        return self.beta + 0.0 * t

    def integral(self, t: Time) -> Time:
        _admit(t)
        return self.beta * t


@dataclass(frozen=True)
class Linear(Schedule):
    """``beta(t) = first + (last - first) t / T`` on [0, T]; the integral is ``first t + (last - first) t^2 / (2 T)``.

    Arguments:
        first: beta(0) > 0, in units of one over time.
        last: beta(T) > 0; it may be below `first`.
        horizon: T > 0, in units of time.
    """

    first: float
    last: float
    horizon: float = 1.0

    def __post_init__(self) -> None:
        positive(self.first, "first")
        positive(self.last, "last")
        positive(self.horizon, "horizon")

    def rate(self, t: Time) -> Time:
        _admit(t, self.horizon)
        return self.first + (self.last - self.first) * (t / self.horizon)

    def integral(self, t: Time) -> Time:
        _admit(t, self.horizon)
        return t * (self.first + 0.5 * (self.last - self.first) * (t / self.horizon))


def _admit(t: float | torch.Tensor, horizon: float = float("inf")) -> None:
    """Raise one line unless every time is in [0, horizon]. A last step that sums to the horizon may miss it by its rounding."""
    if isinstance(t, torch.Tensor):
        if t.dtype != torch.float64:
            raise InvalidInput(f"t must be a float or a float64 tensor, got a tensor of {t.dtype}")
        if t.numel() == 0:
            return
        low, high = (end.item() for end in torch.aminmax(t))  # a NaN among the times is both
    elif isinstance(t, (int, float)):
        low = high = float(t)
    else:
        raise InvalidInput(f"t must be a float or a float64 tensor, got {type(t).__name__}")
    if not low >= 0.0:
        raise InvalidInput(f"t must be at least 0, got {low}")
    if high > horizon * (1.0 + 1e-12):
        raise InvalidInput(f"t must be at most the horizon {horizon}, got {high}")
    if high == float("inf"):
        raise InvalidInput(f"t must be finite, got {high}")
