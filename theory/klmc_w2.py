"""Kinetic Langevin in W2: contraction of the diffusion, and of its exponential integrator to a ball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..laws.grid import Grid
from ..laws.normal import Normal
from ..laws.propagate import Law
from ..metrics.w2 import W2
from ..samplers.klmc import KLMC
from ..samplers.recipe import Constant
from ..samplers.recipe_sampler import HAMILTON, RecipeSampler
from .base import Bound, Case, needs
from .sources import dalalyan_riou_durand


def damping(case: Case) -> tuple[float, float] | None:
    """(gamma, mass) where the sampler is kinetic Langevin, else None."""
    sampler = case.sampler
    if isinstance(sampler, KLMC):
        return sampler.rate(case.target), sampler.mass
    if isinstance(sampler, RecipeSampler) and isinstance(sampler.recipe, Constant) and sampler.recipe.mass is not None:
        d, q = sampler.recipe.matrices
        if len(d) == 2 and d[0, 0] == d[0, 1] == 0.0 and np.array_equal(q, HAMILTON):
            return float(d[1, 1] / sampler.recipe.mass), sampler.recipe.mass
    return None


def _unmet(case: Case) -> list[str]:
    found = damping(case)
    if found is None:
        return [f"kinetic Langevin, D = diag(0, gamma mass) and Hamilton's Q, got {case.sampler.name} with other matrices"]
    unmet = needs(case, m="strongly log-concave", M="smooth")
    if unmet:
        return unmet
    gamma, mass = found
    limit = float(np.sqrt((case.constant("m") + case.constant("M")) / mass))
    if gamma < limit * (1 - 1e-12):
        unmet.append(f"friction at least sqrt((m + M)/mass) = {limit:.6g}, got {gamma:.6g}")
    momentum = case.sampler.momentum
    if momentum is None or momentum.start != momentum.mass or not _independent(case.start, mass):
        unmet.append("starts with an independent momentum of its invariant law N(0, mass I)")
    return unmet


def _independent(start: Law, mass: float) -> bool:
    """Whether the momentum is N(0, mass I), independent of the position; `init` draws that where the start has none."""
    if isinstance(start, Normal) and start.joint is not None:
        d, joint = start.dim, start.joint
        off = [joint.mean[d:], joint.cov[:d, d:], joint.cov[d:, d:] - mass * np.eye(d)]
        return bool(max(float(np.abs(part).max()) for part in off) <= 1e-12 * mass)
    if isinstance(start, Grid) and start.joint is not None:
        p = start.joint.mesh.axes[1]
        gaussian = np.exp(-0.5 * p * p / mass) / np.sqrt(2 * np.pi * mass)
        return bool(np.abs(start.joint.density.reshape(start.joint.mesh.shape) - np.outer(start.density, gaussian)).max() <= 1e-9)
    return True


@dataclass(frozen=True)
class KLMCW2Flow(Bound):
    """``W2(mu_t, pi) <= sqrt(2) exp(-m t/(gamma M_p)) W2(mu_0, pi)`` for positions, ``gamma >= sqrt((m + M)/M_p)``, M_p the mass.

    The source has M_p = 1; another mass is a change of the unit of time, ``t -> t/sqrt(M_p)``. The momentum starts as
    N(0, M_p I), independent of the position.
    """

    id: ClassVar[str] = "klmc-w2-flow"
    statement: ClassVar[str] = "W2(mu_t, pi) <= sqrt(2) exp(-m t/gamma) W2(mu_0, pi), gamma >= sqrt(m + M), mass 1"
    source: ClassVar = dalalyan_riou_durand("Theorem 1")
    samplers: ClassVar[tuple[str, ...]] = ("recipe_diffusion",)
    instruments: ClassVar[str] = "AC"
    metric: ClassVar = W2()

    def hypotheses(self, case: Case) -> list[str]:
        return _unmet(case)

    def bound(self, case: Case) -> np.ndarray:
        gamma, mass = damping(case) or (np.nan, np.nan)
        return np.asarray(np.sqrt(2.0) * np.exp(-case.constant("m") * case.t / (gamma * mass)) * case.initial(self.metric))


@dataclass(frozen=True)
class KLMCW2(Bound):
    """``W2(mu_k, pi) <= sqrt(2) (1 - 0.75 m h/gamma)^k W2(mu_0, pi) + M h sqrt(2 d)/m`` for positions, ``gamma >= sqrt(m + M)``,
    ``h <= m/(4 gamma M)``, mass 1 and p_0 ~ N(0, I) independent of x_0.

    With a mass M_p: gamma becomes ``gamma sqrt(M_p)`` and h becomes ``h/sqrt(M_p)``, a change of the unit of time.
    """

    id: ClassVar[str] = "klmc-w2"
    statement: ClassVar[str] = "W2(mu_k, pi) <= sqrt(2) (1 - 0.75 m h/gamma)^k W2(mu_0, pi) + M h sqrt(2 d)/m, mass 1"
    source: ClassVar = dalalyan_riou_durand("Theorem 2")
    samplers: ClassVar[tuple[str, ...]] = ("klmc",)
    instruments: ClassVar[str] = "AGP"
    metric: ClassVar = W2()

    def hypotheses(self, case: Case) -> list[str]:
        unmet = _unmet(case)
        if unmet:
            return unmet
        gamma, _ = damping(case) or (np.nan, np.nan)
        limit = case.constant("m") / (4 * gamma * case.constant("M"))
        return [] if case.h <= limit * (1 + 1e-12) else [f"step_size at most m/(4 gamma M) = {limit:.6g}, got {case.h:.6g}"]

    def bound(self, case: Case) -> np.ndarray:
        gamma, mass = damping(case) or (np.nan, np.nan)
        m, big, h = case.constant("m"), case.constant("M"), case.h
        shrink = np.sqrt(2.0) * (1 - 0.75 * m * h / (gamma * mass)) ** case.k * case.initial(self.metric)
        return np.asarray(shrink + big * h / np.sqrt(mass) * np.sqrt(2 * case.dim) / m)
