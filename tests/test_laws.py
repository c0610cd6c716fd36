"""Laws: affine maps, grids and particles carry the same law; each route is exact, converges at its order, or says why not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import linalg

from mixrate.errors import Diverged, InvalidInput, Unsupported
from mixrate.laws import grid as grid_module
from mixrate.laws.grid import Grid, additive_step, advance, dense_step, grid_step, nufft_step
from mixrate.laws.normal import AffineMap, Normal, affine_map
from mixrate.laws.particles import Particles, simulate
from mixrate.laws.propagate import averages, mesh_for, propagate, stationary
from mixrate.metrics.renyi import Renyi
from mixrate.samplers.base import Sampler, State, Transfer
from mixrate.samplers.exact import Exact
from mixrate.samplers.langevin_diffusion import LangevinDiffusion
from mixrate.samplers.mala import MALA
from mixrate.samplers.noise import Noise
from mixrate.samplers.proximal import Proximal
from mixrate.samplers.random_walk import RandomWalk
from mixrate.samplers.ula import ULA
from mixrate.targets.base import Target
from mixrate.targets.double_well import DoubleWell
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.hyperbolic import Hyperbolic
from mixrate.targets.mesh import Mesh
from mixrate.targets.quartic import Quartic
from mixrate.targets.skew_logistic import SkewLogistic
from mixrate.targets.spectrum import finite_volume

LINE, PLANE = Gaussian([0.4], [[0.7]]), Gaussian([0.0, 1.0], [[1.0, 0.5], [0.5, 2.0]])
START, START2 = Normal(np.array([1.5]), np.array([[0.2]])), Normal(np.array([1.0, 0.0]), np.diag([0.5, 0.4]))
AFFINE: list[Sampler] = [ULA(0.05), LangevinDiffusion(0.05), Proximal(0.05), Exact()]


def random_map(d: int, seed: int, symmetric: bool) -> AffineMap:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((d, d))
    a = (a + a.T) / 2 if symmetric else a
    a *= 0.9 / np.abs(linalg.eigvals(a)).max()
    n = rng.standard_normal((d, d))
    return AffineMap(a, rng.standard_normal(d), n @ n.T)


@pytest.mark.parametrize("symmetric", [True, False])
def test_powers_and_the_fixed_law_of_an_affine_map(symmetric: bool) -> None:
    step = random_map(6, 3, symmetric)
    law = slow = Normal(np.arange(6.0), np.eye(6))
    for _ in range(37):
        slow = step(slow)
    fast = step.power(37)(law)
    assert np.abs(fast.mean - slow.mean).max() < 1e-12 * np.abs(slow.mean).max() + 1e-13
    assert np.abs(fast.cov - slow.cov).max() < 1e-12 * np.abs(slow.cov).max()
    fixed = step.stationary()
    assert np.abs(fixed.cov - linalg.solve_discrete_lyapunov(step.linear, step.noise_cov)).max() < 1e-10 * np.abs(fixed.cov).max()
    again = step(fixed)
    assert np.abs(again.mean - fixed.mean).max() < 1e-12 and np.abs(again.cov - fixed.cov).max() < 1e-12 * np.abs(fixed.cov).max()


def check_grid(sampler: Sampler, target: Gaussian, start: Normal, steps: int, tolerance: float) -> None:
    """A grid law follows the affine law, in density, up to `tolerance` of its peak."""
    mesh = mesh_for(target, sampler, start)
    exact = propagate(start, sampler, target, [0, 1, steps])
    found = propagate(Grid.of_normal(start, mesh), sampler, target, [0, 1, steps])
    for p, q in zip(exact, found, strict=True):
        assert isinstance(p, Normal) and isinstance(q, Grid)
        reference = Grid.of_normal(p, mesh).density
        assert np.abs(reference - q.density).max() < tolerance * reference.max()
        assert q.lost < 1e-12 and q.unresolved < 1e-8


@pytest.mark.parametrize("sampler", AFFINE, ids=lambda s: s.name)
def test_grid_follows_the_affine_law_on_the_line(sampler: Sampler) -> None:
    check_grid(sampler, LINE, START, 40, 1e-12)


@pytest.mark.parametrize("sampler", [ULA(0.05), LangevinDiffusion(0.05)], ids=lambda s: s.name)
def test_grid_follows_the_affine_law_in_the_plane(sampler: Sampler) -> None:
    check_grid(sampler, PLANE, START2, 20, 1e-8)


def test_the_fast_transform_agrees_with_the_dense_kernel() -> None:
    target = SkewLogistic()
    mesh = mesh_for(target, ULA(0.05), START, nodes=801)
    moved, cov = additive_step(ULA(0.05), target, mesh)
    density = Grid.of_normal(START, mesh).density
    dense, fast = dense_step(mesh, moved, cov), nufft_step(mesh, moved, cov)
    for _ in range(30):
        density, other = dense(density), fast(density)
        assert np.abs(density - other).max() < 1e-13 * density.max()


def test_flow_converges_at_second_order_to_the_spectral_one_by_finite_volumes() -> None:
    """An independent discretisation of the same semigroup: order 2, and its extrapolation meets the spectral law to 1e-8."""
    target, t = DoubleWell(), 0.3
    start = Normal(np.array([0.8]), np.array([[0.1]]))
    lo, hi = -3.2, 3.2
    reference_mesh = Mesh((lo,), (hi,), 401)
    reference = propagate(Grid.of_normal(start, reference_mesh), LangevinDiffusion(t), target, [1])[0]
    assert isinstance(reference, Grid)
    means = {}
    for n in (401, 801, 1601):
        mesh = Mesh((lo,), (hi,), n)
        x = mesh.axes[0]
        v = target.potential(torch.as_tensor(mesh.nodes)).numpy()
        diagonal, off = finite_volume(-v, mesh.cell)
        values, vectors = linalg.eigh_tridiagonal(diagonal, off)
        root = np.exp(-0.5 * (v - v.min()))
        p = root * (vectors @ (np.exp(-t * values) * (vectors.T @ (Grid.of_normal(start, mesh).density / root))))
        means[n] = np.array([p.sum(), p @ x, p @ x**2]) * mesh.cell
    x = reference_mesh.axes[0]
    exact = np.array([reference.density.sum(), reference.density @ x, reference.density @ x**2]) * reference_mesh.cell
    coarse, middle, fine = (np.abs(means[n] - exact)[1:] for n in (401, 801, 1601))
    assert (np.log2(coarse / middle) > 1.97).all() and (np.log2(middle / fine) > 1.97).all()
    ratio = (1601 / 801) ** 2
    assert np.abs(means[1601] + (means[1601] - means[801]) / (ratio - 1) - exact).max() < 1e-8


@pytest.mark.parametrize("sampler", [MALA(0.1), RandomWalk(0.7)], ids=lambda s: s.name)
def test_metropolis_laws_converge_at_second_order_in_the_spacing(sampler: Sampler) -> None:
    """The kink of min(1, .) limits the kernel's quadrature to order 2: the mean after 5 steps shows it."""
    target = SkewLogistic()
    found = []
    for n in (251, 501, 1001, 2001):
        mesh = Mesh((-6.0,), (9.0,), n)
        law = propagate(Grid.of_normal(START, mesh), sampler, target, [5])[0]
        assert isinstance(law, Grid)
        found.append(float(law.density @ mesh.axes[0]) * mesh.cell)
    steps = np.abs(np.diff(found))
    assert steps[0] / steps[2] > 8.0  # two halvings: 16 at order 2, the kink's place between nodes makes it rough
    assert steps[2] < 3e-6


def test_mass_that_leaves_the_box_is_on_the_books() -> None:
    """A box cut at 2.5 sd: what is reported as lost is at least what is lost, and not ten times it."""
    sampler = ULA(0.1)
    small, large = Mesh((-1.7,), (2.5,), 201), Mesh((-8.4,), (8.4,), 801)
    law = propagate(Grid.of_normal(Normal(np.array([0.4]), np.array([[0.5]])), small), sampler, LINE, [10])[0]
    assert isinstance(law, Grid)
    wide = propagate(Grid.of_normal(Normal(np.array([0.4]), np.array([[0.5]])), large), sampler, LINE, [10])[0]
    assert isinstance(wide, Grid)
    x = large.axes[0]
    outside = float(wide.density[(x < -1.7) | (x > 2.5)].sum()) * large.cell
    assert 0.5 * outside < law.lost < 0.5 and law.lost > 1e-3
    inside = np.interp(small.axes[0], x, wide.density)
    assert 0.5 * np.abs(law.density - inside).sum() * small.cell < law.lost + outside


def test_an_unresolved_density_says_so() -> None:
    narrow = Grid.of_normal(Normal(np.array([0.0]), np.array([[1e-4]])), Mesh((-5.0,), (5.0,), 301))
    assert narrow.unresolved > 0.1
    assert Grid.of_normal(START, Mesh((-5.0,), (5.0,), 301)).unresolved < 1e-12


def test_interpolation_between_meshes_is_spectral() -> None:
    law = Grid.of_normal(START, Mesh((-6.0,), (6.0,), 201))
    finer = law.interpolate(Mesh((-6.0,), (6.0,), 603))
    assert np.abs(finer.density - Grid.of_normal(START, finer.mesh).density).max() < 1e-12
    back = finer.interpolate(law.mesh)
    assert np.abs(back.density - law.density).max() < 1e-12


@pytest.mark.parametrize("sampler", [ULA(0.1), Proximal(0.1), LangevinDiffusion(0.1)], ids=lambda s: s.name)
def test_fixed_laws_agree_between_routes(sampler: Sampler) -> None:
    mesh = mesh_for(LINE, sampler, None)
    normal, grid = stationary(START, sampler, LINE), stationary(Grid.of_target(LINE, mesh), sampler, LINE)
    assert isinstance(normal, Normal) and isinstance(grid, Grid)
    assert np.abs(Grid.of_normal(normal, mesh).density - grid.density).max() < 1e-12
    # relative accuracy in the tails too, which Renyi divergences need
    if isinstance(sampler, ULA):
        tail = np.abs(mesh.axes[0] - 0.4) < 5.0
        assert np.abs(Grid.of_normal(normal, mesh).log_density - grid.log_density)[tail].max() < 1e-9


def test_mala_has_the_target_as_its_fixed_law_and_ula_does_not() -> None:
    target = SkewLogistic()
    pi = Grid.of_target(target, mesh_for(target, MALA(0.2), None))
    fixed, biased = stationary(pi, MALA(0.2), target), stationary(pi, ULA(0.2), target)
    assert isinstance(fixed, Grid) and isinstance(biased, Grid)
    assert np.abs(fixed.density - pi.density).max() < 1e-12
    assert np.abs(biased.density - pi.density).max() > 1e-2


def test_particles_follow_the_exact_law() -> None:
    """Mean and variance of 50,000 particles after 10 steps within 5.7 standard errors (1e-8 each, two-sided)."""
    n, steps = 50_000, 10
    for sampler in (ULA(0.2), Proximal(0.2)):
        law = propagate(START2, sampler, PLANE, [steps])[0]
        x = simulate(Particles.of_normal(START2, n, seed=3), sampler, PLANE, [steps])[0].x.numpy()
        assert isinstance(law, Normal)
        deviation = np.sqrt(np.diag(law.cov))
        assert (np.abs(x.mean(0) - law.mean) < 5.7 * deviation / np.sqrt(n)).all()
        assert (np.abs(x.var(0) - deviation**2) < 5.7 * deviation**2 * np.sqrt(2 / n)).all()


def test_particles_do_not_depend_on_checkpoints_and_blocks_have_their_own_noise() -> None:
    start = Particles.of_normal(START, 6000, seed=1)
    straight = simulate(start, ULA(0.1), LINE, [7])[0].x
    stops = simulate(start, ULA(0.1), LINE, [0, 2, 3, 7])
    assert torch.equal(stops[0].x, start.x) and torch.equal(stops[-1].x, straight)
    resumed = simulate(stops[1], ULA(0.1), LINE, [5])[0]
    assert torch.equal(resumed.x, straight) and resumed.steps == 7
    first, second = straight[:1000], straight[4096:5096]
    assert abs(float(torch.corrcoef(torch.stack([first[:, 0], second[:, 0]]))[0, 1])) < 5.0 / np.sqrt(1000)


def test_divergence_is_a_law_with_a_fraction_never_a_number() -> None:
    far = Particles(torch.cat([torch.full((30, 1), 40.0), torch.zeros((70, 1))]).double())
    law = simulate(far, ULA(0.01), Quartic(), [50])[0]
    assert law.diverged == pytest.approx(0.3) and law.first_diverged is not None and 1 <= law.first_diverged < 10
    assert bool(torch.isfinite(law.x).all())
    assert simulate(far, MALA(0.01), Quartic(), [50])[0].diverged == 0.0


def test_an_exploding_gaussian_is_a_divergence() -> None:
    class Unchecked(ULA):
        def check(self, target: Target) -> None:
            pass

    with pytest.raises(Diverged, match=r"multiplies a direction by 1\.857"):
        propagate(START, Unchecked(2.0), LINE, [10_000])
    with pytest.raises(Diverged, match="no stationary law"):
        affine_map(Unchecked(2.0), LINE).stationary()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: propagate(START, MALA(0.1), LINE, [1]), "draws uniform numbers"),
        (lambda: propagate(START, ULA(0.1), DoubleWell(), [1]), "not affine"),
        (lambda: propagate(START2, ULA(0.1), LINE, [1]), "dimension 2 and the target 1"),
        (lambda: propagate(START, ULA(0.1), LINE, [3, 2]), "increasing"),
        (lambda: propagate(START, LangevinDiffusion(0.1), DoubleWell(), [1]), "law: grid"),
        (lambda: averages(START, ULA(0.1), LINE, [2]), "mixture"),
        (lambda: stationary(Particles(torch.zeros((2, 1)).double()), ULA(0.1), LINE), "particles"),
        (lambda: mesh_for(Gaussian.isotropic(3), ULA(0.1), None), "1 or 2 axes"),
        (lambda: Normal(np.zeros(2), np.eye(3)), "cov (d, d)"),
        (lambda: Normal(np.zeros(2), np.array([[1.0, 0.0], [0.5, 1.0]])), "symmetric"),
        (lambda: Particles(torch.zeros((0, 2))), "N >= 1"),
        (
            lambda: propagate(Grid.of_normal(Normal(np.array([40.0]), np.eye(1)), Mesh((-5.0,), (50.0,), 401)), LangevinDiffusion(0.1), LINE, [1]),
            "too far",
        ),
    ],
)
def test_what_has_no_route_says_why(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises((InvalidInput, Unsupported)) as caught:
        call()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_averages_are_the_mixture_of_the_laws() -> None:
    start = Grid.of_normal(START, mesh_for(LINE, ULA(0.1), START))
    laws = propagate(start, ULA(0.1), LINE, [1, 2, 3, 4])
    for k, average in zip((2, 4), averages(start, ULA(0.1), LINE, [2, 4]), strict=True):
        assert isinstance(average, Grid)
        mean = np.mean([law.density for law in laws[:k] if isinstance(law, Grid)], axis=0)
        assert np.abs(average.density - mean).max() < 1e-14


def test_a_two_dimensional_mixture_keeps_its_mass_and_its_target() -> None:
    target = GaussianMixture.two_modes(2.0, dim=2)
    mesh = mesh_for(target, LangevinDiffusion(0.2), None, nodes=81)
    law = advance(Grid.of_target(target, mesh), [grid_step(LangevinDiffusion(0.2), target, mesh)], 3)
    assert abs(law.mass - 1) < 1e-9 and np.abs(law.density - Grid.of_target(target, mesh).density).max() < 1e-9


# Planted bugs in the laws themselves.


class Transposed(AffineMap):
    """C + A^T S A for A S A^T + C."""

    def __call__(self, law: Normal) -> Normal:
        a = self.linear
        return Normal(a @ law.mean + self.offset, a.T @ law.cov @ a + self.noise_cov)


class StaleNoise(AffineMap):
    """The noise of the first map is not carried through the second."""

    def then(self, later: AffineMap) -> AffineMap:
        a = later.linear
        return StaleNoise(a @ self.linear, a @ self.offset + later.offset, self.noise_cov + later.noise_cov)


@pytest.mark.parametrize("broken", [Transposed, StaleNoise])
def test_affine_law_mutants_are_caught(broken: type[AffineMap]) -> None:
    good = random_map(4, 1, symmetric=False)
    bad = broken(good.linear, good.offset, good.noise_cov)
    law = Normal(np.ones(4), np.diag([1.0, 2.0, 3.0, 4.0]))
    right = good(good(law)).cov

    def check(step: AffineMap) -> None:
        for twice in (step(step(law)), step.power(2)(law)):
            assert np.abs(right - twice.cov).max() < 1e-12 * np.abs(right).max()

    check(good)
    with pytest.raises(AssertionError):
        check(bad)


def test_grid_law_mutants_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the noise, a kernel that is not transposed, a transform with the wrong sign: the comparison with the affine law fails."""

    def half(mesh, moved, cov):  # type: ignore[no-untyped-def]
        return dense_step(mesh, moved, cov / 2)

    def mirrored(mesh, moved, cov):  # type: ignore[no-untyped-def]
        return dense_step(mesh, 2 * np.mean(mesh.axes[0]) - moved, cov)

    def transposed(mesh, moved, cov):  # type: ignore[no-untyped-def]
        s = float(np.sqrt(cov[0, 0]))
        kernel = np.exp(-0.5 * ((mesh.axes[0][:, None] - moved[:, 0]) / s) ** 2) * mesh.cell / (s * np.sqrt(2 * np.pi))
        return lambda p: kernel.T @ p

    check_grid(ULA(0.05), LINE, START, 10, 1e-12)
    for mutant in (half, mirrored, transposed):
        monkeypatch.setattr(grid_module, "dense_step", mutant)
        with pytest.raises((AssertionError, Diverged)):
            check_grid(ULA(0.05), LINE, START, 10, 1e-12)


def test_a_sampler_with_position_dependent_noise_is_refused_by_the_grid() -> None:
    class Multiplicative(ULA):
        def step(self, target: Target, state: State, noise: Noise) -> State:
            return State(state.x + (1 + state.x**2) * noise.normal(tuple(state.x.shape)))

        def transfer(self, target: Target, mesh: Mesh) -> Transfer | None:
            return None

    with pytest.raises(Unsupported, match="moves nodes differently"):
        grid_step(Multiplicative(0.1), LINE, Mesh((-3.0,), (3.0,), 101))


def test_refining_the_mesh_does_not_move_a_resolved_law() -> None:
    coarse, fine = Mesh((-7.0,), (11.0,), 451), Mesh((-7.0,), (11.0,), 903)
    target = SkewLogistic()
    laws = [propagate(Grid.of_normal(START, m), ULA(0.1), target, [20])[0] for m in (coarse, fine)]
    assert isinstance(laws[0], Grid) and isinstance(laws[1], Grid)
    assert np.abs(laws[0].interpolate(fine).density - laws[1].density).max() < 1e-10
    assert replace(laws[0]).error < 1e-8


def test_the_tails_of_a_stationary_law_keep_relative_accuracy() -> None:
    """Exponential tails, where a linear solve leaves 1e-17 of the peak: R_3(pi_h | pi) against a mesh twice as fine."""
    target, sampler, found = Hyperbolic(), ULA(0.05), []
    for n in (601, 1101):
        mesh = Mesh((-50.0,), (50.0,), n)
        law = stationary(Grid.of_target(target, mesh), sampler, target)
        assert isinstance(law, Grid)
        x = mesh.axes[0]
        slope = np.diff(law.log_density)[(x[1:] > 20) & (x[1:] < 45)] / mesh.cell
        assert (slope < -0.9).all()  # the tail goes on falling like exp(-|x|) down to 1e-20
        found.append(Renyi(3.0)(law, target).value)
    assert found[0] == pytest.approx(found[1], rel=1e-3) and found[1] < 1e-3


def test_a_feature_between_the_nodes_is_not_passed_over() -> None:
    narrow = GaussianMixture([0.5, 0.5], [[0.0], [3.01]], [1.0, 1e-8])
    law = Grid.of_target(narrow, Mesh((-9.0,), (9.0,), 601))
    assert law.unresolved > 0.1
    assert "poincare" not in narrow.constants
