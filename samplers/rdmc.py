"""Reverse diffusion Monte Carlo: a reverse diffusion whose score is estimated on the way, from the potential alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, final

import torch

from ..errors import InvalidInput, Unsupported
from ..targets.base import Batch, Target
from .base import State, positive
from .diffusion.estimators import COLD, IDENTITIES, Draws, Look, Plan, Warm, block, joined, lowest_potential, refuse_starved, score_of
from .diffusion.forward import VP, ou
from .diffusion.inner_samplers import Chains, admit_inner, admit_name, drawn, known
from .diffusion.posterior import Posterior
from .diffusion.recursion import Estimated, level_of
from .diffusion.reverse import admit_run, admit_score, backward_times, whole
from .noise import Noise, Probe, Stream
from .scheduled import Scheduled

#: Numbers that a particle's noise has in one step.
NOISE = 2**32


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
    hmc, baoab, random_walk, ...: chains of any sampler that a step size suffices for, at its defaults; which, and their steps: `inner_samplers.py`.

    With oracle it is `reverse_exponential`. On a Gaussian target oracle, exact, and a cold ula or baoab are affine in (x, noise): their
    law is exact. Starved inner samplers end the run. A run that is taken up again starts its inner chains cold.

    Recursive (RS-DMC, `segments` > 1): [0, T] in equal pieces of length S; at ``t = j S + r``, 0 < r <= S, the points are those of x_(jS) given
    x_t, ``q(y) ~ p_(jS)(y) exp(-|x - e^-r y|^2/(2 (1 - e^-2r)))``, by ula with a score of p_(jS) that is estimated alike, down to p_0, the target.

    Cost: per particle and step, n = inner_chains and k = inner_steps: importance n potentials; ula n k scores; mala n (k + 1) scores and
    potentials; rejection n k potentials; exact none; other chains n k times what they declare and n times what starts them. Identities other
    than tweedie: n scores more, but none more after chains that carry theirs (mala, hmc, baoab). A cold start by importance: n potentials
    more. Where the numbers differ from step to step, the mean over the steps; in the segment j the (j + 1)-th power of what the first one
    costs. With a `budget` that, within 1 % (a cold start's potentials count as scores), and the pilot once (`budget.py`).

    Arguments:
        steps: N >= 1. horizon: T > 0. stop, spacing: as in `Reverse`.
        inner: ``importance``, ``ula``, ``mala``, ``rejection``, ``exact``, ``oracle``, or another sampler's name.
        inner_chains: n >= 1, points per particle; or a list, one number per step, the initial ones first.
        inner_steps: k >= 1, steps of the inner chains, or rounds of rejection; or a list.
        inner_step: their step size, positive, in units of the posterior's time scale; the square of it for momenta and random_walk.
        warm: whether inner chains go on from where they ended.
        cold: where chains start that do not: ``kernel`` at draws of N(x/a, v/a^2 I), far out where t is large; ``normal`` of N(a x, v I), the
            posterior of a target N(0, I), for targets about as wide; ``importance`` of the former, resampled by their weights exp(-V).
        identity: ``tweedie``, ``target`` or ``both`` (`estimators.py`; both needs inner_chains > d + 1).
        initial_steps: n >= 0, Langevin steps on p_T with the estimated score, before the reverse diffusion.
        initial_step: their step size.
        least_ess: least effective number of points of every particle (importance, rejection, cold starts by importance), at most inner_chains.
        least_acceptance: least share of accepted proposals that every particle must have (mala, other chains that accept or reject).
        lowest: a lower bound of V, for rejection; None: found for mixtures and where m > 0.
        segments: pieces of [0, T], at least 1; above 1 for ula (cold, but not by importance) and oracle.
        budget: evaluations per particle and step, on average over the steps; both numbers of the inner chains are then chosen for each
            step by a pilot run (ula and mala, cold). None: they are the given ones.

    Errors: `InvalidInput` for what is out of range; `Unsupported` for a route that the target does not have; `Diverged` where starved.

    References: Huang, Dong, Hao, Ma, Zhang, "Reverse diffusion Monte Carlo" (2024), Lemma 1 and Algorithm 1,
        https://arxiv.org/abs/2307.02037; Huang, Zou, Dong, Ma, Zhang, "Faster sampling without isoperimetry via diffusion-based Monte
        Carlo" (2024), https://arxiv.org/abs/2401.06325 (recursive); He, Rojas, Tao, "Zeroth-order sampling methods for non-log-concave
        distributions: alleviating metastability by denoising diffusion" (2024), https://arxiv.org/abs/2402.17886 (rejection); De Bortoli,
        Hutchinson, Wirnsberger, Doucet, "Target score matching" (2024), https://arxiv.org/abs/2402.08667 (target); Mira, Solgi, Imparato,
        "Zero variance Markov chain Monte Carlo for Bayesian estimators" (2013), https://doi.org/10.1007/s11222-012-9344-6 (both)
    """

    steps: int
    horizon: float
    inner: str = "ula"
    inner_chains: int | tuple[int, ...] = 128
    inner_steps: int | tuple[int, ...] = 20
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
    segments: int = 1
    budget: float | None = None

    bias_order: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        admit_run(self.steps, self.horizon, self.stop, self.spacing)
        admit_name(self.inner)
        for name, choices in (("identity", IDENTITIES), ("cold", COLD)):
            if getattr(self, name) not in choices:
                raise InvalidInput(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        whole(self.initial_steps, "initial_steps", 0)
        whole(self.segments, "segments")
        for name in ("inner_chains", "inner_steps"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != self.length:
                raise InvalidInput(f"{name} must be one number or {self.length}, one per step, got a list of {len(value)}")
            for number in value if isinstance(value, tuple) else (value,):
                whole(number, name)
        positive(self.inner_step, "inner_step")
        positive(self.initial_step, "initial_step")
        fewest = min(self._given(k)[0] for k in range(self.length))
        if not 0 <= self.least_ess <= fewest and self._weighted:
            raise InvalidInput(f"least_ess must be in [0, inner_chains = {fewest}], got {self.least_ess}")
        if not 0 <= self.least_acceptance <= 1:
            raise InvalidInput(f"least_acceptance must be in [0, 1], got {self.least_acceptance}")
        self._admit_options()

    def _admit_options(self) -> None:
        """Raise one line where options do not go together."""
        if self.warm and self._chains is None:
            raise InvalidInput(f"warm must be false where inner is {self.inner}: there are no chains that could go on")
        if self.warm and isinstance(self.inner_chains, tuple):
            raise InvalidInput("warm must be false where inner_chains is a list: chains that go on are as many at every step")
        positive(1.0 if self.budget is None else self.budget, "budget")
        for name, on, inners in (("segments", self.segments > 1, ("ula", "oracle")), ("budget", self.budget is not None, ("ula", "mala"))):
            if on and self.inner not in inners:
                raise InvalidInput(f"{name} must not be set where inner is {self.inner}, only where it is {' or '.join(inners)}")
            if on and self.warm:
                raise InvalidInput(f"{name} must not be set where inner chains are warm: those that go on are the same at every time")
        if self.segments > 1 and (self.cold == "importance" or self.budget is not None):
            raise InvalidInput(f"segments must be 1 where cold is importance or a budget is set, got {self.segments}")

    @property
    def _chains(self) -> Chains | None:
        """What the inner chains are, and cost; None where there are none."""
        return known(self.inner)

    @property
    def _weighted(self) -> bool:
        """Whether the points are weighted draws, or chains that start at some."""
        return self.inner in ("importance", "rejection") or (self._chains is not None and self.cold == "importance")

    def _given(self, k: int) -> tuple[int, int]:
        n, steps = self.inner_chains, self.inner_steps
        return n[k] if isinstance(n, tuple) else n, steps[k] if isinstance(steps, tuple) else steps

    def _mean(self, factor: Callable[[int], float]) -> float:
        """The mean cost over the steps, that of a chain told by its inner steps."""
        numbers = [(*self._given(i), level_of(t, self.horizon, self.segments)[0]) for i, t in enumerate(self.times[:-1])]
        return sum(float(n * factor(k)) ** (j + 1) for n, k, j in numbers) / self.length

    @property
    def score_evaluations(self) -> float:  # type: ignore[override]  # it depends on hyperparameters
        """Scores per particle and step."""
        if self.budget is not None:
            return float(self.budget)
        if self.inner == "oracle":
            return 1.0
        chains, more = self._chains, int(self.identity != "tweedie")
        return self._mean(lambda k: chains.scores(k, more) if chains else more)

    @property
    def potential_evaluations(self) -> float:  # type: ignore[override]  # it depends on hyperparameters
        """Potentials per particle and step; warm chains are cold once, which does not count here."""
        if self.budget is not None:
            return float(self.budget) if self.inner == "mala" else 0.0
        chains, resampled = self._chains, int(self.cold == "importance" and not self.warm)
        return self._mean(lambda k: chains.potentials(k) + resampled if chains else {"importance": 1, "rejection": k}.get(self.inner, 0))

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
        admit_inner(self, target)
        fewest = min(self._given(k)[0] for k in range(self.length))
        if self.identity == "both" and fewest <= target.dim + 1 and self.budget is None:
            raise InvalidInput(f"inner_chains must be above d + 1 = {target.dim + 1} for identity both, got {fewest}")
        if self.segments > 1 and 2 * self.length * self.score_evaluations * target.dim > NOISE:
            raise InvalidInput(f"segments must be fewer than {self.segments}: {self.score_evaluations:.3g} scores per step are beyond the noise")

    def init(self, target: Target, x: Batch, noise: Noise) -> Any:
        return Warm(x, x.new_full((len(x), self.numbers(target, 0)[0] * target.dim), math.nan)) if self.warm else State(x)

    def advance(self, k: int, target: Target, state: Any, noise: Noise) -> Any:
        return self.observed(k, target, state, noise)[0]

    def observed(self, k: int, target: Target, state: Any, noise: Noise) -> tuple[Any, Look]:
        """The state after the step that follows k steps, and the estimates that it used."""
        x, chains = state.x, state.chains if self.warm else None
        if self.warm and isinstance(noise, Probe):
            raise Unsupported("rdmc with warm inner chains keeps more than a position, and has no exact law: use particles")
        size = len(x) if self.inner == "oracle" else block(self.numbers(target, k)[0] * target.dim)
        parts = noise.blocks(len(x), size) if isinstance(noise, Stream) else [(slice(None), noise)]
        moved, looks = [], []
        for rows, source in parts:
            look = self.look(target, k, x[rows], source, None if chains is None else chains[rows])
            moved.append(self.carry(k, x[rows], look.score, source))
            looks.append(look)
        found = joined(looks)
        self._admit(k, found)
        return State(torch.cat(moved)) if found.chains is None else Warm(torch.cat(moved), found.chains), found

    def carry(self, k: int, x: Batch, score: Batch, noise: Noise) -> Batch:
        """x after the step that follows k steps, with this score."""
        xi, p = noise.normal(tuple(x.shape)), self.forward
        if k < self.initial_steps:
            return x + self.initial_step * score + (2 * self.initial_step) ** 0.5 * xi
        t, s = self.times[k], self.times[k + 1]
        return p.scale(s) / p.scale(t) * x + p.push(s, t) * score + p.back(s, t) ** 0.5 * xi

    def look(self, target: Target, k: int, x: Batch, noise: Noise, chains: Batch | None = None) -> Look:
        """The score at x that the step after k steps uses, with what is known of how it was found; a step refuses one that is starved."""
        if self.inner == "oracle":
            return Look(self.forward.noised(target, self.times[k]).score(x), None, x.new_full((len(x),), math.inf), None)
        q = self.posterior(target, k, x, noise)
        draws = self._draw(q, k, noise, None if chains is None or bool(torch.isnan(chains).all()) else chains.T.reshape(q.dim, -1).T)
        ends = draws.y.T.reshape(-1, len(x)).T if self.warm else None
        return Look(score_of(q, draws, self.identity), ends, draws.ess, draws.acceptance)

    def _draw(self, q: Posterior, k: int, noise: Noise, start: Batch | None = None) -> Draws:
        return drawn(self.inner)(q, self.plan(q, k, start), noise)

    def numbers(self, target: Target, k: int) -> tuple[int, int]:
        """(inner_chains, inner_steps) of the step after k steps."""
        if self.budget is not None:
            from .diffusion.budget import planned  # it runs this sampler

            return planned(self, target).numbers(target, k)
        return self._given(k)

    def posterior(self, target: Target, k: int, x: Batch, noise: Noise | None = None) -> Posterior:
        """The inner problem of the step after k steps; the levels below the first draw from `noise`."""
        return self._problem(target, k, *level_of(self.times[k], self.horizon, self.segments), x, noise)

    def _problem(self, target: Target, k: int, level: int, rest: float, x: Batch, noise: Noise | None) -> Posterior:
        """That of x_(jS) given ``x_(jS + r) = x``, j the level and r the rest."""
        prior, length = target, self.horizon / self.segments

        def estimate(y: Batch) -> Batch:
            assert noise is not None
            q = self._problem(target, k, level - 1, length, y, noise)
            return score_of(q, self._draw(q, k, noise), self.identity)

        if level:
            prior = Estimated(target, *self.forward.kernel(level * length), estimate, len(x))
        return Posterior(prior, x, *self.forward.kernel(rest), self.numbers(target, k)[0])

    def plan(self, q: Posterior, k: int, start: Batch | None = None) -> Plan:
        """How it is to be drawn from."""
        big = q.constants.get("M")
        h = self.inner_step * q.variance if big is None else self.inner_step / big.value
        lowest = math.nan if self.inner != "rejection" else lowest_potential(q.prior) if self.lowest is None else self.lowest
        return Plan(self.numbers(q.prior, k)[1], h, lowest, start, self.cold, unit=h / self.inner_step)

    def _admit(self, k: int, look: Look) -> None:
        """Raise where a mean over the points says nothing. What is not finite goes on as such, and counts as diverged."""
        if self._weighted:
            refuse_starved(look.ess, self.least_ess, "inner ESS", "raise inner_chains or lower the horizon", k, self.times[k])
        if self._chains is not None and look.acceptance is not None:
            refuse_starved(look.acceptance, self.least_acceptance, "inner acceptance", "lower inner_step or the horizon", k, self.times[k])
