"""The bias of an estimated score against the length of the inner chains."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from ..errors import InvalidInput
from ..laws.grid import Grid
from ..laws.normal import Normal
from ..laws.propagate import mesh_for, propagate
from ..metrics.base import Estimate
from ..samplers.noise import Probe, Stream
from ..samplers.rdmc import RDMC
from ..samplers.ula import ULA
from ..targets.base import Target
from ..targets.gaussian import Gaussian
from .base import Case, Theorem
from .sm_quadrature import on_the_line_or_plane
from .sources import dalalyan_karagulyan
from .ula_w2 import ULAW2DK
from .verdict import Row, Verdict, judge_bound

#: Most lengths at one time: all, or these, evenly spaced in their logarithm.
LENGTHS = 12


@dataclass(frozen=True)
class RDMCInnerBias(Theorem):
    """With ``a = e^-t``, ``v = 1 - e^-2t`` and S_l the score from cold ULA chains of l steps h on ``q = q_t(. | x)``, ``x ~ p_t``:

    ``|E S_l(x) - grad log p_t(x)| = (a/v) |E_(nu_l) x_0 - E_q x_0| <= (a/v) W2(nu_l, q)``, and in root mean square over x
    ``<= (a/v) [(1 - m_q h)^l W2(nu_0, q) + 1.65 (M_q/m_q) sqrt(h d)]`` for ``h <= 2/(m_q + M_q)``; up to ``h < 2/M_q`` the second case
    of `ula-w2-dk`, whose bound it is. ``m_q = m + a^2/v``, ``M_q = M + a^2/v``: q is strongly log-concave while ``a^2/v > -m``.

    The number of chains does not enter: this is what no number of them removes, where `rdmc-inner` is what they do. On a Gaussian
    target E S_l is affine in x, and read off the sampler's own score at zero noise; W2(nu_0, q) enters by its root mean square (Minkowski).
    On the line the law of the chains is carried on a grid at exact draws of x_t, over which both sides are averaged.

    On Gaussians the bias is ``(1 - Q h)^l`` times what it starts from, Q the precision of q, and has no plateau: the bound is far above
    it at last, and is nearly attained where h is small and nu_0 differs from q by its mean alone (N(mu, I) from `cold: normal`).
    From the kernel's draws the covariances differ too: on N(mu, I) at most ``(1 + tanh(t/2))^(-1/2)`` of the bound is attained.

    Arguments:
        instants: at least 1, evenly chosen among the steps.
        points: at least 1, exact draws of x_t at each of them, on the line.
    """

    statement: ClassVar[str] = "|E S_l - grad log p_t| <= (a/v) [(1 - m_q h)^l W2(nu_0, q) + 1.65 (M_q/m_q) sqrt(h d)] after l inner steps"
    source: ClassVar = dataclasses.replace(
        dalalyan_karagulyan("Theorem 1, on the posteriors"),
        also="Huang, Dong, Hao, Ma, Zhang (2024), Lemma 1, https://arxiv.org/abs/2307.02037, for the score as their mean",
    )
    kind: ClassVar = "bound"
    samplers: ClassVar[tuple[str, ...]] = ("rdmc",)
    instruments: ClassVar[str] = "AGP"
    quantity: ClassVar[str] = "score bias"

    instants: int = 3
    points: int = 3

    def __post_init__(self) -> None:
        if self.instants < 1 or self.points < 1:
            raise InvalidInput(f"instants and points must be at least 1, got {self.instants} and {self.points}")

    def hypotheses(self, case: Case) -> list[str]:
        sampler, target = case.sampler, case.target
        assert isinstance(sampler, RDMC)
        unmet = [] if sampler.inner == "ula" else [f"inner Langevin chains (inner: ula), got {sampler.inner}"]
        if sampler.warm or sampler.cold == "importance":
            unmet.append("cold chains from a Gaussian (warm: false, cold: kernel or normal)")
        if sampler.identity != "tweedie":
            unmet.append(f"the mean of the points (identity: tweedie), got {sampler.identity}")
        if isinstance(sampler.inner_steps, tuple) or sampler.budget is not None or sampler.segments > 1:
            unmet.append("one length of the chains for all times, and one segment")
        unmet += [f"a known curvature ({name}): {target.name} has no such constant" for name in ("m", "M") if not case.has(name)]
        if not target.is_gaussian:
            unmet += on_the_line_or_plane(target) if target.dim == 1 else [f"a Gaussian target, or one on the line, got d = {target.dim}"]
            unmet += [] if "sample" in target.capabilities else [f"exact draws, which {target.name} does not have"]
        if unmet:
            return unmet
        problems, origin = [Problem.of(sampler, target, k) for k in chosen(sampler, self.instants)], torch.zeros((1, target.dim), dtype=torch.float64)
        return [f"at t = {p.t:.4g}: {words}" for p in problems for words in ULAW2DK().hypotheses(p.chains(origin))]

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        sampler, found = case.sampler, []
        assert isinstance(sampler, RDMC)
        for k in chosen(sampler, self.instants):
            problem = Problem.of(sampler, case.target, k)
            biases, bounds = on_gaussian(problem) if case.target.is_gaussian else on_line(problem, self.points)
            label = f"{self.quantity}, t = {problem.t:.4g}"
            for n, e, b in zip(problem.lengths, biases, factor * problem.pull * bounds, strict=True):
                found.append(Row.of(e, float(b), k=n, time=n * problem.h, label=label))
        return found

    def judge(self, rows: Sequence[Row]) -> Verdict:
        return judge_bound(rows)


class Problem(NamedTuple):
    """The inner chains of the step after k steps: time t, scale a and variance v of x_t given x_0, step h, and lengths l."""

    sampler: RDMC
    target: Target
    k: int
    t: float
    a: float
    v: float
    h: float
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, sampler: RDMC, target: Target, k: int) -> Problem:
        """That of one chain, whose mean is that of all."""
        sampler, most = dataclasses.replace(sampler, inner_chains=1), sampler.inner_steps
        assert isinstance(most, int)
        lengths = list(range(1, most + 1)) if most <= LENGTHS else sorted({round(n) for n in np.geomspace(1, most, LENGTHS).tolist()})
        h = sampler.plan(sampler.posterior(target, k, torch.zeros((1, target.dim), dtype=torch.float64)), k).step_size
        return cls(sampler, target, k, sampler.times[k], *sampler.forward.kernel(sampler.times[k]), h, tuple(lengths))

    @property
    def pull(self) -> float:
        """a/v, by which a mean of x_0 enters the score."""
        return self.a / self.v

    @property
    def cold(self) -> tuple[float, float]:
        """(g, w) of the start N(g x, w I)."""
        return (1 / self.a, self.v / self.a**2) if self.sampler.cold == "kernel" else (self.a, self.v)

    def points(self, n: int) -> torch.Tensor:
        """Exact draws of x_t."""
        noise = Stream("rdmc inner bias", self.target.id, self.k)
        return self.a * self.target.sample(n, noise) + self.v**0.5 * noise.normal((n, self.target.dim))

    def chains(self, x: torch.Tensor) -> Case:
        """ULA on the posterior of one x, (1, d), not yet begun."""
        return Case(self.sampler.posterior(self.target, self.k, x), ULA(self.h), (0, *self.lengths), [])


def chosen(sampler: RDMC, instants: int) -> list[int]:
    """Steps, evenly chosen."""
    return sorted({sampler.initial_steps + round(i * (sampler.steps - 1) / max(1, instants - 1)) for i in range(instants)})


def on_gaussian(problem: Problem) -> tuple[list[Estimate], np.ndarray]:
    """The root mean square bias, and the bound on W2(nu_l, q), at each length."""
    sampler, target, d = problem.sampler, problem.target, problem.target.dim
    noised = sampler.forward.noised(target, problem.t)
    assert noised.moments is not None and target.moments is not None
    (mean, cov), (mu, prior) = (tuple(moment.numpy() for moment in moments) for moments in (noised.moments, target.moments))

    def size(linear: np.ndarray, offset: np.ndarray) -> float:
        """``(E|A x + b|^2)^1/2`` over ``x ~ p_t``."""
        return float(((linear @ mean + offset) ** 2).sum() + np.trace(linear @ cov @ linear.T)) ** 0.5

    points = torch.cat([torch.zeros((1, d), dtype=torch.float64), torch.eye(d, dtype=torch.float64)])
    exact, biases = noised.score(points), []
    rounding = 1e-14 * float(exact.abs().max()) * (1 + float(np.linalg.norm(mean) + np.trace(cov) ** 0.5)) * d
    for n in problem.lengths:
        chain = dataclasses.replace(sampler, inner_steps=n)
        off = (chain.look(target, problem.k, points, Probe(basis=False)).score - exact).numpy()
        biases.append(Estimate.within(size((off[1:] - off[0]).T, off[0]), rounding))
    # a pair of Gaussians as far apart as nu_0 and q in root mean square: the mean of q is cov_q (P mu + (a/v) x)
    precision, (gain, variance) = np.linalg.inv(prior), problem.cold
    posterior = np.linalg.inv(precision + problem.a * problem.pull * np.eye(d))
    shift = size(gain * np.eye(d) - problem.pull * posterior, -posterior @ precision @ mu)
    start = Normal(np.concatenate([[shift], np.zeros(d - 1)]), variance * np.eye(d))
    pair = Case(Gaussian(np.zeros(d), (posterior + posterior.T) / 2), ULA(problem.h), (0, *problem.lengths), [start])
    return biases, ULAW2DK().bound(pair)[1:]


def on_line(problem: Problem, points: int) -> tuple[list[Estimate], np.ndarray]:
    """Root mean squares over draws of x_t of the bias, with its numerical error, and of the bound on W2(nu_l, q), at each length."""
    biases, errors, bounds = [], [], []
    gain, variance = problem.cold
    for x in problem.points(points).split(1):
        inner = problem.chains(x)
        start = Normal(gain * x[0].numpy(), variance * np.eye(1))
        first = Grid.of_normal(start, mesh_for(inner.target, inner.sampler, start))
        truth = Grid.of_target(inner.target, first.mesh)
        laws = [law for law in propagate(first, inner.sampler, inner.target, problem.lengths) if isinstance(law, Grid)]
        # a mass that is out of place within the box moves a mean by at most its width
        width = first.mesh.hi[0] - first.mesh.lo[0]
        biases.append([problem.pull * float(law.moments.mean[0] - truth.moments.mean[0]) for law in laws])
        errors.append([problem.pull * (law.error + truth.error) * width for law in laws])
        bounds.append(ULAW2DK().bound(dataclasses.replace(inner, laws=[first]))[1:])
    bias, error, bound = (np.sqrt(np.mean(np.square(values), 0)) for values in (biases, errors, bounds))
    return [Estimate.within(b, e) for b, e in zip(bias.tolist(), error.tolist(), strict=True)], np.asarray(bound)
