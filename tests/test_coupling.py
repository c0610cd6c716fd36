"""Coupled chains: each chain has its own law, the bounds lie above what they bound, and chains that meet stay together."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import mixrate
import mixrate.laws.coupling as coupling
from mixrate.errors import Diverged, InvalidInput, Unsupported
from mixrate.experiments.cell import run_point
from mixrate.experiments.schema import read, validate
from mixrate.laws.coupling import Coupled, check_coupling
from mixrate.laws.grid import Grid
from mixrate.laws.normal import Normal
from mixrate.laws.particles import Particles, simulate
from mixrate.laws.propagate import mesh_for, propagate, stationary
from mixrate.metrics.gelbrich import Gelbrich
from mixrate.metrics.tv import TV
from mixrate.metrics.w2 import W2
from mixrate.samplers.base import Sampler
from mixrate.samplers.exact import Exact
from mixrate.samplers.hmc import HMC
from mixrate.samplers.langevin_diffusion import LangevinDiffusion
from mixrate.samplers.mala import MALA
from mixrate.samplers.noise import Noise, Stream
from mixrate.samplers.proximal import Proximal
from mixrate.samplers.random_walk import RandomWalk
from mixrate.samplers.ula import ULA
from mixrate.targets.base import Target
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.quartic import Quartic
from mixrate.targets.skew_logistic import SkewLogistic
from mixrate.theory.base import Case
from mixrate.theory.ld_w2 import LDW2
from mixrate.theory.ula_w2 import ULAW2, ULAW2DK

DENSE = Gaussian([1.0, -0.5, 2.0], [[1.0, 0.3, 0.0], [0.3, 0.5, -0.2], [0.0, -0.2, 0.8]])
SKEW = SkewLogistic()
FAR = Normal(np.array([3.0, 0.0, -1.0]), np.diag([0.3, 1.0, 2.0]))
RIGHT = Normal(np.array([2.5]), np.array([[0.4]]))


# The first thing to see: a lower and an upper bound around the exact distance.


@pytest.mark.parametrize("dim", [2, 10, 100])
def test_ula_lies_between_gelbrich_and_its_coupling(dim: int) -> None:
    """ULA from N(3, I) at step 0.01: Gelbrich from moments <= exact <= coupled, within their intervals, at every step."""
    target, start = Gaussian.ill_conditioned(dim, 10.0), Normal(np.full(dim, 3.0), np.eye(dim))
    steps = [0, 1, 10, 30, 100, 300 if dim < 100 else 150]
    pairs = propagate(Coupled.starting(start, target, 400), ULA(0.01), target, steps)
    exact = propagate(start, ULA(0.01), target, steps)
    for law, affine in zip(pairs, exact, strict=True):
        assert isinstance(law, Coupled)
        low, value, high = Gelbrich()(law.sample, target), W2()(affine, target).value, W2()(law, target)
        assert low.lower <= value <= high.upper
        assert high.side == "upper" and high.floor == 0.0
    first = W2()(pairs[0], target)  # the optimal map at the start: no gap
    assert first.lower <= W2()(start, target).value <= first.upper and first.upper - first.lower < 0.04 * first.value


# Each chain has its own law.


def check_marginals(sampler: Sampler, kind: Any, lag: int = 0, target: Target = DENSE, start: Normal = FAR, n: int = 8_000) -> None:
    """X against the chain simulated alone, Y against the target (lag 0) or against that chain too: Kolmogorov-Smirnov tests
    of V and of a projection at 1e-6. At n = 8,000 they see distribution functions that differ by 0.11."""
    law = propagate(Coupled.starting(start, target, n, 3, kind, lag, horizon=8), sampler, target, [4])[0]
    assert isinstance(law, Coupled)
    alone = simulate(Particles.of_normal(start, n, 17), sampler, target, [4])[0].x
    for mine, other in ((law.x, alone), (law.y, alone if lag else target.sample(n, Stream("fresh")))):
        for f in (target.potential, lambda x: x @ torch.linspace(1.0, 2.0, target.dim, dtype=torch.float64)):
            assert stats.ks_2samp(f(mine).numpy(), f(other).numpy()).pvalue > 1e-6


@pytest.mark.parametrize("kind", ["synchronous", "reflection"])
@pytest.mark.parametrize("sampler", [ULA(0.1), MALA(0.2), RandomWalk(0.6)], ids=lambda s: s.name)
def test_each_chain_has_its_own_law(sampler: Sampler, kind: str) -> None:
    check_marginals(sampler, kind)


@pytest.mark.parametrize("sampler", [HMC(0.4, 3), LangevinDiffusion(0.1), Proximal(0.2)], ids=lambda s: s.name)
def test_each_synchronous_chain_has_its_own_law(sampler: Sampler) -> None:
    check_marginals(sampler, "synchronous")


@pytest.mark.parametrize("sampler", [MALA(0.2), RandomWalk(0.6)], ids=lambda s: s.name)
def test_with_a_lag_both_chains_have_the_law_of_the_chain(sampler: Sampler) -> None:
    check_marginals(sampler, "reflection", lag=3)


def test_a_start_off_the_gaussian_family_is_coupled_and_keeps_its_law() -> None:
    """On the line by quantiles: the distance is W2 itself. In the plane by common normals."""
    line = Coupled.starting(RIGHT, SKEW, 20_000)
    assert stats.kstest((line.x[:, 0].numpy() - 2.5) / 0.4**0.5, "norm").pvalue > 1e-6
    assert bool((torch.diff(line.y[line.x[:, 0].argsort(), 0]) >= 0).all())
    exact = W2()(Grid.of_normal(RIGHT, mesh_for(SKEW, ULA(0.1), RIGHT)), SKEW).value
    assert W2()(line, SKEW).lower <= exact <= W2()(line, SKEW).upper
    plane = Coupled.starting(Normal(np.ones(2), np.diag([0.2, 3.0])), GaussianMixture.two_modes(3.0, dim=2), 20_000)
    assert stats.kstest((plane.x[:, 1].numpy() - 1.0) / 3**0.5, "norm").pvalue > 1e-6
    point = Coupled.starting(Normal(np.zeros(3), np.zeros((3, 3))), DENSE, 10)  # a start without a density
    assert float(point.x.abs().max()) < 1e-12


# Chains that meet.


def check_meeting(sampler: Sampler, x: float, y: float, target: Target = SKEW, n: int = 40_000) -> None:
    """One step from (x, y): two Metropolis chains meet with probability ``int min(q_x, q_y) min(a_x, a_y) dz``, the largest
    overlap of the proposals with the uniform in common, to 5.7 standard errors."""
    z = torch.linspace(-12.0, 12.0, 200_001, dtype=torch.float64).unsqueeze(1)
    accepted = []
    for at in (x, y):
        here = torch.full_like(z, at)
        log_q = sampler.log_proposal(target, here, z)  # type: ignore[attr-defined]
        accepted.append((log_q.exp(), sampler.log_ratio(target, here, z).clamp(max=0.0).exp()))  # type: ignore[attr-defined]
    (p, a), (q, b) = accepted
    stated = float((torch.minimum(p, q) * torch.minimum(a, b)).sum()) * 24.0 / 200_000
    pairs = Coupled(torch.full((n, 1), x, dtype=torch.float64), torch.full((n, 1), y, dtype=torch.float64), 5, "reflection")
    after = propagate(pairs, sampler, target, [1])[0]
    assert isinstance(after, Coupled)
    met = 1.0 - float(after.excess.mean())
    assert 0.05 < stated < 0.95 and abs(met - stated) < 5.7 * (stated * (1 - stated) / n) ** 0.5


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.7), (-1.0, 1.0), (2.0, 0.3)])
@pytest.mark.parametrize("sampler", [RandomWalk(1.0), MALA(0.4)], ids=lambda s: s.name)
def test_chains_meet_as_often_as_the_proposals_overlap(sampler: Sampler, x: float, y: float) -> None:
    check_meeting(sampler, x, y)


def check_reflection() -> None:
    """On a nearly flat target every proposal is taken: from a pair at a distance the chains meet with probability
    ``1 - TV = 2 Phi(-|x - y| / (2 sigma))``, to 5.7 standard errors; those that do not are mirror images, X - Y parallel to
    where it was; and each move alone is Gaussian, along the line between them and across it (Kolmogorov-Smirnov at 1e-6)."""
    n, flat, away = 40_000, Gaussian.isotropic(3, variance=1e14), torch.tensor([0.6, -0.8, 1.2], dtype=torch.float64)
    x = torch.zeros((n, 3), dtype=torch.float64)
    after = propagate(Coupled(x, x + away, 1, "reflection"), RandomWalk(0.9), flat, [1])[0]
    assert isinstance(after, Coupled)
    stated = 2 * float(stats.norm.cdf(-float(away.norm()) / 1.8))
    assert abs(1 - float(after.excess.mean()) - stated) < 5.7 * (stated * (1 - stated) / n) ** 0.5
    apart = (after.x - after.y)[after.excess > 0]
    assert float(torch.linalg.cross(apart, away.expand_as(apart)).abs().max()) < 1e-9
    for move in (after.x, after.y - away):
        for direction in (away, torch.tensor([0.8, 0.6, 0.0], dtype=torch.float64)):
            assert stats.kstest((move @ direction / (0.9 * direction.norm())).numpy(), "norm").pvalue > 1e-6


def test_proposals_meet_as_often_as_any_coupling_lets_them() -> None:
    check_reflection()


@pytest.mark.parametrize("sampler", [MALA(0.3), RandomWalk(0.8)], ids=lambda s: s.name)
@pytest.mark.parametrize("lag", [0, 4])
def test_chains_that_meet_stay_together(sampler: Sampler, lag: int) -> None:
    laws = propagate(Coupled.starting(FAR, DENSE, 500, 0, "reflection", lag), sampler, DENSE, list(range(0, 120, 5)))
    if lag == 0:
        apart = torch.stack([law.excess for law in laws])  # type: ignore[union-attr]
        assert bool((apart[1:] <= apart[:-1]).all()) and float(apart[4].mean()) > 0.0 and float(apart[-1].mean()) < 0.2
    else:
        for one, later in pairwise(laws):
            assert isinstance(one, Coupled) and isinstance(later, Coupled) and torch.equal(one.meeting, later.meeting)  # type: ignore[arg-type]
            assert bool((later.excess <= one.excess).all()) and bool((one.meeting >= lag).all())  # type: ignore[operator]


def test_ula_and_its_partner_may_part_again() -> None:
    """A bias is a distance that stays: the pairs part as often as they meet, and the bound does not fall to 0."""
    target = Gaussian.isotropic(5)
    law = propagate(Coupled.starting("target", target, 1000, 0, "reflection"), ULA(0.2), target, [200])[0]
    exact = propagate(Normal(np.zeros(5), np.eye(5)), ULA(0.2), target, [200])[0]
    assert isinstance(law, Coupled) and TV()(exact, target).value <= TV()(law, target).upper and 0.02 < TV()(law, target).value < 0.9


# Bounds in W2.


def check_flow_of_a_shift(sampler: Sampler) -> None:
    """Of the start N(a, v I) under the flow to N(0, v I) nothing is left but the shift, the same in every pair: equality,
    to rounding, with no width."""
    target, a = Gaussian.isotropic(4, variance=0.5), np.array([1.0, -2.0, 0.5, 3.0])
    laws = propagate(Coupled.starting(Normal(a, 0.5 * np.eye(4)), target, 50), sampler, target, [0, 1, 7])
    for k, law in zip((0, 1, 7), laws, strict=True):
        e, stated = W2()(law, target), np.linalg.norm(a) * np.exp(-2.0 * 0.1 * k)
        assert abs(e.value / stated - 1) < 1e-12 and e.upper - e.lower < 1e-6 * stated


def test_the_flow_of_a_shift_is_an_equality() -> None:
    check_flow_of_a_shift(LangevinDiffusion(0.1))


@pytest.mark.parametrize("sampler", [ULA(0.05), LangevinDiffusion(0.1), Proximal(0.2)], ids=lambda s: s.name)
def test_the_bound_is_above_the_exact_distance(sampler: Sampler) -> None:
    steps = [0, 1, 5, 20, 60]
    pairs, exact = (propagate(law, sampler, DENSE, steps) for law in (Coupled.starting(FAR, DENSE, 1000, 2), FAR))
    for law, affine in zip(pairs, exact, strict=True):
        assert W2()(affine, DENSE).value <= W2()(law, DENSE).upper


@pytest.mark.parametrize("n", [50, 400])
def test_the_interval_covers_the_mean(n: int) -> None:
    """Pairs of independent Gaussians in the plane: E|X - Y|^2 = 4. Three standard errors cover in 0.99 of the cases or more
    (skewness takes a little at n = 50); 400 repeats, and fewer than 0.97 would be a false alarm at 1e-4."""
    z = Stream("cover", n).normal((400, n, 4))
    found = [W2().coupled(Coupled(one[:, :2], one[:, 2:]), DENSE) for one in z]
    assert np.mean([e.lower <= 2.0 <= e.upper for e in found]) >= 0.97
    assert np.mean([e.lower <= e.value <= e.upper for e in found]) == 1.0


def test_one_pair_knows_nothing_and_equal_pairs_are_at_no_distance() -> None:
    x = torch.ones((1, 3), dtype=torch.float64)
    assert W2()(Coupled(x, 2 * x), DENSE).upper == np.inf and W2()(Coupled(x, x), DENSE).upper == 0.0
    assert TV()(Coupled(x, 2 * x), DENSE).value == 1.0 and TV()(Coupled(x, x), DENSE).upper == 1.0
    huge = torch.cat([1e150 * x, -1e150 * x, x])
    e = W2()(Coupled(huge, -huge), DENSE)
    assert np.isfinite(e.value) and e.value == pytest.approx(2e150 * 2**0.5, rel=1e-12)


# Bounds in total variation.


@pytest.mark.parametrize("lag", [0, 1, 5, 40])
@pytest.mark.parametrize("sampler", [MALA(0.3), RandomWalk(1.0)], ids=lambda s: s.name)
def test_the_bound_is_above_the_exact_total_variation(sampler: Sampler, lag: int) -> None:
    """Against the law on a mesh; it is an upper bound worth having: below 1/2 where the exact value is below 1/100."""
    steps = [0, 1, 3, 10, 30, 100]
    exact = propagate(Grid.of_normal(RIGHT, mesh_for(SKEW, sampler, RIGHT)), sampler, SKEW, steps)
    pairs = propagate(Coupled.starting(RIGHT, SKEW, 1000, 1, "reflection", lag), sampler, SKEW, steps)
    for law, grid in zip(pairs, exact, strict=True):
        e, value = TV()(law, SKEW), TV()(grid, SKEW).value
        assert value <= e.upper and e.side == "upper"
        assert e.value < 0.5 or value > 0.01


@given(st.integers(1, 9), st.integers(0, 40), st.lists(st.integers(0, 60), min_size=1, max_size=20))
def test_the_excess_counts_the_terms_of_the_telescope(lag: int, k: int, beyond: list[int]) -> None:
    """``sum over j >= 1 of 1[tau > k + j L]``, written out."""
    tau = [lag + b for b in beyond]
    x = torch.zeros((len(tau), 1), dtype=torch.float64)
    law = Coupled(x, x, lag=lag, meeting=torch.tensor(tau, dtype=torch.float64), steps=k)
    assert law.excess.tolist() == [sum(t > k + j * lag for j in range(1, 200)) for t in tau]


def check_lag(lag: int) -> None:
    """Independent exact draws on common numbers meet at the first joint step, so tau = L + 1, whatever the start: the bound
    is 1 before a step was made and 0 after one."""
    laws = propagate(Coupled.starting(FAR, DENSE, 20, 0, "synchronous", lag), Exact(), DENSE, [0, 1, 2, 2 * lag + 3])
    assert all(isinstance(law, Coupled) and law.meeting.tolist() == [lag + 1.0] * 20 for law in laws)  # type: ignore[union-attr]
    assert [TV()(law, DENSE).value for law in laws] == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("lag", [1, 2, 7])
def test_exact_draws_meet_at_once(lag: int) -> None:
    check_lag(lag)


def check_unmet() -> None:
    """Pairs given up at the horizon make the bound 1, however few they are."""
    laws = propagate(Coupled.starting(RIGHT, SKEW, 400, 1, "reflection", 1, horizon=12), RandomWalk(1.0), SKEW, [0, 10])
    for law in laws:
        assert isinstance(law, Coupled) and law.meeting is not None
        assert 0 < int(torch.isinf(law.meeting).sum()) < 200
        e = TV()(law, SKEW)
        assert e.value == e.upper == 1.0


def test_pairs_that_never_met_are_not_dropped() -> None:
    check_unmet()


def test_rare_events_stay_in_the_interval() -> None:
    """No pair apart of n: the upper end is that of Clopper-Pearson, about -log(0.00135)/n; with a lag, times what those apart
    at the start counted."""
    x = torch.zeros((1000, 1), dtype=torch.float64)
    none = TV()(Coupled(x, x), SKEW)
    assert none.value == 0.0 and none.upper == pytest.approx(-np.log(0.00135) / 1000, rel=0.01)
    late = Coupled(x, x, lag=2, meeting=torch.full((1000,), 8.0, dtype=torch.float64), steps=50)
    assert TV()(late, SKEW).upper == pytest.approx(3 * none.upper, rel=1e-9)


# The same numbers, whatever the blocks; routes and refusals.


@pytest.mark.parametrize("lag", [0, 3])
@pytest.mark.parametrize("kind", ["synchronous", "reflection"])
def test_blocks_do_not_change_a_number(monkeypatch: pytest.MonkeyPatch, kind: Any, lag: int) -> None:
    def run() -> Coupled:
        law = propagate(Coupled.starting(FAR, DENSE, 300, 1, kind, lag, horizon=60), MALA(0.3), DENSE, [0, 2, 9])[-1]
        assert isinstance(law, Coupled)
        return law

    whole = run()
    monkeypatch.setattr(coupling, "BLOCK_NUMBERS", 192)
    parts = run()
    assert torch.equal(whole.x, parts.x) and torch.equal(whole.y, parts.y)
    assert lag == 0 or torch.equal(whole.meeting, parts.meeting)  # type: ignore[arg-type]


def test_going_on_from_a_law_is_going_on() -> None:
    whole = propagate(Coupled.starting(FAR, DENSE, 100), MALA(0.3), DENSE, [3, 8])
    later = propagate(whole[0], MALA(0.3), DENSE, [5])[0]
    assert isinstance(whole[1], Coupled) and isinstance(later, Coupled) and torch.equal(whole[1].x, later.x) and torch.equal(whole[1].y, later.y)


def test_a_pair_that_diverges_is_told_and_not_averaged() -> None:
    pairs = Coupled.starting(Normal(np.array([30.0]), np.eye(1)), Quartic(), 100)
    law = propagate(pairs, ULA(0.1), Quartic(), [20])[0]
    assert isinstance(law, Coupled) and law.diverged == 1.0 and law.first_diverged is not None and bool(torch.isfinite(law.x).all())
    for metric in (W2(), TV()):
        with pytest.raises(Diverged, match="diverged, the first at step"):
            metric(law, Quartic())


def test_other_metrics_see_the_chain_as_a_sample() -> None:
    law = propagate(Coupled.starting(RIGHT, SKEW, 300, 0, "reflection", 2), MALA(0.3), SKEW, [5])[0]
    assert isinstance(law, Coupled)
    assert W2()(law, SKEW) == W2()(law.sample, SKEW) and W2()(law, SKEW).side != "upper"  # with a lag, Y is not at the target


class Unpartnered(ULA):
    """Biased, and names no partner."""

    def partner(self) -> Any:
        return Sampler.partner(self)


class Undrawable(SkewLogistic):
    """A density without an exact sampler."""

    sample = Target.sample  # type: ignore[assignment]


X = torch.zeros((3, 1), dtype=torch.float64)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Coupled(X, X[:2]), "two batches of one shape"),
        (lambda: Coupled(X[:0], X[:0]), "N >= 1"),
        (lambda: Coupled(X, X, coupling="mirror"), "synchronous or reflection"),  # type: ignore[arg-type]
        (lambda: Coupled(X, X, lag=-1), "lag must be at least 0"),
        (lambda: Coupled.starting(RIGHT, SKEW, 0), "n must be at least 1"),
        (lambda: Coupled.starting(RIGHT, Undrawable(), 5), "no exact sampler"),
        (lambda: check_coupling(ULA(0.1), Undrawable(), "synchronous", 0), "use a lag"),
        (lambda: check_coupling(ULA(0.1), SKEW, "reflection", 5), "biased: use lag 0"),
        (lambda: check_coupling(Unpartnered(0.1), SKEW, "synchronous", 0), "names no unbiased partner"),
        (lambda: check_coupling(HMC(0.1, 3), SKEW, "reflection", 0), "reflection needs"),
        (lambda: check_coupling(LangevinDiffusion(0.1), DENSE, "reflection", 0), "one multiple of a normal"),
        (lambda: check_coupling(Proximal(0.1), DENSE, "reflection", 0), "one normal per coordinate"),
        (lambda: check_coupling(Exact(), SKEW, "reflection", 0), "reflection needs"),
        (lambda: stationary(Coupled(X, X), MALA(0.1), SKEW), "particles and pairs is not known"),
        (lambda: W2().between(Coupled(X, X), Coupled(X, X)), "is not defined"),
        (lambda: propagate(Coupled(X, X, lag=1, steps=2), MALA(0.1), SKEW, [1]), "from their start only"),
        (lambda: mixrate.propagate(RIGHT, MALA(0.1), SKEW, 1, law="coupled", lag=-2), "lag must be at least 0"),
        (lambda: mixrate.propagate(Coupled(X, X), MALA(0.1), SKEW, 1, law="grid"), "coupled law cannot be carried as grid"),
        (lambda: mixrate.stationary(MALA(0.1), SKEW, law="coupled"), "not known"),  # type: ignore[arg-type]
    ],
)
def test_refusals_are_one_line(make: Any, message: str) -> None:
    with pytest.raises((InvalidInput, Unsupported)) as caught:
        make()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_facade_carries_pairs() -> None:
    law = mixrate.propagate(RIGHT, mixrate.sampler("mala", step_size=0.3), SKEW, 20, law="coupled", n=200, coupling="reflection", lag=10)
    assert isinstance(law, Coupled) and law.steps == 20 and law.lag == 10 and mixrate.metric("tv")(law, SKEW).side == "upper"


# Theorems on pairs: an upper value shows that a bound holds, never that it fails.


def case(target: Target, sampler: Sampler, start: Normal, steps: tuple[int, ...], n: int = 1000) -> Case:
    return Case(target, sampler, steps, propagate(Coupled.starting(start, target, n), sampler, target, steps))


def test_bounds_hold_on_pairs_and_are_never_refuted() -> None:
    target = Gaussian.ill_conditioned(4, 10.0, rotation=1)
    start = Normal(np.full(4, 2.0), 0.5 * np.eye(4))
    flow, chain = case(target, LangevinDiffusion(0.1), start, (0, 2, 5, 10)), case(target, ULA(0.005), start, (0, 1, 30, 300))
    for theorem, one in ((LDW2(), flow), (ULAW2(), chain), (ULAW2DK(), chain)):
        assert one.instrument == "C" and theorem.unmet(one) == []
        assert theorem.judge(theorem.rows(one)).word == "holds"
        assert theorem.judge(theorem.rows(one, 1e-3)).word == "inconclusive"
    assert "smallest C" not in ULAW2().judge(ULAW2().rows(chain)).figures  # an upper value needs no constant


def test_the_start_enters_by_its_closed_form() -> None:
    """Not by the coupling's own distance, against which every contraction would look as stated."""
    start = Normal(np.array([4.0]), np.array([[2.0]]))
    one = case(Gaussian.isotropic(1), LangevinDiffusion(0.1), start, (0, 3), n=10)
    assert one.initial(W2()) == pytest.approx(np.hypot(4.0, 2**0.5 - 1), rel=1e-9)
    assert one.measure(W2())[0].value != pytest.approx(one.initial(W2()), rel=1e-6)


# Planted bugs. Each must make a check above fail.


class _Offset(Noise):
    """Noise whose uniforms are mirrored, or whose normals are not those asked for first."""

    def __init__(self, noise: Noise, mirror: bool) -> None:
        self.noise, self.mirror = noise, mirror

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        if not self.mirror:
            self.noise.normal(shape)
        return self.noise.normal(shape)

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        u = self.noise.uniform(shape)
        return 1.0 - u if self.mirror else u


class OwnNoise(LangevinDiffusion):
    """Y moves by numbers of its own."""

    def partner(self) -> Sampler:
        class Other(LangevinDiffusion):
            def step(self, target: Target, state: Any, noise: Noise) -> Any:
                return super().step(target, state, _Offset(noise, mirror=False))

        return Other(self.step_size)


class OwnUniform(RandomWalk):
    """Y accepts by a uniform of its own."""

    def partner(self) -> Sampler:
        class Other(RandomWalk):
            def step(self, target: Target, state: Any, noise: Noise) -> Any:
                return super().step(target, state, _Offset(noise, mirror=True))

        return Other(self.scale)


def test_a_partner_with_noise_of_its_own_is_caught() -> None:
    with pytest.raises(AssertionError):
        check_flow_of_a_shift(OwnNoise(0.1))


def test_a_partner_with_a_uniform_of_its_own_is_caught() -> None:
    with pytest.raises(AssertionError):
        check_meeting(OwnUniform(1.0), 0.0, 0.7)


@pytest.mark.parametrize(
    "bend",
    [lambda xi, eta: (eta, 2 * xi - eta), lambda xi, eta: (eta, xi), lambda xi, eta: (xi, eta)],
    ids=["the wrong sign", "meeting without reflection", "reflection without meeting"],
)
def test_a_bent_reflection_is_caught(monkeypatch: pytest.MonkeyPatch, bend: Any) -> None:
    straight = coupling._Block._reflected

    def reflected(self: Any, k: int) -> Any:
        one, other, coincide = straight(self, k)
        other._normal = torch.where(coincide.unsqueeze(1), *bend(one._normal, other._normal))
        return one, other, coincide & (bend(0.0, 1.0)[0] == 1.0)

    monkeypatch.setattr(coupling._Block, "_reflected", reflected)
    with pytest.raises(AssertionError):
        check_reflection()


def test_a_lag_off_by_one_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    run = coupling._Block.run
    monkeypatch.setattr(coupling._Block, "run", lambda self, ks: (lambda out: (out[0], out[1] + 1.0))(run(self, ks)))
    with pytest.raises(AssertionError):
        check_lag(2)


def test_dropping_pairs_that_never_met_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Coupled.excess_at
    monkeypatch.setattr(Coupled, "excess_at", lambda self, k: (lambda e: e[torch.isfinite(e)])(honest(self, k)))
    with pytest.raises(AssertionError):
        check_unmet()


# The file format.

TEXT = """
title: pairs
claim: pairs
target: skew_logistic
sampler: {name: mala, step_size: 0.3}
start: {mean: 2.0, cov: 0.5}
law: {kind: coupled, n: 50, coupling: reflection, lag: 5}
steps: [1, 5]
metrics: [tv]
"""


def test_a_file_carries_pairs(tmp_path: Path) -> None:
    path = tmp_path / "pairs.yaml"
    path.write_text(TEXT)
    experiment = read(path)
    validate(experiment)
    table = run_point(experiment.points()[0])
    assert set(table["instrument"]) == {"C"} and set(table["side"]) == {"upper"} and set(table["status"]) == {"ok"}
    path.write_text(TEXT.replace("{mean: 2.0, cov: 0.5}", "{tilt: 0.5}"))
    assert "has no exact draws" in run_point(read(path).points()[0])["note"].iloc[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: mala", "name: ula", "biased: use lag 0"),
        ("lag: 5", "lag: -1", "greater than or equal to 0"),
        ("coupling: reflection", "coupling: mirror", "must be 'synchronous' or 'reflection'"),
        ("n: 50", "nodes: 51", "accepted: kind, n, coupling, lag, horizon"),
        ("{name: mala, step_size: 0.3}", "{name: hmc, step_size: 0.3}", "reflection needs"),
    ],
)
def test_a_file_with_pairs_that_cannot_be_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "pairs.yaml"
    path.write_text(TEXT.replace(old, new))
    with pytest.raises((InvalidInput, Unsupported)) as caught:
        validate(read(path))
    assert message in str(caught.value) and "\n" not in str(caught.value)
