"""Optimal scaling: how the best step of a Metropolis sampler shrinks with the dimension, and how often it is accepted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from scipy import special

from ..errors import InvalidInput, Unsupported
from ..laws.particles import Particles
from ..metrics.base import Estimate
from ..samplers.base import Sampler
from ..samplers.hmc import HMC
from ..samplers.mala import MALA
from ..samplers.metropolis import Metropolis
from ..samplers.noise import Stream
from ..samplers.random_walk import RandomWalk
from ..targets.base import Batch, Target
from . import optimal_scaling as exact
from .base import Case, Identity, Rate, Source
from .verdict import Row

#: Groups of particles that the jackknife leaves out in turn.
GROUPS = 50

#: The maximum is that of a polynomial through the log gain within this distance, in the logarithm of the step: of degree 4
#: it is off by at most 0.3 % on the exact curves, a cubic by 2 to 4 % (and the acceptance of MALA by 0.01 to 0.02).
WINDOW, DEGREE = 0.5, 4

#: Level of the intervals that enter a fit, and of those that a row of an identity is judged by: there are tens of rows.
FIT, ROW = 0.99, 1 - 1e-6


class Optimum(NamedTuple):
    """The step that jumps farthest for its cost, and the fraction of its proposals that is accepted, with intervals."""

    step: Estimate
    acceptance: Estimate


class Family(NamedTuple):
    """One sampler over its steps.

    exponent, power: of the best step in d; of s in the limiting gain (`optimal_scaling.limit_acceptance`).
    order: the finite-d terms are of order ``d^-order``.
    """

    name: str
    exponent: float
    power: float
    order: float


RWM, LANGEVIN, HAMILTON = (
    Family("random_walk", -1.0, 2.0, 1.0),
    Family("mala", -1 / 3, 2 / 3, 1 / 3),
    Family("hmc", -1 / 4, 1 / 2, 1 / 2),
)


def at_step(sampler: Sampler, log_step: float) -> tuple[Sampler, float]:
    """The sampler at another step, and its cost: random walk by proposal variance, MALA by h, HMC by eps at the trajectory
    length of `sampler` (so that only ``eps = T / L`` occur, and a step costs L)."""
    step = float(np.exp(log_step))
    if isinstance(sampler, RandomWalk):
        return RandomWalk(step**0.5), 1.0
    if isinstance(sampler, MALA):
        return MALA(step), 1.0
    leaps = max(1, round(sampler.time_step / step))
    return HMC(sampler.time_step / leaps, leaps), float(leaps)


def gains(target: Target, sampler: Sampler, x: Batch, noise: Stream) -> tuple[float, float]:
    """Sums over the rows of x of ``a |y - x|^2`` and of a, y proposed from x and a the probability that it is taken: the
    expectation over accept or reject is exact. Every step draws the same normals."""
    here = sampler.init(target, x, noise)
    if isinstance(sampler, HMC):
        there, ratio = sampler.propose(target, here, noise.normal(tuple(x.shape)))
    elif isinstance(sampler, Metropolis):
        there = sampler.evaluate(target, sampler.draw(here, noise))
        ratio = sampler.ratio(here, there)
    else:
        raise Unsupported(f"optimal scaling needs a proposal with an acceptance ratio, got {sampler.name}")
    a = torch.exp(ratio.clamp(max=0.0)).nan_to_num(0.0)
    away = there.x - x
    return float(torch.where(a > 0, a * (away * away).sum(1), 0.0).sum()), float(a.sum())


def _log_steps(sampler: Sampler, lo: float, hi: float, count: int) -> np.ndarray:
    """Logarithms of the steps to try between two of them; for HMC those at which the trajectory has a whole number of leaps."""
    if isinstance(sampler, HMC):
        length = sampler.time_step
        leaps = np.arange(max(1, np.ceil(length * np.exp(-hi))), np.floor(length * np.exp(-lo)) + 1)
        chosen = leaps if len(leaps) <= 2 * count else np.unique(np.round(np.geomspace(leaps[0], leaps[-1], 2 * count)))
        return np.asarray(np.log(length / chosen)[::-1])
    return np.linspace(lo, hi, count)


def optimum(case: Case, level: float = FIT) -> Optimum:
    """From exact draws of the target, one proposal at each of a range of steps; a rough search, then a polynomial fit. Intervals
    by the jackknife over groups of particles, with Student's quantile."""
    log_step, share, errors, _ = _search(case)
    reach = errors * float(special.stdtrit(GROUPS - 1, (1 + level) / 2))
    return Optimum(
        Estimate(np.exp(log_step), np.exp(log_step - reach[0]), np.exp(log_step + reach[0])),
        Estimate(share, max(0.0, share - reach[1]), min(1.0, share + reach[1])),
    )


@lru_cache(maxsize=1)  # several theorems ask for one case in turn
def _search(case: Case) -> tuple[float, float, np.ndarray, float]:
    """(log of the best step, its acceptance, standard errors of both, log of the step in the middle of the fit)."""
    assert isinstance(case.start, Particles)
    target, n, seed = case.target, case.start.n // GROUPS, case.start.seed
    draws = Stream(seed, "optimal scaling start", target.id)

    def curve(log_steps: np.ndarray, groups: int) -> np.ndarray:
        """(2, groups, steps): gain per cost and acceptance, summed over each group."""
        found = np.empty((2, groups, len(log_steps)))
        for g in range(groups):
            x = target.sample(n, draws.at(g))
            for i, u in enumerate(log_steps):
                sampler, cost = at_step(case.sampler, float(u))
                gain, accepted = gains(target, sampler, x, Stream(seed, "optimal scaling", target.id, g))
                found[:, g, i] = gain / cost, accepted
        return found

    # a step of the scale of the target is too long in every dimension; e^-9 and e^-3 of it are the best ones at d = 10^4
    variance = float(np.log(float(target.moments[1][0, 0])))  # type: ignore[index]
    lo, hi = (variance / 2 - 3.0, variance / 2 + 0.6) if isinstance(case.sampler, HMC) else (variance - 9.0, variance + 2.0)
    rough = _log_steps(case.sampler, lo, hi, 18)
    if len(rough) < 4:
        raise InvalidInput(f"the trajectory of {case.sampler.name} must hold at least 4 stable leaps, got time {case.sampler.time_step:.3g}")
    centre = float(rough[int(np.argmax(curve(rough, GROUPS // 5)[0].sum(0)))])
    fine = _log_steps(case.sampler, centre - WINDOW, centre + WINDOW, 9)
    sums = curve(fine, GROUPS)
    whole = _peak(fine - centre, *sums.sum(1))
    parts = np.array([_peak(fine - centre, *(sums.sum(1) - sums[:, g])) for g in range(GROUPS)])
    errors = np.sqrt((GROUPS - 1) / GROUPS * ((parts - parts.mean(0)) ** 2).sum(0))
    # the acceptances are sums over all particles, and over all but a group
    return float(centre + whole[0]), float(whole[1]) / (n * GROUPS), errors / np.array([1.0, n * (GROUPS - 1)]), centre


def _peak(u: np.ndarray, gain: np.ndarray, accepted: np.ndarray) -> tuple[float, float]:
    """(where the polynomial through log gain is largest, the one through the acceptance there)."""
    degree = min(DEGREE, len(u) - 1)
    slope = np.polyder(np.polyfit(u, np.log(np.maximum(gain, 1e-300)), degree))
    roots = np.roots(slope)
    real = roots[np.abs(roots.imag) < 1e-9].real
    tops = real[np.polyval(np.polyder(slope), real) < 0]
    if len(tops) == 0 or np.abs(tops).min() > 2 * WINDOW:
        raise Unsupported("the expected squared jump has no maximum among the steps tried: use more particles")
    top = float(tops[np.argmin(np.abs(tops))])
    return top, float(np.polyval(np.polyfit(u, accepted, degree), top))


def _unmet(case: Case, family: Family) -> list[str]:
    found = [] if case.sampler.name == family.name else [f"speaks of {family.name}, not of {case.sampler.name}"]
    moments = case.target.moments
    if not case.target.is_gaussian or moments is None or not bool((moments[1] == moments[1][0, 0] * torch.eye(case.dim)).all()):
        found.append(f"a product of equal densities: {case.target.name} is not known to be one")
    if isinstance(case.start, Particles) and case.start.n < 4 * GROUPS:
        found.append(f"at least {4 * GROUPS} particles, got {case.start.n}")
    return found


ROBERTS_ROSENTHAL = Source(
    "Optimal scaling for various Metropolis-Hastings algorithms",
    "Roberts, Rosenthal",
    2001,
    "sections 2.2 and 3.1",
    "https://doi.org/10.1214/ss/1015346320",
)


class _Scaling(Rate):
    """The step that maximises the expected squared jump per cost, against d, with finite-d terms of a known order."""

    family: ClassVar[Family]
    instruments: ClassVar[str] = "P"
    abscissa: ClassVar[str] = "dimension d"

    def hypotheses(self, case: Case) -> list[str]:
        return _unmet(case, self.family)

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        return [(float(case.dim), optimum(case).step)]


@dataclass(frozen=True)
class RateScalingRandomWalk(_Scaling):
    """Random-walk Metropolis: the best proposal variance ``sigma^2 ~ d^-1``."""

    id: ClassVar[str] = "rate-scaling-rwm"
    statement: ClassVar[str] = "best proposal variance sigma^2 ~ d^(-1)"
    source: ClassVar = Source(
        "Weak convergence and optimal scaling of random walk Metropolis algorithms",
        "Roberts, Gelman, Gilks",
        1997,
        "Theorem 1.1 and Corollary 1.2",
        "https://doi.org/10.1214/aoap/1034625254",
    )
    samplers: ClassVar[tuple[str, ...]] = ("random_walk",)
    quantity: ClassVar[str] = "best proposal variance"
    family: ClassVar[Family] = RWM
    stated: ClassVar[float] = RWM.exponent
    correction: ClassVar[float | None] = RWM.order


@dataclass(frozen=True)
class RateScalingMALA(_Scaling):
    """MALA: the best step size ``h ~ d^(-1/3)``."""

    id: ClassVar[str] = "rate-scaling-mala"
    statement: ClassVar[str] = "best step size h ~ d^(-1/3)"
    source: ClassVar = Source(
        "Optimal scaling of discrete approximations to Langevin diffusions",
        "Roberts, Rosenthal",
        1998,
        "Theorems 1 and 2",
        "https://doi.org/10.1111/1467-9868.00123",
    )
    samplers: ClassVar[tuple[str, ...]] = ("mala",)
    quantity: ClassVar[str] = "best step size"
    family: ClassVar[Family] = LANGEVIN
    stated: ClassVar[float] = LANGEVIN.exponent
    correction: ClassVar[float | None] = LANGEVIN.order


BESKOS = Source(
    "Optimal tuning of the hybrid Monte Carlo algorithm",
    "Beskos, Pillai, Roberts, Sanz-Serna, Stuart",
    2013,
    "Theorems 3.6 and 4.1",
    "https://doi.org/10.3150/12-BEJ414",
)


@dataclass(frozen=True)
class RateScalingHMC(_Scaling):
    """HMC at a fixed trajectory length: the best leapfrog step ``eps ~ d^(-1/4)``, a step costing as many leaps as it has."""

    id: ClassVar[str] = "rate-scaling-hmc"
    statement: ClassVar[str] = "best leapfrog step eps ~ d^(-1/4) at a fixed trajectory length"
    source: ClassVar = BESKOS
    samplers: ClassVar[tuple[str, ...]] = ("hmc",)
    quantity: ClassVar[str] = "best leapfrog step"
    family: ClassVar[Family] = HAMILTON
    stated: ClassVar[float] = HAMILTON.exponent
    correction: ClassVar[float | None] = HAMILTON.order


#: Dimension at which the exact acceptance of the best step is compared with its limit.
LARGE = 10**6


@dataclass(frozen=True)
class ScalingAcceptance(Identity):
    """At the best step the acceptance tends to 0.234 (random walk), 0.574 (MALA), 0.651 (HMC) as d tends to infinity.

    On isotropic Gaussians acceptance and jump are integrals (`theory/optimal_scaling.py`). Three rows: the best step and
    its acceptance as measured with the sampler's own proposals against those of the integrals at the same d; and the
    integrals' acceptance at d = 10^6 against the limit, within ``d^-order``, the size of the finite-d terms (for HMC the
    integrals take any number of leaps, whole or not).
    """

    id: ClassVar[str] = "scaling-acceptance"
    statement: ClassVar[str] = "acceptance at the best step -> 0.234 (random walk), 0.574 (MALA), 0.651 (HMC)"
    source: ClassVar = Source(
        ROBERTS_ROSENTHAL.title, ROBERTS_ROSENTHAL.authors, 2001, ROBERTS_ROSENTHAL.where, ROBERTS_ROSENTHAL.link, "Beskos et al. (2013), Theorem 4.1"
    )
    samplers: ClassVar[tuple[str, ...]] = ("random_walk", "mala", "hmc")
    instruments: ClassVar[str] = "P"
    useless: ClassVar[float] = 0.15  # a step known to within 15 % tells the control's factor from 1

    def hypotheses(self, case: Case) -> list[str]:
        return _unmet(case, self._family(case))

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        family, found = self._family(case), optimum(case, ROW)
        variance = float(case.target.moments[1][0, 0])  # type: ignore[index]
        unit = variance**0.5 if family is HAMILTON else variance
        step, acceptance = exact_optimum(case.sampler, case.dim, unit, _search(case)[3])
        limit = limit_of(case.sampler, unit)
        stated = exact.limit_acceptance(family.power)
        name = family.name.replace("_", " ")
        return [
            Row.of(found.step, factor * step, label=f"{name}: best step; d = {case.dim}"),
            Row.of(found.acceptance, factor * acceptance, label=f"{name}: acceptance; d = {case.dim}"),
            Row.of(Estimate(limit, limit, limit), factor * stated, label=f"{name}: limit", tolerance=float(LARGE) ** -family.order + 1e-4),
        ]

    @staticmethod
    def _family(case: Case) -> Family:
        return next((f for f in (RWM, LANGEVIN, HAMILTON) if f.name == case.sampler.name), RWM)


@cache
def exact_optimum(sampler: Sampler, d: int, unit: float, centre: float) -> tuple[float, float]:
    """(best step, its acceptance) on N(0, I_d), the step in units of `unit`: the integrals at the steps that the measurement
    tries about log step = `centre`, through the same polynomial."""
    log_steps = _log_steps(sampler, centre - WINDOW, centre + WINDOW, 9)
    found = np.array([_exact(sampler, d, float(np.exp(u)) / unit, unit) for u in log_steps])
    top, acceptance = _peak(log_steps - centre, found[:, 1], found[:, 0])
    return float(np.exp(centre + top)), acceptance


def _exact(sampler: Sampler, d: int, step: float, unit: float) -> tuple[float, float]:
    """(acceptance, gain per cost) on N(0, I_d) at one step."""
    if isinstance(sampler, RandomWalk):
        return exact.random_walk(step, d)
    if isinstance(sampler, MALA):
        return exact.mala(step, d)
    leaps = round(sampler.time_step / unit / step)
    acceptance, jump = exact.hmc(step, d, leaps)
    return acceptance, jump / leaps


@cache
def limit_of(sampler: Sampler, unit: float = 1.0) -> float:
    """The acceptance at the best step in dimension 10^6, by quadrature; HMC over leaps of any length, whole or not."""
    if isinstance(sampler, RandomWalk):
        return exact.best(lambda v: exact.random_walk(v, LARGE), 5.7 / LARGE)[1]
    if isinstance(sampler, MALA):
        return exact.best(lambda h: exact.mala(h, LARGE), 1.4 * LARGE ** (-1 / 3))[1]
    length = sampler.time_step / unit

    def per_time(eps: float) -> tuple[float, float]:
        acceptance, jump = exact.hmc(eps, LARGE, length / eps)
        return acceptance, jump * eps

    return exact.best(per_time, LARGE**-0.25)[1]
