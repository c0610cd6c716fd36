"""Reverse diffusion Monte Carlo: a reverse diffusion whose score is estimated on the way, from the potential alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, final

import torch

from ..errors import Diverged, InvalidInput, Unsupported
from ..targets.base import Batch, Target, Values
from .base import State, positive
from .diffusion.estimators import COLD, INNER, Plan, lowest_potential, score_of
from .diffusion.forward import VP, ou
from .diffusion.posterior import Posterior
from .diffusion.reverse import admit_run, admit_score, backward_times, whole
from .noise import Noise, Probe, Stream
from .scheduled import Scheduled

IDENTITIES = ("tweedie", "target", "both")
#: Numbers per array of inner points: those of a block of particles stay in the second-level cache.
BLOCK_NUMBERS = 65536


class Warm(NamedTuple):
    """Positions, and the points at which each particle's inner chains ended, (n, d chains); NaN before there are any."""

    x: Batch
    chains: Batch


class Look(NamedTuple):
    """An estimated score: the score (n, d), where the chains ended, and how the inner sampler fared, per particle."""

    score: Batch
    chains: Batch | None
    ess: Values
    acceptance: Values | None


@dataclass(frozen=True)
class RDMC(Scheduled):
    """Reverse diffusion Monte Carlo (RDMC) from the horizon T back to 0: with ``a = e^-t``, ``v = 1 - e^-2t`` and a step h,

    ``x' = e^h x + 2 (e^h - 1) S(x, t) + sqrt(e^(2h) - 1) xi``, where S estimates, from points of
    ``q_t(x_0 | x) ~ exp(-V(x_0) - |x - a x_0|^2/(2 v))``, the score ``grad log p_t(x) = E_q (a x_0 - x)/v``.

    The potential is all it needs to know. Algorithm 1 is also found without the factor 2: N(0, 1) then comes out with the variance 1 + 2 T.
    Inner samplers:

    importance: N(x/a, v/a^2 I) with weights exp(-V), normalised.
    ula, mala: Langevin chains of step ``inner_step/(M + a^2/v)``, or ``inner_step v`` where the target declares no M, started
        `cold`, or where they ended a step before (`warm`).
    rejection: N(x/a, v/a^2 I) accepted with probability ``exp(lowest - V)``, in `inner_steps` rounds.
    exact: the target's closed-form draw (Gaussians and mixtures). oracle: no points, the score itself.

    With oracle it is `reverse_exponential`. On a Gaussian target oracle, exact and a cold ula are affine in (x, noise): their law
    is exact. Starved inner samplers end the run. A run that is taken up again starts its inner chains cold.

    Cost: per particle and step, n = inner_chains and k = inner_steps: importance n potentials; ula n k scores; mala n (k + 1) scores and
    potentials; rejection n k potentials; exact none. Identities other than tweedie: n scores more, but none more after mala. A cold
    start by importance: n potentials more.

    Arguments:
        steps: N >= 1. horizon: T > 0. stop, spacing: as in `Reverse`.
        inner: ``importance``, ``ula``, ``mala``, ``rejection``, ``exact`` or ``oracle``.
        inner_chains: n >= 1, points per particle.
        inner_steps: k >= 1, steps of the inner chains, or rounds of rejection.
        inner_step: their step size, positive, in units of the posterior's time scale.
        warm: whether inner chains go on from where they ended.
        cold: where chains start that do not: ``kernel`` at draws of N(x/a, v/a^2 I), far out where t is large; ``normal`` of N(a x, v I), the
            posterior of a target N(0, I), for targets about as wide; ``importance`` of the former, resampled by their weights exp(-V).
        identity: ``tweedie``, ``target`` or ``both`` (`estimators.py`; both needs inner_chains > d + 1).
        initial_steps: n >= 0, Langevin steps on p_T with the estimated score, before the reverse diffusion.
        initial_step: their step size.
        least_ess: least effective number of points that every particle must have (importance, rejection), at most inner_chains.
        least_acceptance: least share of accepted proposals that every particle must have (mala).
        lowest: a lower bound of V, for rejection; None: found for mixtures and where m > 0.

    Errors: `InvalidInput` for what is out of range; `Unsupported` for a route that the target does not have; `Diverged` for starved
        inner samplers.

    References: Huang, Dong, Hao, Ma, Zhang, "Reverse diffusion Monte Carlo" (2024), Lemma 1 and Algorithm 1,
        https://arxiv.org/abs/2307.02037; He, Rojas, Tao, "Zeroth-order sampling methods for non-log-concave distributions: alleviating
        metastability by denoising diffusion" (2024), https://arxiv.org/abs/2402.17886 (rejection); De Bortoli, Hutchinson, Wirnsberger,
        Doucet, "Target score matching" (2024), https://arxiv.org/abs/2402.08667 (target); Mira, Solgi, Imparato, "Zero variance Markov
        chain Monte Carlo for Bayesian estimators" (2013), https://doi.org/10.1007/s11222-012-9344-6 (both)
    """

    steps: int
    horizon: float
    inner: str = "ula"
    inner_chains: int = 128
    inner_steps: int = 20
    inner_step: float = 0.5
    warm: bool = False
    cold: str = "kernel"
    identity: str = "tweedie"
    stop: float = 0.0
    spacing: str = "uniform"
    initial_steps: int = 0
    initial_step: float = 0.1
    least_ess: float = 5.0
    least_acceptance: float = 0.05
    lowest: float | None = None

    bias_order: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        admit_run(self.steps, self.horizon, self.stop, self.spacing)
        if self.inner not in (*INNER, "oracle"):
            raise InvalidInput(f"inner must be one of {', '.join([*INNER, 'oracle'])}, got {self.inner!r}")
        if self.identity not in IDENTITIES:
            raise InvalidInput(f"identity must be one of {', '.join(IDENTITIES)}, got {self.identity!r}")
        if self.cold not in COLD:
            raise InvalidInput(f"cold must be one of {', '.join(COLD)}, got {self.cold!r}")
        for name, least in (("inner_chains", 1), ("inner_steps", 1), ("initial_steps", 0)):
            whole(getattr(self, name), name, least)
        positive(self.inner_step, "inner_step")
        positive(self.initial_step, "initial_step")
        if self.warm and self.inner not in ("ula", "mala"):
            raise InvalidInput(f"warm must be false where inner is {self.inner}: there are no chains that could go on")
        if not 0 <= self.least_ess <= self.inner_chains and self.inner in ("importance", "rejection"):
            raise InvalidInput(f"least_ess must be in [0, inner_chains = {self.inner_chains}], got {self.least_ess}")
        if not 0 <= self.least_acceptance <= 1:
            raise InvalidInput(f"least_acceptance must be in [0, 1], got {self.least_acceptance}")

    @property
    def score_evaluations(self) -> float:  # type: ignore[override]  # it depends on hyperparameters
        """Scores per particle and step."""
        n, k = self.inner_chains, self.inner_steps
        points = {"oracle": 1, "ula": n * k, "mala": n * (k + 1)}.get(self.inner, 0)
        return float(points + (n if self.identity != "tweedie" and self.inner not in ("oracle", "mala") else 0))

    @property
    def potential_evaluations(self) -> float:  # type: ignore[override]  # it depends on hyperparameters
        """Potentials per particle and step; warm chains are cold once, which does not count here."""
        n, k = self.inner_chains, self.inner_steps
        resampled = n if self.inner in ("ula", "mala") and self.cold == "importance" and not self.warm else 0
        return float({"importance": n, "rejection": n * k, "mala": n * (k + 1)}.get(self.inner, 0) + resampled)

    @cached_property
    def forward(self) -> VP:
        """The Ornstein-Uhlenbeck process ``dx = -x dt + sqrt(2) dB``."""
        return ou(self.horizon)

    @cached_property
    def times(self) -> tuple[float, ...]:
        """``T = t_0 > t_1 > ... > t_N = stop``; the initial Langevin steps stay at T."""
        return (self.horizon,) * self.initial_steps + backward_times(self.steps, self.horizon, self.stop, self.spacing)

    @property
    @final
    def length(self) -> int:
        return self.initial_steps + self.steps

    def origin(self, target: Target) -> Target:
        return self.forward.noised(target, self.horizon)

    def check(self, target: Target) -> None:
        if self.inner == "oracle":
            admit_score("oracle", target)
        if self.inner == "exact" and "restricted_gaussian" not in target.capabilities:
            raise Unsupported(f"inner must not be exact on {target.name}: it has no closed-form restricted Gaussian draw")
        if self.inner == "rejection" and self.lowest is None:
            lowest_potential(target)
        if self.identity == "both" and self.inner_chains <= target.dim + 1:
            raise InvalidInput(f"inner_chains must be above d + 1 = {target.dim + 1} for identity both, got {self.inner_chains}")

    def init(self, target: Target, x: Batch, noise: Noise) -> Any:
        return Warm(x, x.new_full((len(x), self.inner_chains * target.dim), math.nan)) if self.warm else State(x)

    def advance(self, k: int, target: Target, state: Any, noise: Noise) -> Any:
        x, chains = state.x, state.chains if self.warm else None
        if self.warm and isinstance(noise, Probe):
            raise Unsupported("rdmc with warm inner chains keeps more than a position, and has no exact law: use particles")
        size = max(1, BLOCK_NUMBERS // (self.inner_chains * target.dim))
        parts = noise.blocks(len(x), size) if isinstance(noise, Stream) and self.inner != "oracle" else [(slice(None), noise)]
        moved, looks = [], []
        for rows, source in parts:
            look = self.look(target, k, x[rows], source, None if chains is None else chains[rows])
            moved.append(self._move(k, x[rows], look.score, source))
            looks.append(look)
        self._admit(k, looks)
        ends = [look.chains for look in looks if look.chains is not None]
        return Warm(torch.cat(moved), torch.cat(ends)) if self.warm else State(torch.cat(moved))

    def _move(self, k: int, x: Batch, score: Batch, noise: Noise) -> Batch:
        xi, p = noise.normal(tuple(x.shape)), self.forward
        if k < self.initial_steps:
            return x + self.initial_step * score + (2 * self.initial_step) ** 0.5 * xi
        t, s = self.times[k], self.times[k + 1]
        return p.scale(s) / p.scale(t) * x + p.push(s, t) * score + p.back(s, t) ** 0.5 * xi

    def look(self, target: Target, k: int, x: Batch, noise: Noise, chains: Batch | None = None) -> Look:
        """The score at x that the step after k steps uses, with what is known of how it was found; a step refuses one that is starved."""
        if self.inner == "oracle":
            found = self.forward.noised(target, self.times[k]).score(x)
            return Look(found, None, x.new_full((len(x),), math.inf), None)
        q = self.posterior(target, k, x)
        start = None if chains is None or bool(torch.isnan(chains).all()) else chains.T.reshape(q.dim, -1).T
        draws = INNER[self.inner](q, self.plan(q, start), noise)
        ends = draws.y.T.reshape(-1, len(x)).T if self.warm else None
        return Look(score_of(q, draws, self.identity), ends, draws.ess, draws.acceptance)

    def posterior(self, target: Target, k: int, x: Batch) -> Posterior:
        """The inner problem of the step after k steps."""
        return Posterior(target, x, *self.forward.kernel(self.times[k]), self.inner_chains)

    def plan(self, q: Posterior, start: Batch | None = None) -> Plan:
        """How it is to be drawn from."""
        big = q.constants.get("M")
        h = self.inner_step * q.variance if big is None else self.inner_step / big.value
        lowest = math.nan if self.inner != "rejection" else lowest_potential(q.prior) if self.lowest is None else self.lowest
        return Plan(self.inner_steps, h, lowest, start, self.cold)

    def _admit(self, k: int, looks: list[Look]) -> None:
        """Raise where a mean over the points says nothing. What is not finite goes on as such, and counts as diverged."""
        rates = [look.acceptance for look in looks if look.acceptance is not None]
        if self.inner in ("importance", "rejection"):
            found, least, what, remedy = torch.cat([look.ess for look in looks]), self.least_ess, "inner ESS", "raise inner_chains"
        elif rates:
            found, least, what, remedy = torch.cat(rates), self.least_acceptance, "inner acceptance", "lower inner_step"
        else:
            return
        starved = found < least
        if bool(starved.any()):
            share, t = float(starved.double().mean()), self.times[k]
            told = f"below {least:g} for {share:.2%} of the particles at t = {t:.4g}, median {float(found.median()):.3g}"
            raise Diverged(f"{what} too low: {told}; {remedy} or lower the horizon", k + 1, share)
