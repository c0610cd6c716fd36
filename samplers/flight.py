"""Free flight under friction: a momentum that decays and is stirred, and the position that it carries. Exact over any time."""

from __future__ import annotations

from functools import lru_cache
from math import factorial
from typing import NamedTuple

import torch

#: Terms of the series below `SMALL`: the last one is below 1e-17 of the first.
TERMS, SMALL = 20, 0.5


class Flight(NamedTuple):
    """``dx = p/M dt, dp = -g dt - gamma p dt + sqrt(2 gamma M) dB`` over a time t, g constant: with independent normals y, z

    ``p' = decay p - reach g + stir y``,
    ``x' = x + (reach p - push g)/M + along y + across z``.

    decay: ``e^(-gamma t)``. reach: ``(1 - e^(-gamma t))/gamma``. push: ``(t - reach)/gamma``.
    stir: ``sqrt(M (1 - e^(-2 gamma t)))``. along, across: from ``Cov(x, p) = gamma reach^2`` and
    ``Var x = (2 gamma t - 3 + 4 e^(-gamma t) - e^(-2 gamma t))/(M gamma^2)``.
    """

    decay: torch.Tensor
    reach: torch.Tensor
    push: torch.Tensor
    stir: torch.Tensor
    along: torch.Tensor
    across: torch.Tensor


def flight(friction: float, mass: float, time: torch.Tensor) -> Flight:
    """The coefficients, in the shape of `time`, computed in float64 and safe at small times: series where the closed forms cancel.

    Arguments:
        friction: gamma > 0, per time.
        mass: M > 0.
        time: t >= 0.
    """
    t = time.double()
    eta = friction * t
    decay = torch.exp(-eta)
    first = -torch.expm1(-eta) / friction
    # eta - 1 + e^-eta, and 2 eta - 3 + 4 e^-eta - e^-2eta less what y carries, Cov^2/Var p: both start at a higher power of eta
    second = _safe(eta, 2, [(-1.0) ** k / factorial(k) for k in range(2, TERMS)], lambda e: e + torch.expm1(-e))
    third = _safe(eta, 3, [(4.0 * (-1) ** k - (-2.0) ** k) / factorial(k) for k in range(3, TERMS)], _spread)
    variance_p = -torch.expm1(-2.0 * eta) * mass
    stir = torch.sqrt(variance_p)
    along = torch.where(stir > 0, friction * first**2 / stir.clamp(min=1e-300), torch.zeros_like(stir))
    across = torch.sqrt((third / (mass * friction**2) - along**2).clamp(min=0.0))
    return Flight(decay, first, second / friction**2, stir, along, across)


def _spread(eta: torch.Tensor) -> torch.Tensor:
    return 2.0 * eta - 3.0 + 4.0 * torch.exp(-eta) - torch.exp(-2.0 * eta)


def _safe(eta: torch.Tensor, power: int, coefficients: list[float], closed: object) -> torch.Tensor:
    """The closed form, and below `SMALL` its series ``eta^power (c_0 + c_1 eta + ...)``."""
    small = eta.clamp(max=SMALL)
    series = torch.zeros_like(eta)
    for c in reversed(coefficients):
        series = series * small + c
    return torch.where(eta < SMALL, series * small**power, closed(eta))  # type: ignore[operator]


@lru_cache(maxsize=256)
def over(friction: float, mass: float, time: float) -> tuple[float, ...]:
    """The same for one time, as numbers in the order of `Flight`."""
    return tuple(float(c) for c in flight(friction, mass, torch.tensor(time, dtype=torch.float64)))
