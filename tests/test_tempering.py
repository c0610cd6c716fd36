"""Tempered samplers: swaps and weights against computations by hand, exact joint laws, log Z, costs, refusals, planted bugs.

Statistical tests run on fixed keys; the chance of a false alarm, over the keys, is 1e-6 each.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counting import counting
from scipy import special, stats

from mixrate.errors import Diverged, InvalidInput, Unsupported
from mixrate.experiments.cell import run_point
from mixrate.experiments.schema import read, validate
from mixrate.laws import memory, particles
from mixrate.laws.coupling import check_coupling
from mixrate.laws.grid import Grid
from mixrate.laws.normal import Normal
from mixrate.laws.particles import Particles, simulate
from mixrate.laws.propagate import propagate
from mixrate.metrics import log_z_error
from mixrate.metrics.log_z_error import LogZError
from mixrate.samplers import annealing, tempered
from mixrate.samplers.annealed_importance import AnnealedImportance
from mixrate.samplers.annealing import Annealing, Weighted, effective_size, log_mean, systematic
from mixrate.samplers.base import Sampler
from mixrate.samplers.diffusion.posterior import Paired
from mixrate.samplers.mala import MALA
from mixrate.samplers.metropolis import Point
from mixrate.samplers.noise import Noise, Stream
from mixrate.samplers.parallel_tempering import ParallelTempering, Replicas
from mixrate.samplers.sequential_monte_carlo import SequentialMonteCarlo
from mixrate.samplers.tempered import Reference, Scaled, Tempered, move
from mixrate.targets.base import Batch, Target
from mixrate.targets.double_well import DoubleWell
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.mesh import Mesh
from mixrate.targets.skew_logistic import SkewLogistic

DENSE = Gaussian([1.0, -0.5], [[1.0, 0.5], [0.5, 0.6]])
MODES = GaussianMixture.two_modes(8.0, dim=2, weight=0.3)
SKEW = SkewLogistic()
ALARM = 1e-6
#: Standard errors that a mean is off once in a million.
SIGMAS = float(special.ndtri(1 - ALARM / 2))


@dataclasses.dataclass(frozen=True, eq=False)
class Shifted(Target):
    """DENSE with 1.7 added to its potential: log Z is less by as much."""

    @property
    def dim(self) -> int:
        return 2

    def potential(self, x: Batch) -> torch.Tensor:
        return DENSE.potential(x) + 1.7

    def score(self, x: Batch) -> Batch:
        return DENSE.score(x)

    @property
    def log_normalizer(self) -> float:
        return DENSE.log_normalizer - 1.7


SHIFTED = Shifted()


class Given(Noise):
    """Given uniforms, no normals."""

    def __init__(self, u: float) -> None:
        self.u = u

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        raise AssertionError("a swap draws no normals")

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.full(shape, self.u, dtype=torch.float64)


def nothing(n: int = 1, d: int = 2) -> Particles:
    return Particles(torch.zeros((n, d), dtype=torch.float64))


# The path.


@pytest.mark.parametrize("reference", [None, Reference(1.7, -0.4)])
def test_the_path_is_the_geometric_one(reference: Reference | None) -> None:
    """Against sums of potentials, its score against automatic differentiation; and what is known where V is, with no evaluation."""
    x = 2 * Stream("path").normal((50, 2))
    here = Point(x, *MODES.potential_and_score(x))
    for b in (1e-3, 0.4, 1.0):
        path, normal = Tempered(MODES, b, reference), stats.norm(-0.4, 1.7)
        v_0 = -normal.logpdf(x.numpy()).sum(1) if reference else 0.0
        stated = b * MODES.reference(x)[0].numpy() + (1 - b) * v_0
        y = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(path.potential(y).sum(), y)
        for v, s in (path.potential_and_score(x), path.at(here)[1:], (path.potential(x), path.score(x))):
            assert np.allclose(v.numpy(), stated, rtol=1e-12, atol=1e-12) and torch.allclose(s, -gradient, rtol=1e-11, atol=1e-11)
        rise = 1e-3
        above, below = Tempered(MODES, b + rise, reference).potential(x), Tempered(MODES, b - rise, reference).potential(x)
        assert torch.allclose(path.energy(here), (above - below) / (2 * rise), rtol=1e-9, atol=1e-9)


def test_a_reference_is_normalised_and_drawn_from() -> None:
    reference, y = Reference(0.7, 1.5), torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    assert float(torch.exp(-reference.potential(y)).sum() * (y[1, 0] - y[0, 0])) == pytest.approx(1.0, abs=1e-12)
    drawn = reference.draw(torch.zeros((20_000, 1), dtype=torch.float64), Stream("reference"))
    assert stats.kstest(drawn[:, 0].numpy(), stats.norm(1.5, 0.7).cdf).pvalue > ALARM


def test_step_sizes_follow_the_curvature() -> None:
    """h/b without a reference; ``w^2 d^(-1/3)`` on it, where MALA accepts the same share in every dimension; h on the target."""
    assert Tempered(MODES, 0.25).step_size(0.3) == pytest.approx(1.2) and Tempered(MODES, 1.0, Reference(2.0)).step_size(0.3) == pytest.approx(0.3)
    rates = []
    for d in (1, 8, 64):
        target = Gaussian.isotropic(d, 4.0)  # the reference itself
        h = Tempered(Gaussian.isotropic(d), 1e-12, Reference(2.0)).step_size(0.3)
        assert h == pytest.approx(4.0 * d ** (-1 / 3), rel=1e-9)
        rates.append(float(simulate(Particles.of_target(target, 5000), MALA(h), target, [1])[0].acceptance or 0.0))
    assert all(0.70 < rate < 0.81 for rate in rates)


def check_moves_carry_what_the_target_says() -> None:
    """V and score of where the particles are, moved or not; and the move itself is MALA's on the tempered density."""
    path = Tempered(SKEW, 0.3, Reference(2.0))
    here = Point(x := Stream("moves").normal((200, 1)), *SKEW.potential_and_score(x))
    for k in range(4):
        other = MALA(path.step_size(0.8)).step(path, path.at(here), Stream("moves").at(k))
        there = move(path, here, 0.8, Stream("moves").at(k))
        assert torch.equal(there.x, other.x) and 0.05 < float((there.x == here.x).double().mean()) < 0.95
        assert torch.equal(there.potential, SKEW.potential(there.x)) and torch.equal(there.score, SKEW.score(there.x))
        here = there


def test_moves_carry_what_the_target_says() -> None:
    check_moves_carry_what_the_target_says()


# Swaps.


def replicas(sampler: ParallelTempering, target: Target, positions: list[Batch], rounds: int = 0) -> tuple[Point, Replicas]:
    """Replicas at given positions: as rows, and as a state."""
    places = [Point(x, *target.potential_and_score(x)) for x in positions]
    n, k = len(positions[0]), sampler.replicas
    fields = torch.stack(positions[1:], 1), torch.stack([p.potential for p in places], 1), torch.stack([p.score for p in places], 1)
    counts = torch.full((n,), rounds), torch.zeros((n, k - 1), dtype=torch.int64)
    return Point(*(torch.cat(parts) for parts in zip(*places, strict=True))), Replicas(positions[0], *fields, *counts)


def ladder(state: Replicas) -> torch.Tensor:
    """All positions, (n, K, d)."""
    return torch.cat([state.x.unsqueeze(1), state.others], 1)


def check_swap(width: float | None = None) -> None:
    """Two places: a change of places is accepted at uniforms below ``pi(swapped)/pi(here)`` and refused above, pair by pair in turns,
    and takes everything along. The ratio is that of the joint density, built from its potentials."""
    sampler = ParallelTempering(0.1, 3, 8.0, width)
    ends = torch.tensor([[0.4], [1.9]], dtype=torch.float64)
    paths = [Tempered(SKEW, b, sampler.reference) for b in sampler.inverse_temperatures]
    for rounds, i, j, k in itertools.product((0, 1), (0, 1), (0, 1), (0, 1)):
        at = [i, j, k]
        places, state = replicas(sampler, SKEW, [ends[[s]] for s in at], rounds)
        swapped = [j, i, k] if rounds == 0 else [i, k, j]
        joint = [sum(float(p.potential(ends[[s]])) for p, s in zip(paths, places_, strict=True)) for places_ in (at, swapped)]
        ratio = math.exp(joint[0] - joint[1])
        for u, expected in ((min(ratio, 1.0) * (1 - 1e-9), swapped), (ratio * (1 + 1e-9), at)):
            if u >= 1:
                continue
            found = sampler.swap(SKEW, places, state, Given(u))
            assert torch.equal(ladder(found)[0], ends[expected]), (at, rounds)
            assert torch.equal(found.potentials[0], torch.cat([SKEW.potential(ends[[s]]) for s in expected]))
            assert torch.equal(found.scores[0], torch.cat([SKEW.score(ends[[s]]) for s in expected]))
            assert int(found.rounds) == rounds + 1
            # at one place both ends are the same, and nobody sees whether they have changed
            moved = [int(expected is swapped and rounds == 0), int(expected is swapped and rounds == 1)]
            assert found.swaps[0].tolist() == moved


@pytest.mark.parametrize("width", [None, 2.0])
def test_swap(width: float | None) -> None:
    check_swap(width)


def test_every_row_swaps_for_itself() -> None:
    """Rows in different rounds, in one batch, as rows alone: a frozen row does not drag the others along."""
    sampler = ParallelTempering(0.1, 4, 20.0)
    positions = [2 * Stream("rows", k).normal((300, 2)) for k in range(4)]
    places, state = replicas(sampler, MODES, positions)
    assert all(torch.equal(f, g) for f, g in zip(sampler.places(state), places, strict=True))
    state = state._replace(rounds=torch.arange(300) % 2)
    whole = sampler.swap(MODES, places, state, Given(0.3))
    for parity in (0, 1):
        rows = slice(parity, None, 2)
        some = Replicas(*(f[rows] for f in state))
        part = sampler.swap(MODES, sampler.places(some), some, Given(0.3))
        assert all(torch.equal(f[rows], g) for f, g in zip(whole, part, strict=True))
    assert 0.1 < float(whole.swaps[:, 0].double().mean()) < 0.5  # half of the rows, at most
    assert int(whole.swaps[0, 1] + whole.swaps[1, 0] + whole.swaps[1, 2]) == 0


def test_one_replica_is_mala() -> None:
    """Number by number."""
    one, other, x = ParallelTempering(0.7, 1), MALA(0.7), Stream("one").normal((300, 2))
    mine, theirs = one.init(DENSE, x, Stream("unused")), other.init(DENSE, x, Stream("unused"))
    for k in range(4):
        mine, theirs = one.step(DENSE, mine, Stream("one").at(k)), other.step(DENSE, theirs, Stream("one").at(k))
        assert torch.equal(mine.x, theirs.x)
    assert mine.others.shape == (300, 0, 2) and mine.swaps.shape == (300, 0) and mine.rounds.tolist() == [4] * 300


class OfReplica(Noise):
    """What a step of all replicas at once draws first, as one of them alone would."""

    def __init__(self, k: int, normals: torch.Tensor, uniforms: torch.Tensor) -> None:
        self.z, self.u = normals[:, k], uniforms[:, k]

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        assert shape == tuple(self.z.shape)
        return self.z

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        assert shape == tuple(self.u.shape)
        return self.u


def one_by_one(sampler: ParallelTempering, target: Target, state: Replicas, noise: Stream) -> tuple[list[Point], torch.Tensor]:
    """A step replica by replica and swap by swap, on the numbers that `step` draws: the replicas, and which pairs changed places."""
    n, k, d = len(state.x), sampler.replicas, target.dim
    normals, uniforms, draws = noise.normal((n, d * k)).reshape(n, d, k).mT, noise.uniform((n, k)), noise.uniform((n, k // 2))
    places, x, swapped = [], ladder(state), torch.zeros((n, k - 1), dtype=torch.int64)
    for j, b in enumerate(sampler.inverse_temperatures):
        here = Point(x[:, j], state.potentials[:, j], state.scores[:, j])
        places.append(move(Tempered(target, b, sampler.reference), here, sampler.step_size, OfReplica(j, normals, uniforms)))
    v_0 = [0 * p.potential if sampler.reference is None else sampler.reference.potential(p.x) for p in places]
    b = sampler.inverse_temperatures
    before = [Point(*(f.clone() for f in p)) for p in places]
    for i, j in itertools.product(range(n), range(k - 1)):
        gap = (before[j].potential[i] - v_0[j][i]) - (before[j + 1].potential[i] - v_0[j + 1][i])
        if (int(state.rounds[i]) + j) % 2 == 0 and float(draws[i, j // 2]) < math.exp(min(0.0, (b[j] - b[j + 1]) * float(gap))):
            swapped[i, j] = 1
            for f in range(3):
                places[j][f][i], places[j + 1][f][i] = before[j + 1][f][i], before[j][f][i]
    return places, swapped


def check_all_at_once(width: float | None = None, k: int = 5) -> None:
    """A step of all replicas in one call is that of one after the other, to rounding, whichever round a row is in."""
    sampler, n = ParallelTempering(0.9, k, 12.0, width, 0.3), 60
    for target in (MODES, DENSE, SKEW):
        _, state = replicas(sampler, target, [3 * Stream("at once", j).normal((n, target.dim)) for j in range(k)])
        state = state._replace(rounds=torch.arange(n) % 2)
        for step in range(3):
            places, swapped = one_by_one(sampler, target, state, Stream("at once").at(step))
            new = sampler.step(target, state, Stream("at once").at(step))
            found = ladder(new), new.potentials, new.scores
            for mine, theirs in zip(found, zip(*places, strict=True), strict=True):
                assert torch.allclose(mine, torch.stack(theirs, 1), rtol=1e-12, atol=1e-12)
            assert torch.equal(new.swaps - state.swaps, swapped) and torch.equal(new.rounds, state.rounds + 1)
            stayed = (new.scores == state.scores).double().mean()
            assert 0.01 < float(stayed) < 0.9 and (k == 1 or 0 < int(swapped.sum()) < n * (k - 1) / 2)
            state = new


@pytest.mark.parametrize("width", [None, 2.0])
@pytest.mark.parametrize("k", [2, 5, 6])
def test_all_at_once_is_one_by_one(width: float | None, k: int) -> None:
    check_all_at_once(width, k)


def tempered_law(sampler: ParallelTempering, b: float) -> Normal:
    """The law at b on DENSE: of precision ``b P + (1 - b)/w^2``."""
    p, weak = DENSE.precision.numpy(), 0.0 if sampler.reference is None else (1 - b) / sampler.reference.width**2
    cov = np.linalg.inv(b * p + weak * np.eye(2))
    return Normal(cov @ (b * p @ DENSE.mean.numpy() + weak * sampler.centre), (cov + cov.T) / 2)


def check_joint_law(width: float | None = None) -> None:
    """Every replica at exact draws of its own law: four steps later they still have these laws, and are uncorrelated."""
    n, steps = 20_000, 4
    sampler = ParallelTempering(0.25, 3, 6.0, width, 0.5)
    laws = [tempered_law(sampler, b) for b in sampler.inverse_temperatures]
    _, state = replicas(sampler, DENSE, [Particles.of_normal(law, n, seed).x for seed, law in enumerate(laws)])
    for k in range(steps):
        state = sampler.step(DENSE, state, Stream("joint").at(k))
    z, direction = ladder(state).numpy(), np.array([1.0, -2.0])
    assert torch.allclose(state.potentials[:, 1], DENSE.potential(state.others[:, 0]), atol=1e-12)
    depths = np.empty((3, n))
    for j, law in enumerate(laws):
        away = z[:, j] - law.mean
        depths[j] = (away * np.linalg.solve(law.cov, away.T).T).sum(1)
        assert stats.kstest(depths[j], stats.chi2(2).cdf).pvalue > ALARM / 9
        assert stats.kstest(away @ direction, stats.norm(0, np.sqrt(direction @ law.cov @ direction)).cdf).pvalue > ALARM / 9
    off = np.corrcoef(depths)[np.triu_indices(3, 1)]
    assert np.abs(off).max() < 1.1 * SIGMAS / np.sqrt(n)  # a tenth more: squares have heavier tails than normals
    rates = state.swaps.double().mean(0) / (steps / 2)
    assert bool(((rates > 0.2) & (rates < 0.95)).all())  # they are accepted, and refused


@pytest.mark.parametrize("width", [None, 2.0])
def test_the_joint_law_is_invariant(width: float | None) -> None:
    check_joint_law(width)


def test_modes_far_apart_get_their_weights() -> None:
    """All particles start in the left mode, of weight 0.3: MALA stays there, tempering finds 0.7 on the right, with and without a reference."""
    n = 600
    start = Particles(MODES.means[:1].repeat(n, 1))
    assert float((simulate(start, MALA(0.5), MODES, [200])[0].x[:, 0] > 0).double().mean()) < 0.01
    for sampler in (ParallelTempering(0.5, 6, 30.0), ParallelTempering(0.5, 6, 30.0, width=5.0)):
        right = float((simulate(start, sampler, MODES, [200])[0].x[:, 0] > 0).double().mean())
        assert abs(right - 0.7) < SIGMAS * (0.21 / n) ** 0.5 + 0.02  # and 0.02 for what 200 steps have left of the start


# Weights.


def hand_mala(target: Target, b: float, w: float, h: float, x: np.ndarray, xi: np.ndarray, u: np.ndarray) -> np.ndarray:
    """One step on ``b V + (1 - b) V_0`` in d = 1, particle by particle, from the formulas."""

    def potential(y: float) -> float:
        return b * float(target.potential(torch.tensor([[y]]).double())) + (1 - b) * (y * y / (2 * w * w) + math.log(w * math.sqrt(2 * math.pi)))

    def drift(y: float) -> float:
        return y + h * (b * float(target.score(torch.tensor([[y]]).double())) - (1 - b) * y / w**2)

    out = x.copy()
    for i, here in enumerate(x):
        there = drift(here) + math.sqrt(2 * h) * xi[i]
        ratio = potential(here) - potential(there) - ((here - drift(there)) ** 2 - (there - drift(here)) ** 2) / (4 * h)
        out[i] = there if math.log(u[i]) < ratio else here
    return out


def check_weights_by_hand() -> None:
    """Six particles, levels 0, 1/9, 4/9, 1, two moves each: positions and weights from the formulas, on the sampler's own noise."""
    sampler, n, w = AnnealedImportance(3, 0.4, 2.0, moves=2, spacing="quadratic", least_points=0), 6, 2.0
    noise = Stream("hand")
    state = sampler.init(SKEW, torch.zeros((n, 1), dtype=torch.float64), noise.at(0))
    x, log_w = w * Stream("hand").at(0).normal((n, 1))[:, 0].numpy(), np.zeros(n)
    for k, (before, b) in enumerate([(0.0, 1 / 9), (1 / 9, 4 / 9), (4 / 9, 1.0)]):
        v = SKEW.potential(torch.as_tensor(x[:, None])).numpy()
        log_w -= (b - before) * (v + stats.norm(0, w).logpdf(x))
        same, h = Stream("hand").at(k + 1), 1 / (b / 0.4 + (1 - b) / w**2)
        state = sampler.advance(k, SKEW, state, noise.at(k + 1))
        if k < 2:
            for _ in range(2):
                xi, u = same.normal((n, 1))[:, 0].numpy(), same.uniform((n,)).numpy()
                x = hand_mala(SKEW, b, w, h, x, xi, u)
            assert np.allclose(state.x[:, 0], x, atol=1e-12) and np.allclose(state.log_weights, log_w, atol=1e-12)
            assert np.allclose(state.potential, SKEW.potential(state.x), atol=1e-12)
    assert np.allclose(state.log_weights, special.logsumexp(log_w) - math.log(n), atol=1e-12)


def test_weights_by_hand() -> None:
    check_weights_by_hand()


def weights(sampler: Annealing, target: Target, n: int, *key: object) -> torch.Tensor:
    """log w of AIS just before its last resampling, from the state a step before."""
    (law,) = simulate(nothing(n, target.dim), sampler, target, [sampler.levels - 1], key=key)
    b = sampler.inverse_temperatures
    here = Point(law.x, target.potential(law.x), law.x)
    assert law.log_weights is not None
    return law.log_weights - (b[-1] - b[-2]) * Tempered(target, 1.0, sampler.reference).energy(here)


def check_ais_is_unbiased() -> None:
    """``E w = Z``, at step sizes at which a fifth of the moves and more are refused; the final rows hold the mean; the ESS is not tiny."""
    for sampler in (AnnealedImportance(5, 0.3, 1.8), AnnealedImportance(4, 0.5, 2.0, 0.5, moves=2, spacing="quadratic")):
        log_w = weights(sampler, SHIFTED, 40_000, "unbiased")
        w = torch.exp(log_w - SHIFTED.log_normalizer)
        assert effective_size(log_w) > 4000
        assert abs(float(w.mean()) - 1) < SIGMAS * float(w.std()) / 200 < 0.1
        (end,) = simulate(nothing(40_000), sampler, SHIFTED, [sampler.levels], key=("unbiased",))
        assert end.log_weights is not None and torch.allclose(end.log_weights, torch.tensor(log_mean(log_w)).double(), atol=1e-12)


def test_ais_is_unbiased() -> None:
    check_ais_is_unbiased()


def check_smc_is_unbiased() -> None:
    """250 runs of 8 particles that are resampled when fewer than 6 count: the mean of the estimates of Z, and their logarithms too low."""
    sampler, runs = SequentialMonteCarlo(3, 0.3, 1.8, least_ess=0.75, least_points=0), 250
    log_z = np.empty(runs)
    for i in range(runs):
        state = sampler.init(SHIFTED, torch.zeros((8, 2), dtype=torch.float64), Stream("runs", i))
        for k in range(3):
            state = sampler.advance(k, SHIFTED, state, Stream("runs", i).at(k + 1))
        log_z[i] = float(state.log_weights[0]) - SHIFTED.log_normalizer
    z = np.exp(log_z)
    assert abs(z.mean() - 1) < SIGMAS * z.std() / np.sqrt(runs) < 0.3
    assert log_z.mean() < 0


def test_smc_is_unbiased() -> None:
    check_smc_is_unbiased()


@pytest.mark.parametrize("kind", [AnnealedImportance, SequentialMonteCarlo])
def test_modes_and_log_z(kind: type[Annealing]) -> None:
    """Weights 0.3 and 0.7 far apart, and log Z = 0; the spread over seeds is that of an ESS of some hundreds or more."""
    shares, errors = [], []
    for seed in range(12):
        start = Particles(torch.zeros((1500, 2), dtype=torch.float64), seed)
        (end,) = simulate(start, kind(40, 0.5, 5.0), MODES, [40])
        assert end.log_weights is not None
        shares.append(float((end.x[:, 0] > 0).double().mean()))
        errors.append(float(end.log_weights[0]))
        assert LogZError()(end, MODES).value == pytest.approx(abs(errors[-1]), abs=1e-12)
    for found, truth in ((shares, 0.7), (errors, 0.0)):
        assert abs(np.mean(found) - truth) < float(stats.t(11).isf(ALARM / 2)) * np.std(found, ddof=1) / np.sqrt(12)
        assert np.std(found) < 0.1


def check_sums_of_weights() -> None:
    """Against their definitions, at sizes that overflow."""
    for shift in (0.0, 5000.0, -5000.0):
        logs = 2 * Stream("sums").normal((300,))
        w = torch.exp(logs)
        assert log_mean(logs + shift) == pytest.approx(float(torch.log(w.mean())) + shift, abs=1e-9)
        assert effective_size(logs + shift) == pytest.approx(float(w.sum() ** 2 / (w**2).sum()), rel=1e-9)
    assert log_mean(torch.full((5,), -torch.inf)) == -math.inf and math.isnan(effective_size(torch.full((5,), -torch.inf)))
    assert math.isnan(effective_size(torch.tensor([0.0, torch.nan])))


def test_sums_of_weights() -> None:
    check_sums_of_weights()


def check_systematic() -> None:
    """Every particle n w times, rounded up or down; n w times on the average over u, by quadrature; never where w = 0."""
    logs = 1.5 * Stream("systematic").normal((40,))
    logs[[3, 39]] = -torch.inf
    share = 40 * torch.softmax(logs, 0)
    total = torch.zeros(40, dtype=torch.float64)
    us = (np.arange(2000) + 0.5) / 2000
    for u in (*us, 1e-17, 1 - 1e-16):
        counts = torch.bincount(systematic(logs, float(u)), minlength=40)
        assert int(counts.sum()) == 40 and bool(((counts - share).abs() < 1 + 1e-9).all()) and int(counts[3] + counts[39]) == 0
        total += counts * (0 < u < 1) / 2002
    assert float((total - share).abs().max()) < 2e-3  # each count jumps at two u: 2/2000
    assert systematic(torch.zeros(7), 0.4).tolist() == list(range(7))


def test_systematic() -> None:
    check_systematic()


def test_levels() -> None:
    for spacing, levels in (
        ("linear", [0, 0.25, 0.5, 0.75, 1]),
        ("quadratic", [0, 1 / 16, 1 / 4, 9 / 16, 1]),
        ("geometric", [0, 1e-3, 1e-2, 0.1, 1]),
    ):
        assert AnnealedImportance(4, 0.1, 1.0, spacing=spacing).inverse_temperatures == pytest.approx(levels, abs=1e-15)
        assert AnnealedImportance(1, 0.1, 1.0, spacing=spacing).inverse_temperatures == (0.0, 1.0)
    assert ParallelTempering(0.1, 3, 16.0).inverse_temperatures == pytest.approx((1, 0.25, 0.0625))


def test_smc_that_never_resamples_on_the_way_is_ais() -> None:
    one, other = SequentialMonteCarlo(6, 0.4, 2.0, least_ess=0.0), AnnealedImportance(6, 0.4, 2.0)
    mine, theirs = (simulate(nothing(200), s, DENSE, [0, 3, 6], key=("same",)) for s in (one, other))
    for a, b in zip(mine, theirs, strict=True):
        assert torch.equal(a.x, b.x) and torch.equal(a.log_weights, b.log_weights)
    (often,) = simulate(nothing(200), SequentialMonteCarlo(6, 0.4, 2.0, least_ess=1.0), DENSE, [3], key=("same",))
    assert bool((often.log_weights == often.log_weights[0]).all()) and not bool((mine[1].log_weights == mine[1].log_weights[0]).all())


# Laws.


ANNEALED: list[Annealing] = [AnnealedImportance(4, 0.4, 2.0), SequentialMonteCarlo(4, 0.4, 2.0, least_ess=0.9)]


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("sampler", [ANNEALED[1], ParallelTempering(0.4, 3)], ids=lambda s: s.name)
def test_blocks_and_threads_change_no_bit(sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 000 particles where they are one block: as many as torch shares out to its threads."""
    n = 40_000 if sampler.interacts else 1000
    found = []
    for block, count in ((10_000, 1), (256, 2)):
        torch.set_num_threads(count)
        monkeypatch.setattr(particles, "BLOCK_NUMBERS", 2 * block)
        found.append(simulate(nothing(n), sampler, MODES, [2, 4 if sampler.interacts else 3]))
    for laws in found[1:]:
        for a, b in zip(laws, found[0], strict=True):
            assert torch.equal(a.x, b.x)
            assert (a.log_weights is None) == (not sampler.interacts) and (a.log_weights is None or torch.equal(a.log_weights, b.log_weights))


@pytest.mark.parametrize("sampler", ANNEALED, ids=lambda s: s.name)
def test_the_law_at_step_zero_is_the_reference(sampler: Annealing) -> None:
    first, last = simulate(Particles(torch.full((20_000, 2), 50.0, dtype=torch.float64)), sampler, DENSE, [0, 4])
    assert stats.kstest(first.x.reshape(-1).numpy(), stats.norm(0, 2).cdf).pvalue > ALARM
    assert first.log_weights is not None and not bool(first.log_weights.any()) and last.diverged == 0.0


def test_particles_keep_their_weights() -> None:
    (law,) = simulate(nothing(100), ANNEALED[0], DENSE, [3])
    assert law.log_weights is not None and law.to("float32", "cpu").log_weights.dtype == torch.float32  # type: ignore[union-attr]
    assert torch.equal(law.to("float64", "cpu").log_weights, law.log_weights) and "weights" not in repr(law)
    with pytest.raises(InvalidInput, match=r"log_weights must have shape \(100,\), one per particle, got \(3,\)"):
        dataclasses.replace(law, log_weights=torch.zeros(3))


def test_one_block_counts_in_what_is_refused_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert particles.positions_bytes(10, 3, 5, interacts=True) == 8 * 10 * (4 * 5 + particles.WHOLE * 3)
    monkeypatch.setattr(memory, "total", lambda: 400_000)
    assert simulate(nothing(1000), MALA(0.1), DENSE, [1])[0].n == 1000
    with pytest.raises(InvalidInput, match="1000 particles in d = 2 at 1 recorded steps need"):
        simulate(nothing(1000), ANNEALED[0], DENSE, [1])


@pytest.mark.parametrize("sampler", [*ANNEALED, AnnealedImportance(3, 0.4, 2.0, moves=3), ParallelTempering(0.4, 5)], ids=lambda s: s.name)
def test_declared_costs_are_the_calls_made(sampler: Sampler) -> None:
    """Rows at which the target was evaluated, per particle."""
    target, counts = counting()
    state = sampler.init(target, torch.zeros((40, 1), dtype=torch.float64), Stream("count"))
    assert counts == {"potential": 40, "score": 40}
    for k in range(3):
        counts.update(potential=0, score=0)
        state = sampler.at(k).step(target, state, Stream("count").at(k))
        assert counts == {"potential": 40 * sampler.potential_evaluations, "score": 40 * sampler.score_evaluations}


@pytest.mark.parametrize("sampler", [*ANNEALED, ParallelTempering(0.4, 3, width=2.0)], ids=lambda s: s.name)
def test_float32_runs_in_float32(sampler: Sampler) -> None:
    law = simulate(Particles(torch.zeros((200, 2), dtype=torch.float32)), sampler, MODES, [4])[0]
    assert law.x.dtype == torch.float32 and law.diverged == 0.0
    assert law.log_weights is None or law.log_weights.dtype == torch.float32


# What is refused.


YAML = """title: x
claim: y
tier: smoke
target: {name: gaussian_mixture.two_modes, separation: 3}
sampler: {name: sequential_monte_carlo, levels: 4, step_size: 0.3, width: 2}
start: {mean: 0, cov: 1}
law: particles
steps: [2, 4]
metrics: [log_z_error]
"""


def test_particles_that_see_each_other_have_no_other_law(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    for law, word in (("normal", "normal"), ("grid", "grid"), ("{kind: coupled, n: 50}", "coupled")):
        path.write_text(YAML.replace("law: particles", f"law: {law}"), encoding="utf-8")
        with pytest.raises(InvalidInput, match=f"law must be particles for sequential_monte_carlo, whose particles see each other, got {word}"):
            validate(read(path))
    path.write_text(YAML, encoding="utf-8")
    validate(read(path))
    line = GaussianMixture.two_modes(3.0)
    for start, target in ((Normal(np.zeros(2), np.eye(2)), DENSE), (Grid.of_target(line, Mesh((-9.0,), (9.0,), 301)), line)):
        for sampler in ANNEALED:
            with pytest.raises(Unsupported, match="moves particles that see each other, and has no exact law: use particles"):
                propagate(start, sampler, target, [2])
    for sampler, words in ((ANNEALED[0], "follows a schedule"), (ParallelTempering(0.1), "the law of all its replicas")):
        for lag in (0, 3):
            with pytest.raises(Unsupported, match=words):
                check_coupling(sampler, DENSE, "synchronous", lag)
    with pytest.raises(Unsupported, match="draws uniform numbers"):
        propagate(Normal(np.zeros(2), np.eye(2)), ParallelTempering(0.1), DENSE, [2])
    with pytest.raises(Unsupported, match="are not taken up after 2 steps"):
        simulate(simulate(nothing(50), ANNEALED[0], DENSE, [2])[0], ANNEALED[0], DENSE, [1])


def test_starved_particles_end_the_run(tmp_path: Path) -> None:
    """A narrow reference far off, in one level: one particle has all the weight, and the row reads `diverged`."""
    for sampler in (AnnealedImportance(1, 0.1, 0.5, 80.0), SequentialMonteCarlo(1, 0.1, 0.5, 80.0)):
        with pytest.raises(Diverged, match=r"^ESS too low: 1 of 300 particles at level 1 of 1, least_points = 5; raise levels") as caught:
            simulate(nothing(300), sampler, MODES, [1])
        assert caught.value.step == 1 and caught.value.fraction == 1.0

    class Hole(Shifted):
        def potential(self, x: Batch) -> torch.Tensor:
            return torch.where(x[:, 0] > 0, super().potential(x), torch.nan)

    for annealed in ANNEALED:
        with pytest.raises(Diverged, match="ESS too low: nan of 300"):
            simulate(nothing(300), annealed, Hole(), [4])
    path = tmp_path / "x.yaml"
    path.write_text(YAML.replace("levels: 4", "levels: 4, centre: 300"), encoding="utf-8")
    rows = run_point(read(path).points()[0])
    assert set(rows["status"]) == {"diverged"} and rows["note"].str.startswith("ESS too low").all()


def test_points_outside_the_support_have_no_weight() -> None:
    class Half(Shifted):
        def potential(self, x: Batch) -> torch.Tensor:
            return torch.where(x[:, 0] > 1, super().potential(x), torch.inf)  # half of the mass

    for annealed in ANNEALED:
        (end,) = simulate(nothing(4000), annealed, Half(), [4])
        assert bool((end.x[:, 0] > 1).all()) and end.log_weights is not None
        assert abs(float(end.log_weights[0]) - SHIFTED.log_normalizer + math.log(2)) < 0.2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ParallelTempering(0.0), "step_size must be a positive"),
        (lambda: ParallelTempering(0.1, 0), "replicas must be a whole number of at least 1, got 0"),
        (lambda: ParallelTempering(0.1, True), "replicas must be a whole number"),
        (lambda: ParallelTempering(0.1, 3, 1.0), "hottest must be above 1"),
        (lambda: ParallelTempering(0.1, 3, float("nan")), "hottest must be a positive"),
        (lambda: ParallelTempering(0.1, width=-1.0), "width must be a positive"),
        (lambda: AnnealedImportance(0, 0.1, 1.0), "levels must be a whole number of at least 1"),
        (lambda: AnnealedImportance(3, 0.1, 1.0, moves=0), "moves must be a whole number of at least 1"),
        (lambda: AnnealedImportance(3, -0.1, 1.0), "step_size must be a positive"),
        (lambda: AnnealedImportance(3, 0.1, 0.0), "width must be a positive"),
        (lambda: AnnealedImportance(3, 0.1, 1.0, spacing="log"), "spacing must be one of linear, quadratic, geometric, got 'log'"),
        (lambda: AnnealedImportance(3, 0.1, 1.0, first=1.0), r"first must be in \(0, 1\)"),
        (lambda: AnnealedImportance(3, 0.1, 1.0, least_points=-1.0), "least_points must be at least 0"),
        (lambda: SequentialMonteCarlo(3, 0.1, 1.0, least_ess=1.5), r"least_ess must be in \[0, 1\]"),
        (lambda: AnnealedImportance(3, 0.1, 1.0).at(3), "steps must be at most 3"),
    ],
)
def test_what_is_out_of_range_is_refused(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{words}"):
        make()


# The metric.


def check_log_z_error() -> None:
    """The logarithm of the mean weight, less the target's log Z, on either side of it; equal weights have no interval."""
    x = torch.zeros((4, 2), dtype=torch.float64)
    for shift in (-2.0, 3.0):
        logs = torch.log(torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)) + SHIFTED.log_normalizer + shift
        found = LogZError()(Particles(x, log_weights=logs), SHIFTED)
        assert found.value == pytest.approx(abs(math.log(3) + shift), abs=1e-12) and (found.floor, found.side) == (0.0, "exact")
        deviation = np.std([1, 2, 3, 6], ddof=1) / 3 / 2
        assert found.upper - found.value == pytest.approx(2.5758 * deviation, rel=1e-4)
        assert found.lower == pytest.approx(max(0.0, 2 * found.value - found.upper), abs=1e-12)
    level = LogZError()(Particles(x, log_weights=torch.full((4,), 0.3, dtype=torch.float64)), SHIFTED)
    assert level.upper - level.lower < 1e-6 and level.value == pytest.approx(abs(0.3 - SHIFTED.log_normalizer), abs=1e-7)


def test_log_z_error() -> None:
    check_log_z_error()
    nobody = Particles(torch.zeros((4, 2), dtype=torch.float64), log_weights=torch.full((4,), -torch.inf))
    assert LogZError()(nobody, SHIFTED).value == math.inf
    with pytest.raises(Unsupported, match="log_z_error needs particles with weights"):
        LogZError()(nothing(4), SHIFTED)
    with pytest.raises(Unsupported, match="log_z_error is not defined on grid laws"):
        LogZError()(Grid.of_target(SKEW, Mesh((-9.0,), (9.0,), 301)), SKEW)

    class Unknown(DoubleWell):
        @property
        def log_normalizer(self) -> None:
            return None

    with pytest.raises(Unsupported, match="needs the log_normalizer"):
        LogZError()(Particles(torch.zeros((4, Unknown().dim)).double(), log_weights=torch.zeros(4)), Unknown())
    with pytest.raises(InvalidInput, match="one dimension"):
        LogZError()(nobody, SKEW)
    with pytest.raises(Diverged):
        LogZError()(dataclasses.replace(nobody, x=torch.full((4, 2), torch.nan)), SHIFTED)


def test_the_interval_of_independent_weights_holds() -> None:
    """Plain importance sampling, 300 times: misses inside the binomial band of 1 %, and an interval that is not idle."""
    sampler, target = AnnealedImportance(2, 0.3, 1.8), SHIFTED
    misses, errors = 0, []
    for seed in range(300):
        logs = weights(sampler, target, 1000, "coverage", seed)
        found = LogZError()(Particles(torch.zeros((1000, 2)).double(), log_weights=logs), target)
        misses += found.lower > 0
        errors.append((log_mean(logs) - target.log_normalizer) / (found.upper - found.value))
    assert misses <= stats.binom.isf(ALARM, 300, 0.01)
    assert abs(np.std(errors) * 2.5758 - 1) < 0.25


# Planted bugs: each is seen by the check named beside it.


def always(self: ParallelTempering, energies: torch.Tensor) -> torch.Tensor:
    """Swaps are never refused."""
    return torch.full_like(RATIO(self, energies), torch.inf)


def upside_down(self: ParallelTempering, energies: torch.Tensor) -> torch.Tensor:
    """The exponent with the other sign."""
    return -RATIO(self, energies)


def no_gap(self: ParallelTempering, energies: torch.Tensor) -> torch.Tensor:
    """Without b_i - b_j."""
    return energies[:-1] - energies[1:]


def stale(self: ParallelTempering, target: Target, places: Point, state: Replicas, noise: Noise) -> Replicas:
    """Potentials stay where they were while positions change places."""
    return SWAP(self, target, places, state, noise)._replace(potentials=places.potential.reshape(self.replicas, -1).T)


def after_the_move(self: Annealing, k: int, target: Target, state: Any, noise: Noise) -> Weighted:
    """Weights taken where the particle has moved to."""
    b = self.inverse_temperatures
    path, here, log_w = Tempered(target, b[k + 1], self.reference), Point(*state[:3]), state.log_weights
    for _ in range(self.moves):
        here = move(path, here, self.step_size, noise)
    log_w = log_w - (b[k + 1] - b[k]) * path.energy(here)
    if k + 1 == self.levels or effective_size(log_w) < self.threshold * len(log_w):
        here, log_w = self.resampled(k, here, log_w, noise)
    return Weighted(here.x, here.potential, here.score, log_w)


def whole_rise(self: Annealing, rise: float, path: Tempered, here: Point, log_w: torch.Tensor) -> torch.Tensor:
    """b_k for b_k - b_(k-1)."""
    return WEIGHED(self, path.b, path, here, log_w)


def mean_of_logs(log_weights: torch.Tensor) -> float:
    return float(log_weights.mean())


def sum_of_weights(log_weights: torch.Tensor) -> float:
    return log_mean(log_weights) + math.log(len(log_weights))


def forgotten(self: Annealing, k: int, here: Point, log_w: torch.Tensor, noise: Noise) -> tuple[Point, torch.Tensor]:
    """The weights gathered so far are lost when particles are resampled."""
    here, log_w = RESAMPLED(self, k, here, log_w, noise)
    return here, torch.zeros_like(log_w)


def drowsy(log_weights: torch.Tensor, u: float) -> torch.Tensor:
    """The particle before the one that the cumulative weights point at."""
    return (SYSTEMATIC(log_weights, u) - 1).clamp(min=0)


def half_normalised(self: Reference, x: Batch) -> torch.Tensor:
    """V_0 without the constant."""
    return ((x - self.centre) ** 2).sum(1) / (2 * self.width**2)


def unscaled(self: Scaled, u: Batch) -> tuple[torch.Tensor, Batch]:
    """The score in x for that in u."""
    return self.path.potential_and_score(u * self.ratio)


def crossed(self: Paired, shape: tuple[int, ...]) -> torch.Tensor:
    """Numbers of one particle at another."""
    return self.source.normal((self.n, shape[0] // self.n * shape[1])).reshape(shape)


class Unadjusted(MALA):
    """MALA without the rejection."""

    def step(self, target: Target, state: Point, noise: Noise) -> Point:  # type: ignore[misc]
        return self.evaluate(target, self.draw(state, noise))


RATIO, SWAP, WEIGHED = ParallelTempering.log_ratio, ParallelTempering.swap, Annealing.weighed
RESAMPLED, SYSTEMATIC = Annealing.resampled, systematic
MUTANTS: list[tuple[Any, str, Any, Callable[[], None]]] = [
    (ParallelTempering, "log_ratio", always, check_swap),
    (ParallelTempering, "log_ratio", always, check_joint_law),
    (ParallelTempering, "log_ratio", upside_down, check_swap),
    (ParallelTempering, "log_ratio", upside_down, check_joint_law),
    (ParallelTempering, "log_ratio", no_gap, check_swap),
    (ParallelTempering, "log_ratio", no_gap, check_joint_law),
    (ParallelTempering, "swap", stale, check_swap),
    (Scaled, "potential_and_score", unscaled, check_all_at_once),
    (Scaled, "potential_and_score", unscaled, check_joint_law),
    (Paired, "normal", crossed, check_all_at_once),
    (ParallelTempering, "swap", stale, check_all_at_once),
    (tempered, "MALA", Unadjusted, check_joint_law),
    (tempered, "MALA", Unadjusted, check_weights_by_hand),
    (tempered, "MALA", Unadjusted, check_ais_is_unbiased),
    (Annealing, "advance", after_the_move, check_weights_by_hand),
    (Annealing, "advance", after_the_move, check_ais_is_unbiased),
    (Annealing, "weighed", whole_rise, check_ais_is_unbiased),
    (Annealing, "resampled", forgotten, check_smc_is_unbiased),
    (annealing, "log_mean", mean_of_logs, check_smc_is_unbiased),
    (annealing, "log_mean", sum_of_weights, check_smc_is_unbiased),
    (log_z_error, "log_mean", mean_of_logs, check_log_z_error),
    (Reference, "potential", half_normalised, check_ais_is_unbiased),
]


@cache
def passes(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize(("owner", "name", "bug", "check"), MUTANTS, ids=[f"{i}-{getattr(m[2], '__name__', '')}" for i, m in enumerate(MUTANTS)])
def test_planted_bugs_are_seen(owner: Any, name: str, bug: Any, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    passes(check)
    monkeypatch.setattr(owner, name, bug)
    with pytest.raises(AssertionError):
        check()


def test_a_wrong_index_of_the_resampling_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "systematic", drowsy)
    with pytest.raises(AssertionError):
        check_systematic()
