"""Metropolis adjusted Langevin trajectories: HMC whose trajectories are stirred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..targets.base import Batch, Target, Values
from .base import Sampler
from .flight import over
from .hmc import HMC
from .kinetic import admit_friction, friction_rate
from .metropolis import Point
from .noise import Noise


@dataclass(frozen=True)
class MALT(Sampler):
    """Fresh momenta, L steps of `obabo`, one accept or reject for the whole trajectory.

    ``p ~ N(0, M I)``, then L leapfrog steps (B A B) of time h with ``p = e^(-gamma h) p + sqrt(M (1 - e^(-2 gamma h))) xi`` between
    them (the half O that OBABO begins with leaves the fresh p its law, the one it ends with moves no x). The end x' is taken
    with probability ``min(1, e^(-Delta))``, else x stays; Delta is what the leapfrog steps do to the energy, summed, without what the
    O steps do: ``Delta = V(x') - V(x) + sum_i (|p_i'|^2 - |p_i|^2)/(2 M)``, p_i and p_i' before and after the i-th B A B.

    O is reversible under N(0, M I) and B A B keeps volume, so that ``e^(-Delta)`` is the ratio of the laws of the trajectory
    backwards and forwards: the target is invariant at every h, and since p is drawn afresh nothing need be flipped. As gamma
    falls to 0 it is HMC; with L = 1 it is MALA at ``h^2/(2 M)``.

    Cost: L scores and 1 potential per step; those of the start are carried.

    Arguments:
        step_size: h > 0, time of one leapfrog step; limited on a Gaussian target as in `hmc`.
        friction: gamma > 0, per time; or ``critical``, ``2 sqrt(m/M)`` for the target's m > 0.
        leapfrog_steps: L >= 1.
        mass: M > 0, variance of each momentum coordinate.

    References: Riou-Durand, Vogrinc, "Metropolis adjusted Langevin trajectories: a robust alternative to Hamiltonian Monte Carlo"
        (2022), section 2, https://arxiv.org/abs/2202.13230
    """

    step_size: float
    friction: float | str = "critical"
    leapfrog_steps: int = 10
    mass: float = 1.0

    potential_evaluations: ClassVar[float] = 1.0
    accepts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        admit_friction(self.friction)
        HMC(self.step_size, self.leapfrog_steps, self.mass)  # which says what is wrong with the rest

    @property
    def score_evaluations(self) -> float:  # type: ignore[override]  # it depends on a hyperparameter
        """Scores per particle and step."""
        return float(self.leapfrog_steps)

    @property
    def time_step(self) -> float:
        return self.step_size * self.leapfrog_steps

    def check(self, target: Target) -> None:
        friction_rate(self.friction, self.mass, target)
        HMC(self.step_size, self.leapfrog_steps, self.mass).check(target)

    def init(self, target: Target, x: Batch, noise: Noise) -> Point:
        return Point(x, *target.potential_and_score(x))

    def propose(self, target: Target, here: Point, noise: Noise) -> tuple[Point, Values]:
        """The end of a trajectory from `here`, and -Delta."""
        h, mass, shape = self.step_size, self.mass, tuple(here.x.shape)
        decay, _, _, stir, _, _ = over(friction_rate(self.friction, mass, target), mass, h)
        there, p = here, mass**0.5 * noise.normal(shape)
        fallen = torch.zeros_like(here.potential)  # kinetic energy lost in leapfrog steps
        for left in reversed(range(self.leapfrog_steps)):
            before = _energy(p, mass)
            p = p + 0.5 * h * there.score
            x = there.x + h / mass * p
            # potentials on the way cancel
            there = there._replace(x=x, score=target.score(x)) if left else Point(x, *target.potential_and_score(x))
            p = p + 0.5 * h * there.score
            fallen = fallen + before - _energy(p, mass)
            if left:
                p = decay * p + stir * noise.normal(shape)
        return there, here.potential - there.potential + fallen

    def step(self, target: Target, state: Point, noise: Noise) -> Point:
        there, log_ratio = self.propose(target, state, noise)
        # a trajectory that is not finite has a NaN for its ratio, and NaN compares as a rejection
        accept = torch.log(noise.uniform((len(state.x),))) < log_ratio
        rows = accept.unsqueeze(1)
        return Point(
            torch.where(rows, there.x, state.x),
            torch.where(accept, there.potential, state.potential),
            torch.where(rows, there.score, state.score),
        )


def _energy(p: Batch, mass: float) -> Values:
    return (p * p).sum(1) / (2.0 * mass)
