"""Functional inequalities that give a constant on the safe side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import scipy  # its parts are loaded where they are used
import torch

from ..errors import Unsupported
from .base import Constant, Constants, Target


def holley_stroock(target: Target, centre: float) -> Constant:
    """A lower bound for the log-Sobolev constant of a symmetric 1-D target, by Holley-Stroock.

    On the right half let ``U' = c (x - centre)`` up to the last point x* where V' is below that, ``U' = V'`` beyond, and U
    symmetric: U is c-strongly convex if V'' >= c beyond x*, and U - V is constant there, so the constant is at least
    ``c exp(-osc(U - V))``. The best c is searched; every candidate is a valid bound, with V' and V'' >= c read off a
    fine mesh, the crossing rounded outwards and the sum's error added to the oscillation.

    References: Holley, Stroock, "Logarithmic Sobolev inequalities and stochastic Ising models" (1987),
        https://doi.org/10.1007/BF01011161
    """
    _, hi = target.extent()
    x = np.linspace(0.0, float(hi[0]) - centre, 40001)
    slope = -target.score(torch.as_tensor(x[:, None] + centre)).numpy()[:, 0]
    dx = x[1] - x[0]

    def log_bound(c: float) -> float:
        below = np.flatnonzero(slope[1:] < c * x[1:])
        last = int(below[-1]) + 2 if len(below) else 0
        if last >= len(x) - 1 or np.any(np.diff(slope[last:]) < c * dx * (1 - 1e-9)):
            return -np.inf
        excess = c * x[: last + 1] - slope[: last + 1]
        difference = np.concatenate([[0.0], np.cumsum(excess) * dx])
        return float(np.log(c) - np.ptp(difference) - np.abs(excess).max() * dx)

    top = float(np.diff(slope).max() / dx)
    best = scipy.optimize.minimize_scalar(lambda c: -max(log_bound(c), -1e3), bounds=(1e-6 * top, top), method="bounded")
    grid = np.geomspace(1e-4 * top, top, 400)
    c = max([float(best.x), *map(float, grid)], key=log_bound)
    if not np.exp(log_bound(c)) > 0:  # 0 would say that there is no inequality
        raise Unsupported(f"the log-Sobolev bound of {target.name} lies below the smallest number")
    return Constant(float(np.exp(log_bound(c))), "bound", f"Holley-Stroock with a {c:.3g}-convex comparison potential")


def muckenhoupt(target: Target) -> Constant:
    """A lower bound for the log-Sobolev constant of any smooth 1-D target that has one, by the criterion of Bobkov and Goetze.

    With mu the density p, its median m and ``B+ = sup_{x > m} mu([x, inf)) log(1 + e^2 / mu([x, inf))) int_m^x 1/p``, B-
    likewise on the left, ``Ent f^2 <= 4 max(B+, B-) E f'^2``: the constant is at least ``1 / (2 max(B+, B-))``. Both
    integrals by sums over a fine mesh, rounded up to whole cells.

    Errors: `Unsupported` where the supremum is still growing at the end of the box: the tails are too heavy.

    References: Barthe, Roberto, "Sobolev inequalities for probability measures on the real line" (2003), Theorem 3,
        https://doi.org/10.4064/sm159-3-9
    """
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        upper, _ = log_sobolev_bracket(target)
    if not np.isfinite(upper):
        raise Unsupported(f"the log-Sobolev bound of {target.name} lies below the smallest number")
    return Constant(1.0 / (2.0 * upper), "bound", "Muckenhoupt-type criterion on the line")


def log_sobolev_bracket(target: Target) -> tuple[float, float]:
    """(max B, max b) of `muckenhoupt`: the best C in ``Ent f^2 <= C E f'^2`` lies between b and 4 B, b with
    ``log(1 + 1 / (2 mu([x, inf))))`` in place of the logarithm of B.

    Errors: `Unsupported` where B is still growing at the end of the box.
    """
    lo, hi = (float(end[0]) for end in target.extent())
    x = np.linspace(lo, hi, 200_001)
    v = target.potential(torch.as_tensor(x[:, None])).numpy()
    p = np.exp(v.min() - v)
    if abs(2 * p[::2].sum() / p.sum() - 1) > 1e-6:
        raise Unsupported(f"{target.name} has features that 200,000 nodes do not resolve")
    left, right = np.cumsum(p), np.cumsum(p[::-1])[::-1]
    total, dx = left[-1], x[1] - x[0]
    median = int(np.searchsorted(left, total / 2))
    large, small = [], []
    for tail, density in ((right[median:], p[median:]), (left[median::-1], p[median::-1])):
        share, resistance = tail / total, np.cumsum(1.0 / density) * dx * total * dx
        curve = share * np.log1p(np.e**2 / share) * resistance
        seen = int(np.searchsorted(-share, -1e-15))  # beyond, the box cuts the tail
        if int(np.argmax(curve[:seen])) > 0.98 * seen:
            raise Unsupported(f"{target.name}: the criterion for a log-Sobolev inequality is still growing at the end of the box")
        large.append(float(curve[:seen].max()))
        small.append(float((share * np.log1p(0.5 / share) * (resistance - resistance[0]))[:seen].max()))
    return max(large), max(small)


def tensorised(factors: Sequence[Target]) -> Constants:
    """Constants of a product: the smallest m, lsi and poincare of the factors, the largest M; where all declare one.

    References: Bakry, Gentil, Ledoux, "Analysis and Geometry of Markov Diffusion Operators" (2014), Propositions 4.3.1 and
        5.2.7, https://doi.org/10.1007/978-3-319-00227-9
    """
    distinct = tuple(dict.fromkeys(factors))
    return Constants(**{name: partial(_extreme, distinct, name) for name in ("m", "M", "lsi", "poincare")})


def _extreme(factors: tuple[Target, ...], name: str) -> Constant:
    found = [factor.constants.get(name) for factor in factors]
    known = [constant for constant in found if constant is not None]
    if len(known) < len(found):
        raise Unsupported(f"{name} is not known for every factor")
    pick = max if name == "M" else min
    extreme = pick(known, key=lambda constant: constant.value)
    return extreme if len(factors) == 1 else Constant(extreme.value, extreme.how, f"{'largest' if name == 'M' else 'smallest'} factor: {extreme.why}")
