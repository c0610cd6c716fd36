"""Stochastic localisation via iterative posterior sampling (SLIPS): ever clearer observations of a draw of the target."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import scipy  # its parts are loaded where they are used
import torch
from scipy import special

from ...errors import InvalidInput, Unsupported
from ...targets.base import Batch, Target
from ..base import State, positive
from ..noise import Noise, Probe, Stream
from ..scheduled import Scheduled
from .estimators import COLD, IDENTITIES, INNER, Look, Plan, Warm, block, joined, refuse_starved, score_of
from .forward import diffused
from .posterior import Posterior
from .reverse import admit_score, whole

SCHEMES = ("geometric", "standard")
#: Inner samplers, of those of RDMC, and the closed form.
ROUTES = ("importance", "exact", "ula", "mala", "oracle")


@dataclass(frozen=True)
class Slips(Scheduled):
    """Observations ``Y_t = alpha(t) X + sigma W_t`` of a draw X of the target, at times ``t_0 < ... < t_N``:

    ``Y' = Y + (alpha(t') - alpha(t)) U + sigma sqrt(t' - t) xi``, where U estimates ``E[X | Y_t = Y]`` from points of
    ``q_t(x | y) ~ exp(-V(x) - |y - alpha x|^2/(2 sigma^2 t))``.

    The state is ``x = Y/alpha``, of law target + N(0, sigma^2/g(t)^2 I) where all is exact, so that
    ``x' = r x + (1 - r) U + sigma sqrt(t' - t)/alpha(t') xi``, ``r = alpha(t)/alpha(t')``. Here ``alpha = t^(1/2) g``, and the times are
    uniform in the log of the signal-to-noise ratio g^2:

    geometric: ``g = t^(p/2) (1 - t)^(-q/2)`` on (0, 1), for `powers` (p, q).
    standard: ``g = t^(1/2)``, so that alpha = t.

    As the steps grow finer the law at each time is that of Y_t, not that of the path: a path tells more of X than its end, unless alpha = t.
    With ``denoise`` a last step goes to U itself; without, x stays blurred by N(0, sigma^2/g(t_N)^2 I), at most ``sigma sqrt(d)/g(t_N)`` in W2.
    ``initial_steps`` are ``x' = x + h S + sqrt(2 h) xi`` with ``S = (U - x) g^2/sigma^2``, the estimated score of the law at t_0 (Langevin within
    Langevin); they start best at N(0, sigma^2/g(t_0)^2 I), or N(E X, ...) where the mean is known.

    With oracle and exact a step is affine in (x, noise) on Gaussian targets; with oracle it is a map plus noise on all others. The
    authors' code averages over the second half of four inner chains, whose steps it adapts; here many chains leave their last points, at
    one step size.

    Cost: per particle and step, n = inner_chains and k = inner_steps: importance n potentials; ula n k scores; mala n (k + 1) scores and
    potentials; exact none; oracle 1 score. Identities other than tweedie: n scores more, but none more after mala. A cold
    start by importance: n potentials more. Initial and last steps cost what the others do.

    Arguments:
        steps: N >= 1.
        first, last: t_0 and t_N, positive; below 1 where the scheme is geometric.
        scheme: ``geometric`` or ``standard``.
        powers: p and q, positive.
        sigma: sigma > 0, about the target's deviation in each direction, in units of x.
        inner: ``importance``, ``exact``, ``ula``, ``mala`` or ``oracle``, as in RDMC.
        inner_chains: n >= 1, points per particle.
        inner_steps: k >= 1, steps of the inner chains.
        inner_step: their step size, positive, in units of ``1/(M + g^2/sigma^2)``, or of ``sigma^2/g^2`` where the target declares no M.
        warm: whether inner chains go on from where they ended a step before; of no meaning without chains.
        cold, identity: where chains start that do not, and how U is found, as in RDMC: ``U = x + S sigma^2/g^2``.
        denoise: whether there is the last step.
        initial_steps: n >= 0. initial_step: their h, positive, in units of ``sigma^2/g(t_0)^2``.
        least_ess, least_acceptance: as in RDMC.

    Errors: `InvalidInput` for what is out of range; `Unsupported` for a route that the target does not have; `Diverged` for starved
        inner samplers.

    References: Grenioux, Noble, Gabrie, Durmus, "Stochastic localization via iterative posterior sampling" (2024), the SLIPS
        algorithm with Langevin-within-Langevin initialization, https://arxiv.org/abs/2402.10758
    """

    steps: int
    first: float = 0.2
    last: float = 0.999
    scheme: str = "geometric"
    powers: tuple[float, float] = (1.0, 1.0)
    sigma: float = 1.0
    inner: str = "mala"
    inner_chains: int = 32
    inner_steps: int = 20
    inner_step: float = 0.5
    warm: bool = True
    cold: str = "kernel"
    identity: str = "tweedie"
    denoise: bool = True
    initial_steps: int = 0
    initial_step: float = 0.5
    least_ess: float = 5.0
    least_acceptance: float = 0.05

    bias_order: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        named = (("scheme", SCHEMES), ("inner", ROUTES), ("cold", COLD), ("identity", IDENTITIES))
        for name, known in named:
            if getattr(self, name) not in known:
                raise InvalidInput(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name, least in (("steps", 1), ("inner_chains", 1), ("inner_steps", 1), ("initial_steps", 0)):
            whole(getattr(self, name), name, least)
        for name in ("first", "sigma", "inner_step", "initial_step"):
            positive(getattr(self, name), name)
        if len(self.powers) != 2:
            raise InvalidInput(f"powers must be two numbers, got {list(self.powers)}")
        for power in self.powers:
            positive(power, "powers")
        end = 1.0 if self.scheme == "geometric" else math.inf
        if not self.first < self.last < end:
            raise InvalidInput(f"last must be above first = {self.first:g} and below {end:g}, got {self.last}")
        if not 0 <= self.least_ess <= self.inner_chains and self._weighted:
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
        return float({"importance": n, "mala": n * (k + 1)}.get(self.inner, 0) + resampled)

    @property
    def length(self) -> int:
        return self.initial_steps + self.steps + self.denoise

    @cached_property
    def times(self) -> tuple[float, ...]:
        """t at which each step looks: t_0 once more for each initial step, then ``t_0 < ... < t_N``."""
        if self.scheme == "standard":
            t = np.geomspace(self.first, self.last, self.steps + 1)
        else:  # in u = log t/(1 - t), which keeps both ends apart from 0 and 1
            p, q = self.powers
            ends = float(special.logit(self.first)), float(special.logit(self.last))

            def log_ratio(u: float) -> float:
                return float(p * special.log_expit(u) - q * special.log_expit(-u))

            wanted = np.linspace(log_ratio(ends[0]), log_ratio(ends[1]), self.steps + 1)[1:-1]
            found = [scipy.optimize.brentq(lambda u, w=w: log_ratio(u) - w, *ends, xtol=1e-14) for w in wanted]
            t = special.expit([ends[0], *found, ends[1]])
        return (self.first,) * self.initial_steps + (self.first, *map(float, t[1:-1]), self.last)

    def alpha(self, t: float) -> float:
        """What multiplies X at time t."""
        if self.scheme == "standard":
            return t
        return t ** ((1 + self.powers[0]) / 2) * (1 - t) ** (-self.powers[1] / 2)

    def blur(self, t: float) -> float:
        """``sigma^2 t/alpha(t)^2 = sigma^2/g^2``, the variance of x about X at time t."""
        return self.sigma**2 * t / self.alpha(t) ** 2

    def origin(self, target: Target) -> Target:
        """The law of x at t_0."""
        return diffused(target, 1.0, self.blur(self.first))

    def check(self, target: Target) -> None:
        if self.inner == "oracle":
            admit_score("oracle", target)
        if self.inner == "exact" and "restricted_gaussian" not in target.capabilities:
            raise Unsupported(f"inner must not be exact on {target.name}: it has no closed-form restricted Gaussian draw")
        if self.identity == "both" and self.inner_chains <= target.dim + 1:
            raise InvalidInput(f"inner_chains must be above d + 1 = {target.dim + 1} for identity both, got {self.inner_chains}")

    @property
    def _weighted(self) -> bool:
        """Whether the points are weighted draws, or chains that start at some."""
        return self.inner == "importance" or (self.inner in ("ula", "mala") and self.cold == "importance")

    @property
    def _goes_on(self) -> bool:
        return self.warm and self.inner in ("ula", "mala")

    def init(self, target: Target, x: Batch, noise: Noise) -> Any:
        return Warm(x, x.new_full((len(x), self.inner_chains * target.dim), math.nan)) if self._goes_on else State(x)

    def advance(self, k: int, target: Target, state: Any, noise: Noise) -> Any:
        x, chains = state.x, state.chains if self._goes_on else None
        if self._goes_on and isinstance(noise, Probe):
            raise Unsupported("slips with warm inner chains keeps more than a position, and has no exact law: use particles")
        size = block(self.inner_chains * target.dim)
        parts = noise.blocks(len(x), size) if isinstance(noise, Stream) and self.inner != "oracle" else [(slice(None), noise)]
        moved, looks = [], []
        for rows, source in parts:
            look = self.look(target, k, x[rows], source, None if chains is None else chains[rows])
            moved.append(self._move(k, x[rows], look.score, source))
            looks.append(look)
        found = joined(looks)
        self._admit(k, found)
        return State(torch.cat(moved)) if found.chains is None else Warm(torch.cat(moved), found.chains)

    def _move(self, k: int, x: Batch, score: Batch, noise: Noise) -> Batch:
        t = self.times[k]
        if k < self.initial_steps:
            h = self.initial_step * self.blur(t)
            return x + h * score + (2 * h) ** 0.5 * noise.normal(tuple(x.shape))
        u = x + self.blur(t) * score
        if k + 1 == len(self.times):
            return u
        s = self.times[k + 1]
        r = self.alpha(t) / self.alpha(s)
        return r * x + (1 - r) * u + self.sigma * (s - t) ** 0.5 / self.alpha(s) * noise.normal(tuple(x.shape))

    def look(self, target: Target, k: int, x: Batch, noise: Noise, chains: Batch | None = None) -> Look:
        """The score at x of the law at the time of the step after k steps, ``(U - x) g^2/sigma^2``, and how it was found."""
        if self.inner == "oracle":
            return Look(diffused(target, 1.0, self.blur(self.times[k])).score(x), None, x.new_full((len(x),), math.inf), None)
        q = self.posterior(target, k, x)
        start = None if chains is None or bool(torch.isnan(chains).all()) else chains.T.reshape(q.dim, -1).T
        draws = INNER[self.inner](q, self.plan(q, start), noise)
        ends = draws.y.T.reshape(-1, len(x)).T if self._goes_on else None
        # the score of the law of Y, in units of Y
        return Look(q.scale * score_of(q, draws, self.identity), ends, draws.ess, draws.acceptance)

    def posterior(self, target: Target, k: int, x: Batch) -> Posterior:
        """The inner problem of the step after k steps, given Y = alpha x."""
        t = self.times[k]
        a = self.alpha(t)
        return Posterior(target, a * x, a, self.sigma**2 * t, self.inner_chains)

    def plan(self, q: Posterior, start: Batch | None = None) -> Plan:
        """How it is to be drawn from."""
        big = q.constants.get("M")
        return Plan(self.inner_steps, self.inner_step / (q.precision if big is None else big.value), start=start, cold=self.cold)

    def _admit(self, k: int, look: Look) -> None:
        """Raise where a mean over the points says nothing. What is not finite goes on as such, and counts as diverged."""
        if self._weighted:
            refuse_starved(look.ess, self.least_ess, "inner ESS", "raise inner_chains or first", k, self.times[k])
        if look.acceptance is not None:
            refuse_starved(look.acceptance, self.least_acceptance, "inner acceptance", "lower inner_step", k, self.times[k])
