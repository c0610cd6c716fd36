"""Every sampler: the affine map against its closed form, stationarity from an exact start, kernels and costs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy import linalg, stats

from mixrate.errors import InvalidInput, Unsupported
from mixrate.laws.grid import Grid, grid_step
from mixrate.laws.normal import affine_map
from mixrate.laws.particles import Particles, simulate
from mixrate.laws.propagate import mesh_for
from mixrate.samplers.autoregressive import Autoregressive
from mixrate.samplers.base import Sampler, State
from mixrate.samplers.exact import Exact
from mixrate.samplers.hmc import HMC
from mixrate.samplers.independence import Independence
from mixrate.samplers.langevin_diffusion import LangevinDiffusion
from mixrate.samplers.mala import MALA
from mixrate.samplers.metropolis import Metropolis, Point
from mixrate.samplers.noise import Noise, Probe, Stream
from mixrate.samplers.proximal import Proximal
from mixrate.samplers.random_walk import RandomWalk
from mixrate.samplers.ula import ULA
from mixrate.targets.base import Target
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.skew_logistic import SkewLogistic

DENSE = Gaussian([1.0, -0.5, 2.0], [[1.0, 0.3, 0.0], [0.3, 0.5, -0.2], [0.0, -0.2, 0.8]])
SKEW, MODES = SkewLogistic(), GaussianMixture.two_modes(3.0, weight=0.3)
H = 0.13


def closed_form(sampler: Sampler, target: Gaussian) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A, b, C) of one step on a Gaussian, from the formulas of the literature."""
    p, mean, eye = np.linalg.inv(target.cov.numpy()), target.mean.numpy(), np.eye(target.dim)
    if isinstance(sampler, ULA):
        a, c = eye - H * p, 2 * H * eye
    elif isinstance(sampler, LangevinDiffusion):
        a = linalg.expm(-H * p)
        c = target.cov.numpy() @ (eye - linalg.expm(-2 * H * p))
    elif isinstance(sampler, Proximal):
        r = np.linalg.inv(p + eye / H)
        a, c = r / H, r / H @ (H * eye) @ r / H + r
    else:
        a, c = 0 * eye, target.cov.numpy()
    return a, (eye - a) @ mean, c


def check_affine(sampler: Sampler) -> None:
    """The map that the step performs on a dense Gaussian with a non-zero mean is the closed form, to 1e-12."""
    found = affine_map(sampler, DENSE)
    for got, stated in zip((found.linear, found.offset, found.noise_cov), closed_form(sampler, DENSE), strict=True):
        assert np.abs(got - stated).max() < 1e-12


def check_stationary_on_a_grid(sampler: Sampler, target: Target = SKEW) -> None:
    """One step leaves the density fixed to 1e-12 (to the bias order where there is one, this check must fail)."""
    mesh = mesh_for(target, sampler, None)
    pi = Grid.of_target(target, mesh).density
    assert np.abs(grid_step(sampler, target, mesh).operator(pi) - pi).sum() * mesh.cell < 1e-12


def check_detailed_balance(sampler: Metropolis, target: Target = SKEW) -> None:
    """pi_i P_ij = pi_j P_ji on a skewed target, with the proposal density rebuilt from the step's own noise."""
    mesh = mesh_for(target, sampler, None, nodes=151)
    kernel, _ = sampler.kernel(target, mesh)
    pi = Grid.of_target(target, mesh).density * mesh.cell
    flux = pi[:, None] * kernel
    assert np.abs(flux - flux.T).max() < 1e-15
    assert np.abs(kernel.sum(1) - 1).max() < 1e-12 and kernel.min() >= 0.0
    assert (np.diag(kernel)[pi > 1e-6 * pi.max()] > 0).all()
    check_proposal_density(sampler, target)


def check_proposal_density(sampler: Metropolis, target: Target = SKEW) -> None:
    """log q(y|x) is the density of the affine map xi -> y that `propose` performs: read off by probing."""
    x = Stream("proposal").normal((16, target.dim))
    zero, xi = Probe(basis=False), Stream("xi").normal((16, target.dim))
    centre = sampler.propose(target, x, zero)
    assert zero.count == target.dim
    columns = torch.stack([sampler.propose(target, x, _Basis(j)) - centre for j in range(target.dim)], dim=2)
    y = centre + torch.einsum("nij,nj->ni", columns, xi)
    log_q = -0.5 * (xi**2).sum(1) - torch.linalg.slogdet(columns)[1] - 0.5 * target.dim * np.log(2 * np.pi)
    assert float((sampler.log_proposal(target, x, y) - log_q).abs().max()) < 1e-12


class _Basis(Probe):
    def __init__(self, j: int) -> None:
        super().__init__(basis=False)
        self.j = j

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        z = super().normal(shape)
        z[:, self.j] = 1.0
        return z


def check_step_follows_kernel(sampler: Metropolis, target: Target = SKEW) -> None:
    """The simulated step has the law of the kernel: from one point, 40,000 steps against the kernel's row.

    A Kolmogorov-Smirnov test at a false-alarm rate of 1e-6, and the rejection frequency within 5.7 standard errors.
    """
    mesh = mesh_for(target, sampler, None, nodes=1201)
    i = int(np.argmin(np.abs(mesh.axes[0] - 0.9)))
    kernel, _ = sampler.kernel(target, mesh)
    x = torch.full((40_000, 1), float(mesh.axes[0][i]), dtype=torch.float64)
    after = sampler.step(target, sampler.init(target, x, Stream("init")), Stream("kernel row", sampler.id)).x[:, 0].numpy()
    stayed = after == float(mesh.axes[0][i])
    # the diagonal holds what is rejected and what is accepted within the node's own cell
    reject = kernel[i, i] - float(torch.exp(sampler.log_proposal(target, x[:1], x[:1]))) * mesh.cell
    assert abs(stayed.mean() - reject) < 5.7 * np.sqrt(reject * (1 - reject) / 40_000) + 1e-3
    row = kernel[i].copy()
    row[i] = 0.0
    cdf = np.cumsum(row) / row.sum()
    assert stats.kstest(after[~stayed], lambda t: np.interp(t, mesh.axes[0] + mesh.cell / 2, cdf)).pvalue > 1e-6


def check_exact_start(sampler: Sampler, target: Target) -> None:
    """Three steps from 20,000 exact draws stay exact: potential values against fresh draws, false alarm 1e-6."""
    start = Particles.of_target(target, 20_000, seed=5)
    after = simulate(start, sampler, target, [3])[0]
    fresh = target.sample(20_000, Stream("fresh"))
    assert after.diverged == 0.0
    assert stats.ks_2samp(target.potential(after.x).numpy(), target.potential(fresh).numpy()).pvalue > 1e-6
    direction = np.linspace(1.0, 2.0, target.dim)
    assert stats.ks_2samp(after.x.numpy() @ direction, fresh.numpy() @ direction).pvalue > 1e-6


AFFINE = [ULA(H), LangevinDiffusion(H), Proximal(H), Exact()]
METROPOLIS = [MALA(0.2), RandomWalk(0.8), Independence(1.5, centre=0.5), Autoregressive(0.6, 0.9)]
UNBIASED: list[Sampler] = [*METROPOLIS, Proximal(0.1), LangevinDiffusion(0.3), Exact()]
TRAJECTORY = HMC(0.4, 3)  # unbiased, with no operator on a mesh


@pytest.mark.parametrize("sampler", AFFINE, ids=lambda s: s.name)
def test_affine_map_is_the_closed_form(sampler: Sampler) -> None:
    check_affine(sampler)


@pytest.mark.parametrize("sampler", UNBIASED, ids=lambda s: s.name)
@pytest.mark.parametrize("target", [SKEW, MODES], ids=lambda t: t.name)
def test_unbiased_samplers_fix_the_density(sampler: Sampler, target: Target) -> None:
    assert sampler.bias_order is None
    check_stationary_on_a_grid(sampler, target)


def test_ula_does_not_fix_the_density() -> None:
    with pytest.raises(AssertionError):
        check_stationary_on_a_grid(ULA(0.1))


@pytest.mark.parametrize("sampler", METROPOLIS, ids=lambda s: s.name)
def test_detailed_balance(sampler: Metropolis) -> None:
    check_detailed_balance(sampler)


@pytest.mark.parametrize("sampler", METROPOLIS, ids=lambda s: s.name)
def test_simulated_step_has_the_law_of_the_kernel(sampler: Metropolis) -> None:
    check_step_follows_kernel(sampler)


@pytest.mark.parametrize("sampler", [*UNBIASED, TRAJECTORY], ids=lambda s: s.name)
def test_exact_start_stays_exact(sampler: Sampler) -> None:
    target = DENSE if isinstance(sampler, LangevinDiffusion) else MODES
    check_exact_start(sampler, target)


def test_mala_in_many_dimensions_stays_exact() -> None:
    check_exact_start(MALA(0.1), Gaussian.ar1(20, 0.5, mean=1.0))


def test_proximal_by_rejection_agrees_with_the_grid() -> None:
    """The target has no closed form: the rejection sampler's law after one step is the kernel's, KS at 1e-6."""
    sampler = Proximal(0.1)
    start = Particles(torch.full((40_000, 1), -0.7, dtype=torch.float64))
    after = simulate(start, sampler, SKEW, [1])[0].x[:, 0].numpy()
    x = np.linspace(-4, 5, 4001)
    y = np.linspace(-3, 2, 801)
    v = SKEW.potential(torch.as_tensor(x[:, None])).numpy()
    inner = np.exp(-v[:, None] - (x[:, None] - y[None, :]) ** 2 / 0.2)
    inner /= inner.sum(0)
    density = inner @ np.exp(-((y + 0.7) ** 2) / 0.2)
    cdf = np.cumsum(density) / density.sum()
    assert stats.kstest(after, lambda t: np.interp(t, x + (x[1] - x[0]) / 2, cdf)).pvalue > 1e-6


# Hamiltonian Monte Carlo: what makes it exact, taken apart.


def check_leapfrog(sampler: HMC, target: Target) -> None:
    """Reversible: from the end with -p back to the start, to rounding. Volume-preserving: the Jacobian has determinant 1,
    by central differences (error 1e-9 at a step of 1e-5)."""
    x, p = Stream("leapfrog", "x").normal((8, target.dim)), Stream("leapfrog", "p").normal((8, target.dim))

    def flow(z: torch.Tensor) -> torch.Tensor:
        x, p = z.chunk(2, dim=1)
        there, q = sampler.leapfrog(target, sampler.init(target, x, Stream("unused")), p)
        return torch.cat([there.x, q], dim=1)

    z = torch.cat([x, p], dim=1)
    flip = torch.cat([torch.ones(target.dim), -torch.ones(target.dim)]).double()
    assert float((flip * flow(flip * flow(z)) - z).abs().max()) < 1e-11
    steps = 1e-5 * torch.eye(2 * target.dim, dtype=torch.float64)
    jacobian = torch.stack([(flow(z + e) - flow(z - e)) / 2e-5 for e in steps], dim=2)
    assert float((torch.linalg.det(jacobian) - 1).abs().max()) < 1e-7


def check_energy_order(sampler: type[HMC], target: Target) -> None:
    """Over a fixed time the energy error falls like eps^2: its exponent from eps to eps/2 is 2 +- 0.1."""
    x, p = Stream("energy", "x").normal((256, target.dim)), Stream("energy", "p").normal((256, target.dim))
    errors = []
    for leaps in (40, 80):
        one = sampler(2.0 / leaps, leaps)
        errors.append(float(one.propose(target, one.init(target, x, Stream("unused")), p)[1].abs().mean()))
    assert abs(np.log2(errors[0] / errors[1]) - 2.0) < 0.1


def check_hmc_fixes_the_density(sampler: HMC, target: Target = SKEW) -> None:
    """``E_pi f(x') = E_pi f(x)`` by quadrature over (x, p, accept or reject), f = x and x^2, to 2e-3 (the kink of
    min(1, .) costs 7e-4 on this mesh); the mutants below are off by 0.08 or more."""
    lo, hi = (float(e[0]) for e in target.extent())
    x, p = np.linspace(lo, hi, 301), np.linspace(-6, 6, 101)
    grid_x, grid_p = (torch.as_tensor(g.reshape(-1, 1)) for g in np.meshgrid(x, p, indexing="ij"))
    weight = torch.exp(-target.potential(grid_x) - 0.5 * grid_p[:, 0] ** 2)
    weight /= weight.sum()
    uniforms = (np.arange(16) + 0.5) / 16
    before, after = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for u in uniforms:
        noise = _Fixed(grid_p, torch.full((len(grid_p),), u, dtype=torch.float64))
        moved = sampler.step(target, sampler.init(target, grid_x, noise), noise).x
        for sums, at in ((before, grid_x), (after, moved)):
            sums += torch.stack([(weight * at[:, 0] ** power).sum() for power in (1, 2)]) / len(uniforms)
    assert float((after - before).abs().max()) < 2e-3


class _Fixed(Noise):
    """Given normals and uniforms."""

    def __init__(self, normal: torch.Tensor, uniform: torch.Tensor) -> None:
        self._normal, self._uniform = normal, uniform

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        return self._normal

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        return self._uniform


@pytest.mark.parametrize("target", [SKEW, DENSE, MODES], ids=lambda t: t.name)
def test_leapfrog_is_reversible_and_keeps_volume(target: Target) -> None:
    check_leapfrog(HMC(0.3, 5), target)


@pytest.mark.parametrize("target", [SKEW, DENSE], ids=lambda t: t.name)
def test_energy_error_is_of_second_order(target: Target) -> None:
    check_energy_order(HMC, target)


@pytest.mark.parametrize("sampler", [HMC(0.8, 1), HMC(0.8, 3)], ids=["one leap", "three leaps"])
def test_hmc_fixes_the_density(sampler: HMC) -> None:
    check_hmc_fixes_the_density(sampler)


def test_hmc_with_one_leap_is_mala() -> None:
    """At h = eps^2/2, number by number: the energy is MALA's ratio."""
    eps, x = 0.7, Stream("one leap").normal((512, DENSE.dim))
    one, other = HMC(eps, 1), MALA(eps**2 / 2)
    for k in range(3):
        noise = Stream("one leap").at(k + 1), Stream("one leap").at(k + 1)
        mine, theirs = one.step(DENSE, one.init(DENSE, x, noise[0]), noise[0]), other.step(DENSE, other.init(DENSE, x, noise[1]), noise[1])
        assert float((mine.x - theirs.x).abs().max()) < 1e-12
        assert 0.05 < float((mine.x == x).all(1).double().mean()) < 0.95
        x = mine.x


def test_hmc_carries_the_potential_and_score_of_where_it_stands() -> None:
    state = TRAJECTORY.init(SKEW, Stream("carried").normal((64, 1)), Stream("unused"))
    for k in range(5):
        state = TRAJECTORY.step(SKEW, state, Stream("carried").at(k + 1))
        assert torch.equal(state.potential, SKEW.potential(state.x)) and torch.equal(state.score, SKEW.score(state.x))


@pytest.mark.parametrize("sampler", [ULA(0.01), *UNBIASED, TRAJECTORY], ids=lambda s: s.name)
def test_declared_costs_are_the_calls_made(sampler: Sampler) -> None:
    """Scores and potentials per step, counted on a target that counts."""
    if isinstance(sampler, (Proximal, LangevinDiffusion)):
        return  # their costs depend on the target and are stated in words
    counts = {"potential": 0, "score": 0}

    class Counting(SkewLogistic):
        def potential(self, x: torch.Tensor) -> torch.Tensor:
            counts["potential"] += 1
            return super().potential(x)

        def score(self, x: torch.Tensor) -> torch.Tensor:
            counts["score"] += 1
            return super().score(x)

    target = Counting()
    state = sampler.init(target, torch.zeros((4, 1), dtype=torch.float64), Stream("count"))
    target.sample(1, Stream("warm up"))
    counts.update(potential=0, score=0)
    sampler.step(target, state, Stream("count"))
    assert counts == {"potential": sampler.potential_evaluations, "score": sampler.score_evaluations}


@pytest.mark.parametrize("sampler", [ULA(0.01), *METROPOLIS, TRAJECTORY], ids=lambda s: s.name)
def test_float32_runs_in_float32(sampler: Sampler) -> None:
    x = Particles(torch.zeros((64, 1), dtype=torch.float32))
    assert simulate(x, sampler, SKEW, [5])[0].x.dtype == torch.float32


def test_a_stream_is_a_function_of_its_key_and_step() -> None:
    one, two = Stream(7, "a").at(3), Stream(7, "a").at(3)
    assert torch.equal(one.normal((5, 2)), two.normal((5, 2))) and torch.equal(one.uniform((9,)), two.uniform((9,)))
    assert not torch.equal(Stream(7, "a").at(4).normal((5, 2)), Stream(7, "a").at(3).normal((5, 2)))
    assert not torch.equal(Stream(8, "a").at(3).normal((5, 2)), Stream(7, "a").at(3).normal((5, 2)))
    z, u = Stream("moments").normal((200_000, 1)), Stream("uniform").uniform((200_000,))
    assert stats.kstest(z[:, 0].numpy(), "norm").pvalue > 1e-6 and stats.kstest(u.numpy(), "uniform").pvalue > 1e-6
    assert float(u.min()) > 0.0 and float(u.max()) < 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ULA(0.0), "step_size must be a positive"),
        (lambda: ULA(float("inf")), "step_size must be a positive"),
        (lambda: MALA(-1.0), "step_size must be a positive"),
        (lambda: RandomWalk(float("nan")), "scale must be a positive"),
        (lambda: Autoregressive(1.0, 1.0), "rho"),
        (lambda: HMC(-0.1), "step_size must be a positive"),
        (lambda: HMC(0.1, 0), "leapfrog_steps must be a whole number of at least 1, got 0"),
        (lambda: HMC(2.0).admit(Gaussian.isotropic(2)), "below 2/sqrt(M) = 2"),
        (lambda: grid_step(HMC(0.1), SKEW, mesh_for(SKEW, MALA(0.1), None)), "more than a position"),
        (lambda: ULA(2.0).admit(Gaussian.isotropic(2)), "below 2/M = 2"),
        (lambda: simulate(Particles(torch.zeros((2, 1), dtype=torch.float64)), Proximal(0.5), SKEW, [1]), "1/(2 M)"),
        (lambda: LangevinDiffusion(0.1).step(SKEW, State(torch.zeros((1, 1), dtype=torch.float64)), Stream("x")), "law: grid"),
        (lambda: MALA(0.1).kernel(SKEW, mesh_for(SKEW, MALA(0.1), None, nodes=4601)), "at most 4500"),
        (lambda: RandomWalk(0.001).kernel(SKEW, mesh_for(SKEW, RandomWalk(0.5), None, nodes=101)), "between the nodes"),
        (lambda: grid_step(ULA(1e-5), SKEW, mesh_for(SKEW, ULA(0.1), None, nodes=101)), "use about"),
    ],
)
def test_bad_settings_get_one_line(make: Any, message: str) -> None:
    with pytest.raises((InvalidInput, Unsupported)) as caught:
        make()
    assert message in str(caught.value) and "\n" not in str(caught.value)


# Planted bugs. Each must make a check above fail.


class SqrtH(ULA):
    """Noise sqrt(h) for sqrt(2h)."""

    def step(self, target: Target, state: State, noise: Noise) -> State:
        x, h = state.x, self.step_size
        return State(x + h * target.score(x) + h**0.5 * noise.normal(tuple(x.shape)))


class Uphill(ULA):
    """Score with the wrong sign."""

    def step(self, target: Target, state: State, noise: Noise) -> State:
        x, h = state.x, self.step_size
        return State(x - h * target.score(x) + (2 * h) ** 0.5 * noise.normal(tuple(x.shape)))


class HalfStep(ULA):
    """Drift eta/2 with the noise of eta."""

    def step(self, target: Target, state: State, noise: Noise) -> State:
        x, h = state.x, self.step_size
        return State(x + h / 2 * target.score(x) + (2 * h) ** 0.5 * noise.normal(tuple(x.shape)))


class DecayOnly(LangevinDiffusion):
    """exp(-h P) for exp(-2 h P) in the variance."""

    def step(self, target: Target, state: State, noise: Noise) -> State:
        mean, cov = target.moments  # type: ignore[misc]
        variance, q = torch.linalg.eigh(cov)
        decay = self.step_size / variance
        keep, spread = (q * torch.exp(-decay)) @ q.T, (q * torch.sqrt(-torch.expm1(-decay) * variance)) @ q.T
        return State(mean + (state.x - mean) @ keep + noise.normal(tuple(state.x.shape)) @ spread)


class FullNoiseProximal(Proximal):
    """y = x + sqrt(2h) xi."""

    def step(self, target: Target, state: State, noise: Noise) -> State:
        h = self.step_size
        return State(target.restricted_gaussian(state.x + (2 * h) ** 0.5 * noise.normal(tuple(state.x.shape)), h, noise))


@pytest.mark.parametrize("mutant", [SqrtH(H), Uphill(H), HalfStep(H), DecayOnly(H), FullNoiseProximal(H)], ids=lambda m: type(m).__name__)
def test_affine_mutants_are_caught(mutant: Sampler) -> None:
    with pytest.raises(AssertionError):
        check_affine(mutant)


class NoDrift(MALA):
    """A proposal density without the drift: the symmetric ratio."""

    def log_density(self, here: Point, there: Point) -> torch.Tensor:
        return -((there.x - here.x) ** 2).sum(1) / (4 * self.step_size) - 0.5 * here.x.shape[1] * float(np.log(4 * np.pi * self.step_size))


class HalfVariance(MALA):
    """A proposal density of variance h."""

    def log_density(self, here: Point, there: Point) -> torch.Tensor:
        h, d = self.step_size, here.x.shape[1]
        return -((there.x - here.x - h * here.score) ** 2).sum(1) / (2 * h) - 0.5 * d * float(np.log(2 * np.pi * h))


class Wide(RandomWalk):
    """Proposes twice as far as its density says."""

    def draw(self, here: Point, noise: Noise) -> torch.Tensor:
        return here.x + 2 * self.scale * noise.normal(tuple(here.x.shape))


class Swapped(Autoregressive):
    """q(x|y) for q(y|x)."""

    def log_density(self, here: Point, there: Point) -> torch.Tensor:
        return super().log_density(there, here)


@pytest.mark.parametrize("mutant", [NoDrift(0.2), HalfVariance(0.2), Wide(0.8), Swapped(0.6, 0.9)], ids=lambda m: type(m).__name__)
def test_proposal_mutants_are_caught(mutant: Metropolis) -> None:
    with pytest.raises(AssertionError):
        check_proposal_density(mutant)


class Flipped(RandomWalk):
    """Accepts where it should reject."""

    def step(self, target: Target, state: Point, noise: Noise) -> Point:  # type: ignore[misc]
        x = state.x
        y = self.propose(target, x, noise)
        accept = torch.log(noise.uniform((len(x),))) > self.log_ratio(target, x, y)
        return self.evaluate(target, torch.where(accept.unsqueeze(1), y, x))


class NoHastings(Autoregressive):
    """Accepts without the ratio of the proposal densities."""

    def step(self, target: Target, state: Point, noise: Noise) -> Point:  # type: ignore[misc]
        x = state.x
        y = self.propose(target, x, noise)
        accept = torch.log(noise.uniform((len(x),))) < target.potential(x) - target.potential(y)
        return self.evaluate(target, torch.where(accept.unsqueeze(1), y, x))


class AlwaysAccept(MALA):
    """ULA under MALA's name."""

    def step(self, target: Target, state: Point, noise: Noise) -> Point:  # type: ignore[misc]
        return self.evaluate(target, self.propose(target, state.x, noise))


class Stale(MALA):
    """Moves on and keeps the potential and the score of where it was."""

    def step(self, target: Target, state: Point, noise: Noise) -> Point:  # type: ignore[misc]
        there = self.evaluate(target, self.draw(state, noise))
        accept = torch.log(noise.uniform((len(state.x),))) < self.ratio(state, there)
        return Point(torch.where(accept.unsqueeze(1), there.x, state.x), state.potential, state.score)


@pytest.mark.parametrize("mutant", [Flipped(0.8), NoHastings(0.6, 0.9), AlwaysAccept(0.5)], ids=lambda m: type(m).__name__)
def test_accept_mutants_are_caught(mutant: Metropolis) -> None:
    with pytest.raises(AssertionError):
        check_step_follows_kernel(mutant)


class MissingHalfKick(HMC):
    """The last half kick is left out."""

    def leapfrog(self, target: Target, here: Point, p: torch.Tensor) -> tuple[Point, torch.Tensor]:
        there, q = super().leapfrog(target, here, p)
        return there, q - 0.5 * self.step_size * there.score


class EulerFlow(HMC):
    """Explicit Euler for leapfrog."""

    def leapfrog(self, target: Target, here: Point, p: torch.Tensor) -> tuple[Point, torch.Tensor]:
        for _ in range(self.leapfrog_steps):
            here, p = Point(here.x + self.step_size * p, here.potential, here.score), p + self.step_size * target.score(here.x)
        return Point(here.x, *target.potential_and_score(here.x)), p


class FlippedEnergy(HMC):
    """Accepts where the energy rises."""

    def propose(self, target: Target, here: Point, p: torch.Tensor) -> tuple[Point, torch.Tensor]:
        there, log_ratio = super().propose(target, here, p)
        return there, -log_ratio


class PotentialOnly(HMC):
    """Accepts on the potential, the kinetic energy forgotten."""

    def propose(self, target: Target, here: Point, p: torch.Tensor) -> tuple[Point, torch.Tensor]:
        there, _ = super().propose(target, here, p)
        return there, here.potential - there.potential


class NoRefresh(HMC):
    """Every step starts with the same momenta."""

    def step(self, target: Target, state: Point, noise: Noise) -> Point:
        p = Stream("no refresh").normal(tuple(state.x.shape))
        return super().step(target, state, _Fixed(p, noise.uniform((len(state.x),))))


@pytest.mark.parametrize("mutant", [MissingHalfKick(0.3, 5), EulerFlow(0.3, 5)], ids=lambda m: type(m).__name__)
def test_leapfrog_mutants_are_caught(mutant: HMC) -> None:
    with pytest.raises(AssertionError):
        check_leapfrog(mutant, SKEW)


@pytest.mark.parametrize("mutant", [MissingHalfKick(0.8, 3), EulerFlow(0.4, 2), FlippedEnergy(0.8, 3), PotentialOnly(0.8, 3)],
                         ids=lambda m: type(m).__name__)  # fmt: skip
def test_hmc_mutants_are_caught(mutant: HMC) -> None:
    with pytest.raises(AssertionError):
        check_hmc_fixes_the_density(mutant)


def test_hmc_without_fresh_momenta_is_caught() -> None:
    """Its one step is right whatever the momenta; over three the chain is not."""
    with pytest.raises(AssertionError):
        check_exact_start(NoRefresh(0.4, 3), MODES)


class PrintedKernel(RandomWalk):
    """Erratum 4: the transition probability as printed, without the rejection mass on its diagonal."""

    def printed(self, target: Target, nodes: int = 151) -> tuple[np.ndarray, np.ndarray]:
        mesh = mesh_for(target, self, None, nodes=nodes)
        kernel, _ = self.kernel(target, mesh)
        x = torch.as_tensor(mesh.nodes)
        itself = np.exp(self.log_proposal(target, x, x).numpy()) * mesh.cell
        np.fill_diagonal(kernel, itself)
        return kernel, Grid.of_target(target, mesh).density * mesh.cell


def test_the_printed_metropolis_kernel_loses_mass_and_the_corrected_one_does_not() -> None:
    kernel, pi = PrintedKernel(0.8).printed(SKEW)
    assert np.abs(pi @ kernel - pi).sum() > 0.3  # the printed sum leaves out what was rejected: 1/3 of the mass here
    check_stationary_on_a_grid(RandomWalk(0.8))


def test_the_other_convention_is_the_same_sampler_at_half_the_step() -> None:
    """Erratum 8: x + (eta/2) score + sqrt(eta) xi is this ULA at h = eta/2."""

    class Eta(ULA):
        def step(self, target: Target, state: State, noise: Noise) -> State:
            x, eta = state.x, self.step_size
            return State(x + eta / 2 * target.score(x) + eta**0.5 * noise.normal(tuple(x.shape)))

    ours, theirs = affine_map(ULA(H), DENSE), affine_map(Eta(2 * H), DENSE)
    for field in dataclasses.fields(ours):
        assert np.abs(getattr(ours, field.name) - getattr(theirs, field.name)).max() < 1e-14
    assert np.abs(affine_map(Eta(H), DENSE).linear - ours.linear).max() > 0.05
