"""Gradient evaluations to a fixed total variation as two modes move apart: Langevin against reverse diffusion Monte Carlo."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ..errors import InvalidInput, Unsupported
from ..laws.grid import Grid, grid_step
from ..laws.particles import Particles
from ..laws.propagate import propagate
from ..metrics.base import Estimate
from ..metrics.tv import TV
from ..samplers.base import Sampler
from ..samplers.rdmc import RDMC
from ..targets.base import Target
from ..targets.gaussian_mixture import GaussianMixture
from .base import Case, Rate, Source
from .verdict import Row, Verdict, judge_rate

#: A chain that has not arrived after 2^40 steps is given up.
DOUBLINGS = 40


@dataclass(frozen=True)
class _Separation(Rate):
    """Evaluations (scores and potentials, inner ones included) to total variation `eps`, against the relaxation time 1/gap of the Langevin
    diffusion, which grows like ``exp(a^2/2)/a`` in half the separation a of two unit modes (`gap-separation`).

    Arguments:
        eps: total variation to reach, in (0, 1/2).
        claimed: None: the stated exponent. Else another one, as an equality: a negative control.
    """

    source: ClassVar = Source("Reverse diffusion Monte Carlo", "Huang, Dong, Hao, Ma, Zhang", 2024, "section 4", "https://arxiv.org/abs/2307.02037")
    abscissa: ClassVar[str] = "relaxation time 1/gap"
    quantity: ClassVar[str] = "evaluations to the total variation"

    eps: float = 0.2
    claimed: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.eps < 0.5:
            raise InvalidInput(f"eps must lie between 0 and 1/2, got {self.eps}")

    def hypotheses(self, case: Case) -> list[str]:
        t = case.target
        if not isinstance(t, GaussianMixture) or t.dim != 1 or len(t.weights) != 2 or not np.allclose(t.covs.numpy(), 1.0):
            return ["two modes of unit variance in d = 1"]
        unmet = (
            [] if float(t.weights[0]) != 0.5 else ["unequal weights: equal ones come out right by symmetry, whatever is wrong with the inner draws"]
        )
        return unmet + ([] if float((t.means[1] - t.means[0]).abs()) >= 5 else ["separation at least 5: before, powers of a grow faster than 1/gap"])

    def points(self, case: Case) -> list[tuple[float, Estimate]]:
        return [(1 / case.constant("poincare"), self.cost(case))]

    def cost(self, case: Case) -> Estimate:
        """The evaluations of one particle."""
        raise NotImplementedError

    def judge(self, rows: Sequence[Row]) -> Verdict:
        if self.claimed is not None:
            return judge_rate(rows, self.claimed, "equal", self.correction)
        return super().judge(rows)


@dataclass(frozen=True)
class RDMCVsLDLangevin(_Separation):
    """Of ULA from a start in one mode: proportional to 1/gap, ``log((1 - w)/eps)/(h gap)`` steps from the mode of weight w, exponent 1.

    TV stays at 1 - w, the other mode missing, until mass has crossed the barrier. The law is a density on the start's mesh, its kernel one
    matrix; the law after 2^j steps comes by squaring it, the first step within eps by bisection on its binary digits: no sampling
    error. The bias of the chain, of order h, must be below eps; it also moves the barrier, and the exponent by order h.
    """

    id: ClassVar[str] = "rdmc-vs-ld-langevin"
    statement: ClassVar[str] = "evaluations of ULA to a fixed TV grow like 1/gap ~ exp(a^2/2)/a in half the separation a of two modes"
    samplers: ClassVar[tuple[str, ...]] = ("ula",)
    instruments: ClassVar[str] = "G"
    stated: ClassVar[float] = 1.0

    def hypotheses(self, case: Case) -> list[str]:
        return super().hypotheses(case) or (
            [] if case.measure(TV())[0].lower > self.eps else [f"a start in one mode, farther than eps = {self.eps:g} in TV"]
        )

    def cost(self, case: Case) -> Estimate:
        assert isinstance(case.start, Grid)
        steps = first_passage(case.sampler, case.target, case.start, self.eps)
        return Estimate.within(steps * (case.sampler.score_evaluations + case.sampler.potential_evaluations), 1e-3 * steps)


@dataclass(frozen=True)
class RDMCVsLD(_Separation):
    """Of RDMC, with the fewest inner points of `ladder` that do: an exponent of at most 0.2, which leaves room for a factor a (``a^p``
    has the local exponent ``p/(a^2 - 1)`` in 1/gap, which is 0.19 p at a = 2.5 and 0 in the limit).

    Any settings bound the fewest evaluations from above; how they follow a is the experiment's to say. The horizon should be
    ``log a + const``: then ``exp(-T) a``, and with it the distance of p_T from the start N(0, I), stays the same, and the draws of the
    kernel are of width ``exp(T) ~ a``. Their weights exp(-V) weigh the modes. Langevin chains that start at these draws without weights
    each end in the mode on whose side they began: however many or long they are, weights 0.3 and 0.7 come out as halves at a = 5, and it is
    for this that equal weights are no test.

    Law and TV are those of particles: a histogram, so a lower value (see `TV`), and the evaluations are understated by what it does not see.
    Along the ladder, log TV is interpolated linearly in log n between the rungs about eps, for the value and for either end of its interval.

    Arguments:
        ladder: numbers of inner points, increasing.

    Errors: `Unsupported` where the whole ladder does not do.
    """

    id: ClassVar[str] = "rdmc-vs-ld"
    statement: ClassVar[str] = "evaluations of RDMC to a fixed TV grow at most like (1/gap)^0.2, exp(a^2/2)/a being Langevin's growth"
    samplers: ClassVar[tuple[str, ...]] = ("rdmc",)
    instruments: ClassVar[str] = "P"
    stated: ClassVar[float] = 0.2
    sense: ClassVar[Literal["equal", "at most", "at least"]] = "at most"

    ladder: tuple[int, ...] = (2, 4, 8, 16, 32, 64, 128)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.ladder) < 2 or self.ladder[0] < 1 or any(b <= a for a, b in zip(self.ladder, self.ladder[1:], strict=False)):
            raise InvalidInput(f"ladder must be at least two increasing numbers of inner points, got {list(self.ladder)}")

    def hypotheses(self, case: Case) -> list[str]:
        sampler = case.sampler
        assert isinstance(sampler, RDMC)
        unmet = super().hypotheses(case)
        if sampler.inner in ("exact", "oracle"):
            unmet.append(f"an inner sampler that evaluates the target, got {sampler.inner}")
        if sampler.least_ess > 0 or sampler.budget is not None:
            unmet.append("least_ess 0 and no budget: what too few inner points do is measured")
        return unmet

    def cost(self, case: Case) -> Estimate:
        assert isinstance(case.sampler, RDMC) and isinstance(case.start, Particles)
        spent, found = [], []
        for n in self.ladder:
            sampler = dataclasses.replace(case.sampler, inner_chains=n)
            found.append(TV()(propagate(case.start, sampler, case.target, [sampler.length])[0], case.target))
            spent.append(sampler.length * (sampler.score_evaluations + sampler.potential_evaluations))
            if found[-1].upper <= self.eps:
                break
        else:
            raise Unsupported(f"tv {self.eps:g} was not reached with {n} inner points: {found[-1].value:.3g}, after {spent[-1]:.3g} evaluations")
        value, lower, upper = (crossing(spent, [getattr(e, side) for e in found], self.eps) for side in ("value", "lower", "upper"))
        return Estimate(value, lower, upper)


def first_passage(sampler: Sampler, target: Target, start: Grid, eps: float) -> float:
    """Steps until the total variation to the target is eps; between two steps log-linear.

    Errors: `Unsupported` where that is not reached in 2^40 steps.
    """
    operator = grid_step(sampler, target, start.mesh).operator
    nodes = start.mesh.n
    squares = [np.stack([operator(row) for row in np.eye(nodes)], axis=1)]
    pi = Grid.of_target(target, start.mesh).density

    def away(density: np.ndarray) -> float:
        return 0.5 * float(np.abs(density - pi).sum()) * start.mesh.cell

    while away(squares[-1] @ start.density) > eps:
        if len(squares) > DOUBLINGS:
            raise Unsupported(f"tv {eps:g} was not reached in 2^{DOUBLINGS} steps: the bias of the chain may be larger")
        squares.append(squares[-1] @ squares[-1])
    law, n = start.density, 0
    for j in reversed(range(len(squares) - 1)):
        later = squares[j] @ law
        if away(later) > eps:
            law, n = later, n + 2**j
    before, after = away(law), away(squares[0] @ law)
    return n + float(np.log(before / eps) / np.log(before / after))


def crossing(cost: Sequence[float], distance: Sequence[float], eps: float) -> float:
    """The cost at which the distance is eps, log-log-linear between the first that is within it and the one before."""
    i = next(i for i, d in enumerate(distance) if d <= eps)
    if i == 0:
        return 0.0  # nothing is known of what less would do
    a, b = np.log(distance[i - 1]), np.log(max(distance[i], 1e-3 * eps))
    share = (a - np.log(eps)) / (a - b)
    return float(np.exp(np.log(cost[i - 1]) * (1 - share) + np.log(cost[i]) * share))
