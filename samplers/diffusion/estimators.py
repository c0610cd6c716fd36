"""The score of the noised target from points of the posterior: how these are drawn, and which identity they go into."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch

from ...errors import Diverged, InvalidInput, Unsupported
from ...targets.base import Batch, Target, Values
from ...targets.gaussian_mixture import GaussianMixture
from ..base import Sampler
from ..mala import MALA
from ..noise import Noise, Stream
from ..ula import ULA
from .posterior import Paired, Posterior, stacked

#: Starts of cold chains: draws of N(x/a, v/a^2 I), of N(a x, v I), the posterior of a target N(0, I), or of the former, resampled by weight.
COLD = ("kernel", "normal", "importance")
#: Descent steps to the minimum of a strongly convex V.
DESCENT = 100_000


IDENTITIES = ("tweedie", "target", "both")
#: Numbers per array of inner points of a block of particles: what goes through torch stays small, compiled chains cut finer themselves.
BLOCK_NUMBERS = 262144


class Warm(NamedTuple):
    """Positions, and the points at which each particle's inner chains ended, (n, d chains); NaN before there are any."""

    x: Batch
    chains: Batch


class Draws(NamedTuple):
    """Points of the posterior.

    y: (chains n, d), in the layout of `Posterior`.
    weights: (chains, n), adding up to 1 for each particle.
    ess: (n,), effective number of points, ``(sum w)^2 / sum w^2``; of chains that start at resampled draws, that of these draws.
    acceptance: (n,), share of the proposals that were accepted; None where nothing is.
    score: that of the target at y, where the inner sampler has computed it.
    """

    y: Batch
    weights: torch.Tensor
    ess: Values
    acceptance: Values | None = None
    score: Batch | None = None


class Look(NamedTuple):
    """An estimated score: the score (n, d), where the chains ended, and how the inner sampler fared, per particle."""

    score: Batch
    chains: Batch | None
    ess: Values
    acceptance: Values | None


def joined(looks: list[Look]) -> Look:
    """Those of blocks of particles as one."""

    def along(column: list[torch.Tensor | None]) -> torch.Tensor | None:
        known = [part for part in column if part is not None]
        return torch.cat(known) if known else None

    score, ess = torch.cat([look.score for look in looks]), torch.cat([look.ess for look in looks])
    return Look(score, along([look.chains for look in looks]), ess, along([look.acceptance for look in looks]))


class Plan(NamedTuple):
    """What the inner samplers are told.

    steps: of the chains, or rounds of rejection.
    step_size: h of the chains, in units of time.
    lowest: a lower bound of V, for rejection.
    start: where the chains go on from; None: cold.
    cold: where chains start that do not go on, as in `COLD`.
    compiled: off, chains run through torch: the reference that the compiled ones are tested against.
    unit: the posterior's time scale, of which frictions that are numbers are made.
    """

    steps: int
    step_size: float
    lowest: float = math.nan
    start: Batch | None = None
    cold: str = "kernel"
    compiled: bool = True
    unit: float = 1.0


def importance(q: Posterior, plan: Plan, noise: Noise) -> Draws:
    """Draws of N(x/a, v/a^2 I), weighted by exp(-V) and normalised: biased of order one over their number."""
    y = q.by_kernel(noise)
    weights = torch.softmax(-q.prior.potential(y).reshape(q.chains, -1), 0)
    return Draws(y, weights, 1.0 / (weights * weights).sum(0))


def exact(q: Posterior, plan: Plan, noise: Noise) -> Draws:
    """Independent draws in closed form: ``q ~ exp(-V(y) - |y - x/a|^2/(2 v/a^2))``."""
    y = q.prior.restricted_gaussian(q.centres / q.scale, 1.0 / q.precision, Paired(noise, len(q.x)))
    return alike(q, y)


def rejection(q: Posterior, plan: Plan, noise: Noise) -> Draws:
    """Draws of N(x/a, v/a^2 I) accepted with probability exp(lowest - V), in `steps` rounds: what is accepted is exact. Points that
    were not accepted in any round have no weight; a particle without a point is starved, and where that is allowed (`least_ess` 0) its
    average is taken to be 0, as ZOD-MC's code does."""
    size, n = q.chains * len(q.x), len(q.x)
    y, filled, tried = q.centres / q.scale, torch.zeros(size, dtype=torch.bool, device=q.x.device), q.x.new_zeros(n)
    for _ in range(plan.steps):
        proposed, u = q.by_kernel(noise), Paired(noise, n).uniform((size,))
        excess = q.prior.potential(proposed) - plan.lowest
        # a bound above the minimum would bias every draw
        if bool((excess < -1e-6 * (1 + abs(plan.lowest))).any()):
            raise InvalidInput(f"lowest must be at most the potential everywhere, got {plan.lowest:.6g} where it is {plan.lowest + excess.min():.6g}")
        tried += (~filled).reshape(-1, n).sum(0)
        accepted = ~filled & (torch.log(u) < -excess)
        y, filled = torch.where(accepted.unsqueeze(1), proposed, y), filled | accepted
    counts = filled.reshape(-1, n).sum(0).to(y)
    return Draws(y, filled.reshape(-1, n) / counts.clamp(min=1), counts, counts / tried.clamp(min=1))


def ula(q: Posterior, plan: Plan, noise: Noise) -> Draws:
    """Unadjusted Langevin chains, of which the last points are taken."""
    if plan.compiled and isinstance(noise, Stream):
        from . import inner_chains  # compiled code is loaded where it is used

        if inner_chains.serves(q.prior, q.x, noise):
            start, ess = beginning(q, plan, noise)
            return alike(q, inner_chains.run(q.prior, q.x, start, q.scale, q.variance, plan.step_size, plan.steps, noise))._replace(ess=ess)
    return chains(ULA(plan.step_size), q, plan, noise)


def mala(q: Posterior, plan: Plan, noise: Noise) -> Draws:
    """Metropolis-adjusted Langevin chains, of which the last points are taken."""
    return chains(MALA(plan.step_size), q, plan, noise)


def chains(sampler: Sampler, q: Posterior, plan: Plan, noise: Noise) -> Draws:
    """Chains of any sampler, of which the last points are taken; momenta are drawn anew. A score that the state carries serves the identities."""
    paired, n = Paired(noise, len(q.x)), len(q.x)
    start, ess = beginning(q, plan, noise)
    state = sampler.init(q, start, paired)
    accepted = q.x.new_zeros(n)
    for _ in range(plan.steps):
        new = sampler.step(q, state, paired)
        if sampler.accepts:
            accepted += (new.x[:, 0] != state.x[:, 0]).reshape(-1, n).sum(0)
        state = new
    score, rate = getattr(state, "score", None), accepted / (plan.steps * q.chains) if sampler.accepts else None
    carried = None if score is None or score.shape != state.x.shape else score - q._pull(state.x)
    return alike(q, state.x)._replace(ess=ess, acceptance=rate, score=carried)


def beginning(q: Posterior, plan: Plan, noise: Noise) -> tuple[Batch, Values]:
    """Where the chains start, and the effective number of these points: all, unless they are resampled draws, which few chains may share.
    Resampling is systematic: the i-th chain takes the draw at (i + u)/chains of the cumulative weights."""
    n, every = len(q.x), q.x.new_full((len(q.x),), float(q.chains))
    if plan.start is not None:
        return plan.start, every
    if plan.cold != "importance":
        return q.by_kernel(noise) if plan.cold == "kernel" else q.by_normal(noise), every
    draws = importance(q, plan, noise)
    u = noise.uniform((n, 1)) + torch.arange(q.chains, dtype=q.x.dtype, device=q.x.device)
    chosen = torch.searchsorted(draws.weights.cumsum(0).T.contiguous(), u / q.chains).clamp(max=q.chains - 1)
    return (draws.y.T[:, chosen.T.reshape(-1) * n + torch.arange(n, device=q.x.device).repeat(q.chains)]).T, draws.ess


def alike(q: Posterior, y: Batch) -> Draws:
    """Points of equal weight."""
    n = len(q.x)
    return Draws(y, y.new_full((q.chains, n), 1.0 / q.chains), y.new_full((n,), float(q.chains)))


#: The inner samplers by name.
INNER: dict[str, Callable[[Posterior, Plan, Noise], Draws]] = {
    "importance": importance,
    "exact": exact,
    "rejection": rejection,
    "ula": ula,
    "mala": mala,
}


def average(weights: torch.Tensor, f: torch.Tensor) -> Batch:
    """Weighted mean over the points of f (d, chains, n), shape (n, d)."""
    rest = weights * f
    while rest.shape[1] > 1:  # pair by pair: torch sums in an order that depends on the number of particles in the block
        half = rest.shape[1] // 2
        rest = torch.cat((rest[:, :half] + rest[:, half : 2 * half], rest[:, 2 * half :]), 1)
    return rest[:, 0].T


def score_of(q: Posterior, draws: Draws, identity: str) -> Batch:
    """grad log p_t at each x, by one of

    tweedie: ``E[(a x_0 - x)/v]``, of small variance where v is not small.
    target: ``E[grad log pi(x_0)]/a`` (an integration by parts), of small variance where v is small.
    both: ``T - B D`` with T the first integrand, S the second, ``D = T - S`` and ``B = Cov(T, D) Cov(D, D)^-1``, estimated
        from the same points. D is the posterior's own score over -a, of mean zero: on a Gaussian target nothing is left of the variance.
    """
    n = len(q.x)
    tweedie = (q.scale * average(draws.weights, stacked(draws.y, n)) - q.x) / q.variance
    if identity == "tweedie":
        return tweedie
    s = stacked(q.prior.score(draws.y) if draws.score is None else draws.score, n) / q.scale
    target = average(draws.weights, s)
    if identity == "target":
        return target
    difference = tweedie - target
    t = (q.scale * stacked(draws.y, n) - q.x.T.unsqueeze(1)) / q.variance
    off_t, off_d = t - tweedie.T.unsqueeze(1), t - s - difference.T.unsqueeze(1)
    weighted = draws.weights * off_d
    covariance = torch.einsum("icn,jcn->nij", off_d, weighted)
    mixed = torch.einsum("icn,jcn->nij", weighted, off_t)
    # points that all but coincide leave a matrix without an inverse; the ridge is at its rounding
    ridge = torch.finfo(t.dtype).eps * covariance.diagonal(dim1=1, dim2=2).sum(1) + torch.finfo(t.dtype).tiny
    covariance = covariance + ridge[:, None, None] * torch.eye(q.dim, dtype=t.dtype, device=t.device)
    slope = torch.linalg.solve_ex(covariance, mixed).result  # B^T
    return tweedie - torch.einsum("nij,ni->nj", slope, difference)


def refuse_starved(found: Values, least: float, what: str, remedy: str, k: int, t: float) -> None:
    """Raise where some particle has found less than the least, at the time t, in the step after k steps. NaN is not less."""
    starved = found < least
    if bool(starved.any()):
        share = float(starved.double().mean())
        told = f"below {least:g} for {share:.2%} of the particles at t = {t:.4g}, median {float(found.median()):.3g}"
        raise Diverged(f"{what} too low: {told}; {remedy}", k + 1, share)


@lru_cache(maxsize=64)
def lowest_potential(target: Target) -> float:
    """A lower bound of V: of a mixture ``-log sum_k w_k N(0; 0, S_k)``; where m > 0, ``V(x) - |grad V(x)|^2/(2 m)`` at the end of a descent.

    Errors: `Unsupported` where V is neither.
    """
    if isinstance(target, GaussianMixture):
        logs = torch.log(target.weights) - 0.5 * torch.logdet(2 * math.pi * target.covs)
        return -float(torch.logsumexp(logs, 0))
    m, big = target.constant("m"), target.constant("M")
    if m is None or not m > 0 or big is None:
        raise Unsupported(f"lowest must be given on {target.name}: a bound below its potential is known for mixtures and where m > 0")
    x = torch.zeros((1, target.dim), dtype=torch.float64)
    for _ in range(DESCENT):
        score = target.score(x)
        if float((score * score).sum()) <= 1e-16 * m:
            break
        x = x + score / big
    value, score = target.potential_and_score(x)
    return float(value) - float((score * score).sum()) / (2 * m)


def block(numbers: int) -> int:
    """Particles in a block, each with so many numbers of inner points: a multiple of 64, as the noise is computed for, where it is that many."""
    size = max(1, BLOCK_NUMBERS // numbers)
    return size // 64 * 64 or size
