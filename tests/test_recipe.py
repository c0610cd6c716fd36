"""The complete recipe: what is admissible leaves exp(-H) invariant, what is not is refused or seen, and the named instances are theirs."""

from __future__ import annotations

import dataclasses
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from mixrate.errors import InvalidInput, MixrateError, Unsupported
from mixrate.experiments.components import build
from mixrate.laws.grid import Grid
from mixrate.laws.normal import Normal, affine_map
from mixrate.laws.particles import Particles, simulate
from mixrate.laws.propagate import mesh_for, propagate, stationary
from mixrate.samplers.complete_recipe import CompleteRecipe
from mixrate.samplers.kinetic_euler import KineticEuler
from mixrate.samplers.matrix_function import Tanhc, first, second
from mixrate.samplers.noise import Stream
from mixrate.samplers.recipe import Constant, Recipe
from mixrate.samplers.recipe_diffusion import RecipeDiffusion
from mixrate.samplers.recipe_field import Field
from mixrate.samplers.recipe_optimal import optimal_curl
from mixrate.samplers.recipe_residual import residual
from mixrate.samplers.recipe_sampler import RecipeSampler
from mixrate.samplers.recipe_softabs import SoftAbs
from mixrate.samplers.ula import ULA
from mixrate.targets.base import Target
from mixrate.targets.funnel import Funnel
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.skew_logistic import SkewLogistic
from mixrate.theory.base import Case
from mixrate.theory.irreversible_gap import exponent, per_step
from mixrate.theory.recipe_invariant import Planted

DENSE = Gaussian([1.0, -0.5, 2.0], [[1.0, 0.3, 0.0], [0.3, 0.5, -0.2], [0.0, -0.2, 0.8]])
SKEW, MODES, FUNNEL = SkewLogistic(), GaussianMixture.two_modes(3.0, dim=2, weight=0.3), Funnel(4)
H = 0.07
ZEROS = torch.zeros(500, 1, dtype=torch.float64)

#: Rounding of the residual relative to its terms: a few hundred of them at 1e-16.
ROUNDING = 1e-13


class OwnScore(Target):
    """A smooth density whose score is the default: reverse-mode, cut from its graph."""

    @property
    def dim(self) -> int:
        return 2

    def potential(self, x: torch.Tensor) -> torch.Tensor:
        return 0.25 * x[:, 0] ** 4 + 0.5 * (x[:, 1] - torch.sin(x[:, 0])) ** 2


def points(target: Target, mass: float | None, n: int = 16) -> torch.Tensor:
    noise = Stream("test-recipe")
    x = target.sample(n, noise) if "sample" in target.capabilities else noise.normal((n, target.dim))
    return x if mass is None else torch.cat([x, mass**0.5 * noise.normal((n, target.dim))], 1)


def off(recipe: Recipe, target: Target) -> float:
    """The largest relative Fokker-Planck residual."""
    return float(residual(recipe, target, points(target, recipe.mass)).relative.max())


def joint(target: Gaussian, mass: float | None) -> np.ndarray:
    cov = target.cov.numpy()
    return cov if mass is None else np.asarray(linalg.block_diag(cov, mass * np.eye(target.dim)))


# Admissible D and Q.


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), mass=st.sampled_from([None, 0.4, 3.0]), rank=st.integers(1, 3), data=st.data())
def test_any_constant_d_and_q_leave_the_target_invariant(seed: int, mass: float | None, rank: int, data: Any) -> None:
    recipe = CompleteRecipe.random(H, 3, seed, mass, rank).recipe
    assert off(recipe, DENSE) < ROUNDING
    law = stationary(Normal(np.zeros(3), np.eye(3)), RecipeDiffusion(H, recipe), DENSE)
    assert isinstance(law, Normal)
    found, stated = (law.joint or law).cov, joint(DENSE, mass)
    # a diffusion of low rank forgets slowly: what one step adds is then summed 1/gap times
    gap = -float(np.linalg.eigvals(recipe.linear(DENSE)[0]).real.max())  # type: ignore[index]
    assert np.abs(found - stated).max() < 1e-10 + 1e-14 / gap
    assert np.abs(law.mean - DENSE.mean.numpy()).max() < 1e-10 + 1e-14 / gap


@pytest.mark.parametrize("target", [DENSE, MODES, SKEW, FUNNEL, OwnScore()], ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("mass", [None, 0.4])
def test_state_dependent_d_and_q_leave_the_target_invariant(target: Target, mass: float | None) -> None:
    for seed in range(3):
        recipe = Field(target.dim, seed, mass)
        recipe.check(target)
        assert off(recipe, target) < ROUNDING


@pytest.mark.parametrize("target", [DENSE, MODES, SKEW, FUNNEL, OwnScore()], ids=lambda t: type(t).__name__)
def test_the_riemannian_recipe_leaves_the_target_invariant(target: Target) -> None:
    for alpha in (0.3, 5.0):
        assert off(SoftAbs(alpha), target) < ROUNDING


def test_named_instances_leave_the_target_invariant() -> None:
    c = CompleteRecipe
    for sampler in (c.langevin(H), c.irreversible(H, [[0, 2], [-2, 0]]), c.irreversible_random(H, 2, 1, 3.0), c.kinetic(H, 1.5, 2.0),
                    c.sghmc(H, 1.5, 2.0), c.cld(H, 1.0, 0.25, 4.0), c.psld(H, 0.3, 1.2, 2.0, 0.7)):  # fmt: skip
        assert off(sampler.recipe, MODES) < ROUNDING
    assert off(c.irreversible_optimal(H).recipe, DENSE) < ROUNDING


# What must be caught.


@pytest.mark.parametrize("inner", [Field(2, 1), Field(2, 1, 0.5), SoftAbs(1.0)], ids=["field", "field with momentum", "softabs"])
def test_a_drift_that_is_not_the_recipe_s_is_seen(inner: Recipe) -> None:
    assert off(Planted(inner, True, 0.0), MODES) < ROUNDING
    assert off(Planted(inner, False, 0.0), MODES) > 1e-2
    assert off(Planted(inner, True, 1e-3), MODES) > 1e-6


@dataclasses.dataclass(frozen=True)
class Wrong(Recipe):
    """One fault at a time, in the state-dependent part of D or Q or in the correction."""

    fault: str

    def diffusion(self, target: Target, z: torch.Tensor) -> torch.Tensor:
        d = torch.diag_embed(1.5 + torch.sin(z))
        if self.fault == "negative":
            d = d - 2.0 * torch.eye(z.shape[1])
        if self.fault == "asymmetric":
            d = d + 0.1 * torch.ones(z.shape[1], z.shape[1]).triu(1)
        return d if self.fault != "shape" else d[:, :1]

    def curl(self, target: Target, z: torch.Tensor) -> torch.Tensor:
        k = torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).to(z) * torch.cos(z[:, :1, None])
        return k.abs() if self.fault == "not skew" else k / 0.0 if self.fault == "infinite" else k

    def correction(self, target: Target, z: torch.Tensor) -> torch.Tensor:
        right = super().correction(target, z)
        return {"half": 0.5 * right, "sign": -right, "transposed": right - 2 * super().correction(target, z).flip(1)}.get(self.fault, right)


@pytest.mark.parametrize(
    ("fault", "words"),
    [("negative", "diffusion must be positive semidefinite at z"), ("asymmetric", "diffusion must be symmetric"), ("not skew", "curl must be skew"),
     ("infinite", "curl must be finite"), ("shape", "diffusion must have shape (N, 2, 2)")],
)  # fmt: skip
def test_an_inadmissible_recipe_is_refused_in_one_line(fault: str, words: str) -> None:
    CompleteRecipe(H, Wrong("none")).admit(MODES)
    with pytest.raises(InvalidInput) as caught:
        CompleteRecipe(H, Wrong(fault)).admit(MODES)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_wrong_correction_is_seen() -> None:
    assert off(Wrong("none"), MODES) < ROUNDING
    for fault in ("half", "sign", "transposed"):
        assert off(Wrong(fault), MODES) > 1e-2


def test_the_residual_sees_a_wrong_score() -> None:
    """H is differentiated from V, the drift from the score as coded: they must agree."""

    class Tilted(GaussianMixture):
        def score(self, x: torch.Tensor) -> torch.Tensor:
            return 1.01 * super().score(x)

    bent = Tilted(MODES.weights, MODES.means, MODES.covs)
    assert off(Field(2, 1), MODES) < ROUNDING and off(Field(2, 1), bent) > 1e-4


def test_a_small_eigenvalue_of_d_keeps_its_noise() -> None:
    """A direction that diffuses 10^13 times more slowly than another must not lose its noise and keep its drift."""
    recipe = Constant(np.diag([1.0, 1e-13]), np.zeros((2, 2)))
    moved = recipe.spread(MODES, torch.zeros(2, 2, dtype=torch.float64), torch.eye(recipe.normals(2), dtype=torch.float64))
    assert np.abs((moved.T @ moved).numpy() / np.array([2.0, 2e-13])[:, None] - np.eye(2)).max() < 1e-12
    pure = Constant(np.zeros((2, 2)), [[0.0, -1.0], [1.0, 0.0]], 1.0)  # no noise at all is admissible
    carried = simulate(Particles(points(SKEW, None)), CompleteRecipe(H, pure), SKEW, [3])[0]
    assert pure.normals(2) == 0 and bool(torch.isfinite(carried.x).all())


# SoftAbs: its matrix function and its correction.


def test_softabs_is_the_inverse_metric_and_its_correction_the_derivative() -> None:
    """By finite differences, where eigenvalues meet (d = 4: e^-v has multiplicity 2) and where one changes sign."""
    alpha, x = 0.7, points(FUNNEL, None, 8)
    x[0] = 0.0  # e^-v has multiplicity 3 there
    recipe = SoftAbs(alpha)
    values, basis = np.linalg.eigh(FUNNEL.hessian(x).numpy())
    assert (np.abs(np.diff(values, axis=1)).min(1) < 1e-12 * np.abs(values).max(1)).all()
    metric = basis @ (np.where(values == 0, 1 / alpha, values / np.tanh(alpha * values))[..., None] * basis.transpose(0, 2, 1))
    assert np.abs(recipe.diffusion(FUNNEL, x).numpy() @ metric - np.eye(4)).max() < 1e-10
    step = 1e-4
    slopes = torch.zeros_like(x)
    for j in range(4):
        e = step * torch.eye(4, dtype=x.dtype)[j]
        around = [recipe.diffusion(FUNNEL, x + c * e)[:, :, j] for c in (1, -1, 2, -2)]
        slopes += (8 * (around[0] - around[1]) - (around[2] - around[3])) / (12 * step)  # error of order step^4
    assert float((recipe.correction(FUNNEL, x) - slopes).abs().max()) < 1e-9
    y = x.clone().requires_grad_(True)
    assert torch.allclose(recipe.correction(FUNNEL, y).detach(), recipe.correction(FUNNEL, x), rtol=1e-10, atol=1e-12)


def test_divided_differences_against_many_digits() -> None:
    import mpmath as mp

    rng, g = np.random.Generator(np.random.Philox(3)), lambda x: mp.tanh(x) / x if x else mp.mpf(1)
    with mp.workdps(80):
        for _ in range(300):
            base = rng.choice([-1, 1]) * 10 ** rng.uniform(-4, 5)
            near = base * (1 + rng.uniform(-1, 1) * 10 ** rng.uniform(-12, 0))
            triple = [base, near, rng.choice([base, near, 0.0, base + 10 ** rng.uniform(-8, 0), 10 ** rng.uniform(-4, 5)])]
            x = [mp.mpf(float(a)) + i * mp.mpf(10) ** -25 for i, a in enumerate(triple)]  # apart, so that quotients exist
            one = [(g(b) - g(a)) / (b - a) for a, b in pairwise(x)]
            two = (one[1] - one[0]) / (x[2] - x[0])
            t = [torch.tensor(float(a), dtype=torch.float64) for a in triple]
            size = float(np.prod([1 + abs(a) for a in triple[:2]]))
            assert abs(float(first(t[0], t[1])) - one[0]) * size < 1e-13
            assert abs(float(second(*t)) - two) * size * (1 + abs(triple[2])) < 1e-12


def test_the_matrix_function_has_two_right_derivatives_at_repeated_eigenvalues() -> None:
    q = torch.linalg.qr(torch.as_tensor(np.random.Generator(np.random.Philox(1)).standard_normal((3, 3))))[0]
    bases = [torch.diag(torch.tensor(v, dtype=torch.float64)) for v in ([2.0, 2.0, -1.0], [0.0, 0.0, 0.0], [0.3, 0.3, 8.0])]

    def function(m: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = Tanhc.apply((m + m.mT) / 2)  # type: ignore[no-untyped-call]
        return out

    m = torch.stack([q @ b @ q.T for b in bases]).requires_grad_(True)
    assert torch.autograd.gradcheck(function, m) and torch.autograd.gradgradcheck(function, m)


# Named instances.


def sde(sampler: RecipeSampler, target: Gaussian) -> tuple[np.ndarray, np.ndarray]:
    """(drift matrix, noise covariance per time) that an Euler step on a Gaussian shows."""
    step, h = affine_map(sampler, target), sampler.step_size
    return (step.linear - np.eye(len(step.linear))) / h, step.noise_cov / h


def printed(rows: list[list[Any]], noise: list[float], precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Blocks (number times I, or times the precision where a string) as matrices."""
    eye = np.eye(len(precision))
    drift = np.block([[float(b) * precision if isinstance(b, str) else b * eye for b in row] for row in rows])
    return drift, np.kron(np.diag(noise), eye)


def agree(found: tuple[np.ndarray, np.ndarray], stated: tuple[np.ndarray, np.ndarray]) -> bool:
    return all(np.abs(a - b).max() < 1e-12 * max(1.0, np.abs(b).max()) / H for a, b in zip(found, stated, strict=True))


def test_instances_are_the_printed_equations() -> None:
    """With mass and beta not 1; and each comparison can tell: friction and nu exchanged, the mass left out of the noise."""
    p, mass, beta, gamma, nu = np.linalg.inv(DENSE.cov.numpy()), 0.4, 1.7, 0.3, 1.2
    c = CompleteRecipe
    cld = printed([[0.0, beta / mass], [f"{-beta}", -gamma * beta / mass]], [0.0, 2 * gamma * beta], p)
    assert agree(sde(c.cld(H, gamma, mass, beta), DENSE), cld)
    psld = printed([[f"{-beta / 2 * gamma}", beta / 2 / mass], [f"{-beta / 2}", -beta / 2 * nu]], [gamma * beta, mass * nu * beta], p)
    assert agree(sde(c.psld(H, gamma, nu, mass, beta), DENSE), psld)
    assert not agree(sde(c.psld(H, nu, gamma, mass, beta), DENSE), psld)
    assert not agree(psld, printed([[f"{-beta / 2 * gamma}", beta / 2 / mass], [f"{-beta / 2}", -beta / 2 * nu]], [gamma * beta, nu * beta], p))
    sghmc = printed([[0.0, 1 / mass], ["-1", -gamma / mass]], [0.0, 2 * gamma], p)
    assert agree(sde(c.sghmc(H, gamma, mass), DENSE), sghmc) and not agree(sde(c.sghmc(H, gamma * mass, mass), DENSE), sghmc)


def test_kinetic_is_the_euler_scheme_and_sghmc_under_its_friction() -> None:
    gamma, mass = 1.5, 0.4
    own, euler, other = (
        affine_map(s, DENSE)
        for s in (CompleteRecipe.kinetic(H, gamma, mass), KineticEuler(H, gamma, mass), CompleteRecipe.sghmc(H, gamma * mass, mass))
    )
    for found in (euler, other):
        for name in ("linear", "offset", "noise_cov"):
            assert np.abs(getattr(own, name) - getattr(found, name)).max() < 1e-14
    assert np.abs(affine_map(CompleteRecipe.kinetic(H, gamma, 1.0), DENSE).noise_cov - own.noise_cov).max() > 1e-3


def test_irreversible_without_a_curl_is_ula_step_for_step() -> None:
    x, noise = points(MODES, None), Stream("steps")
    samplers = ULA(H), CompleteRecipe.irreversible(H, [[0.0, 0.0], [0.0, 0.0]]), CompleteRecipe.langevin(H)
    states = [s.init(MODES, x, noise) for s in samplers]
    for k in range(1, 6):
        states = [s.step(MODES, state, noise.at(k)) for s, state in zip(samplers, states, strict=True)]
    assert float((states[1].x - states[0].x).abs().max()) < 1e-13 and float((states[2].x - states[0].x).abs().max()) < 1e-13
    turned = CompleteRecipe.irreversible(H, [[0.0, 1.0], [-1.0, 0.0]]).step(MODES, samplers[1].init(MODES, x, noise), noise.at(1))
    assert float((turned.x - samplers[0].step(MODES, samplers[0].init(MODES, x, noise), noise.at(1)).x).abs().max()) > 1e-3


def test_the_euler_bias_is_of_first_order() -> None:
    values = []
    for h in (0.1, 0.05, 0.025):
        sampler = CompleteRecipe.psld(h, 0.5, 1.5, 1.5)
        law = stationary(Grid.of_target(SKEW, mesh_for(SKEW, sampler, None, nodes=101)), sampler, SKEW)
        assert isinstance(law, Grid)
        values.append(float(law.moments.cov[0, 0]) - float(SKEW.moments[1][0, 0]))  # type: ignore[index]
    slopes = np.log2(np.abs(values[:-1]) / np.abs(values[1:]))
    # b h + c h^2: halving h changes the slope's distance from 1 by half
    assert abs(slopes[1] - 1) < 0.08 and abs(slopes[1] - 1) < 0.7 * abs(slopes[0] - 1)


def test_costs_are_the_declared_ones() -> None:
    calls = {"score": 0}

    class Counting(GaussianMixture):
        def score(self, x: torch.Tensor) -> torch.Tensor:
            calls["score"] += 1
            return super().score(x)

    target = Counting(MODES.weights, MODES.means, MODES.covs)
    for sampler in (CompleteRecipe.psld(H, 0.3, 1.2), CompleteRecipe.random_field(H, 2, 1), CompleteRecipe.riemannian(H)):
        state = sampler.init(target, points(MODES, None), Stream(0))
        calls["score"] = 0
        sampler.step(target, state, Stream(0).at(1))
        assert calls["score"] == sampler.score_evaluations == 1


@pytest.mark.parametrize(
    "recipe", [Constant([[0.3, 0], [0, 1.2]], [[0, -1], [1, 0]], 2.0), Field(1, 1, 0.5), SoftAbs(1.0)], ids=lambda r: type(r).__name__
)
def test_float32_is_kept_and_near(recipe: Recipe) -> None:
    """The parts of a step in either precision on the same numbers: apart by rounding, 6e-8, times the few operations of a step."""
    z = points(SKEW, recipe.mass)
    xi = Stream("xi").normal((len(z), recipe.normals(z.shape[1])))
    for single, double in (
        (recipe.drift(SKEW, z.float()), recipe.drift(SKEW, z)),
        (recipe.spread(SKEW, z.float(), xi.float()), recipe.spread(SKEW, z, xi)),
    ):
        assert single.dtype == torch.float32
        assert float((single - double).abs().max()) < 1e-5 * float(1 + double.abs().max())


@pytest.mark.parametrize(
    ("name", "params", "target", "words"),
    [
        ("complete_recipe.langevin", {"step_size": -1.0}, MODES, "step_size must be a positive"),
        ("complete_recipe.psld", {"step_size": H, "friction": 0.0, "nu": 0.0}, MODES, "friction and nu must not both be 0"),
        ("complete_recipe.constant", {"step_size": H, "diffusion": [[1.0, 0.0]], "curl": [[0.0]]}, MODES, "diffusion must be a square matrix"),
        ("complete_recipe.constant", {"step_size": H, "diffusion": [[1.0], [0.0, 1.0]], "curl": [[0.0]]}, MODES, "diffusion must be a matrix"),
        ("complete_recipe.constant", {"step_size": H, "diffusion": [[-1.0]], "curl": [[0.0]]}, MODES, "diffusion must be positive semidefinite"),
        ("complete_recipe.constant", {"step_size": H, "diffusion": [[1.0]], "curl": [[0.5]]}, MODES, "curl must be skew"),
        ("complete_recipe.random", {"step_size": H, "dim": 3, "seed": 1}, MODES, "diffusion must be of size"),
        ("complete_recipe.random", {"step_size": H, "dim": 2, "seed": 1, "rank": 3}, MODES, "rank must be in 1..2"),
        ("complete_recipe.random_field", {"step_size": H, "dim": 3, "seed": 1}, MODES, "dim must be that of gaussian_mixture, 2, got 3"),
        ("complete_recipe.random_field", {"step_size": H, "dim": 2, "seed": -1}, MODES, "seed must be at least 0"),
        ("complete_recipe.random_field", {"step_size": H, "dim": 2, "seed": 1, "mass": 0.0}, MODES, "mass must be a positive"),
        ("complete_recipe.riemannian", {"step_size": H, "alpha": 0.0}, MODES, "alpha must be a positive"),
        ("complete_recipe.irreversible_optimal", {"step_size": H}, MODES, "the optimal skew matrix is that of a Gaussian"),
        ("complete_recipe.langevin", {"step_size": 5.0}, DENSE, "step_size must be below"),
        ("recipe_diffusion.riemannian", {"step_size": H}, DENSE, "a recipe that depends on the state"),
        ("recipe_diffusion.langevin", {"step_size": H}, MODES, "not on gaussian_mixture"),
    ],
)
def test_errors_are_one_line(name: str, params: dict[str, Any], target: Target, words: str) -> None:
    with pytest.raises(MixrateError) as caught:
        build("sampler", name, params).admit(target)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_noise_that_depends_on_the_state_has_no_grid_route() -> None:
    with pytest.raises(Unsupported, match="not a map plus Gaussian noise"):
        propagate(Grid.of_target(SKEW, mesh_for(SKEW, ULA(H), None)), CompleteRecipe.riemannian(H), SKEW, [1])


def test_a_row_that_is_not_finite_does_not_take_the_others_down() -> None:
    z = points(FUNNEL, None, 4)
    z[0, 0] = torch.nan
    moved = CompleteRecipe.riemannian(H).move(FUNNEL, z, Stream(0))
    assert bool(torch.isnan(moved[0]).any()) and bool(torch.isfinite(moved[1:]).all())


# The theorems.


def at_target(target: Target, sampler: RecipeSampler, steps: tuple[int, ...], n: int = 0) -> Case:
    start: Any = Particles.of_target(target, n) if n else Normal(*(m.numpy() for m in target.moments))  # type: ignore[union-attr]
    return Case(target, sampler, steps, propagate(start, sampler, target, steps))


def test_the_theorem_sees_a_missing_correction_on_samples_alone() -> None:
    one = at_target(SKEW, CompleteRecipe.random_field(0.01, 1, 3, 0.5), (0, 30), 4000)
    good, bad = build("theorem", "recipe-invariant", {}), build("theorem", "recipe-invariant", {"correction": False})
    assert good.unmet(one) == [] and good.judge(good.rows(one)).word == "holds"
    assert bad.judge([r for r in bad.rows(one) if r.label.startswith("KS")]).word == "violated"


def test_the_theorem_sees_a_symmetric_part_on_gaussian_laws_alone() -> None:
    one = at_target(DENSE, RecipeDiffusion.kinetic(0.3, 1.5, 2.0), (0, 1, 10))
    good, bad = build("theorem", "recipe-invariant", {}), build("theorem", "recipe-invariant", {"symmetric": 0.01})
    assert good.judge(good.rows(one)).word == "holds" and len(good.rows(one)) == 3
    assert bad.judge([r for r in bad.rows(one) if "W2" in r.label]).word == "violated"


def test_a_step_too_long_for_the_test_on_samples_decides_nothing() -> None:
    one = at_target(SKEW, CompleteRecipe.langevin(0.35), (0, 10), 4000)
    theorem = build("theorem", "recipe-invariant", {})
    assert theorem.judge(theorem.rows(one)).word == "inconclusive"


@pytest.mark.parametrize(
    ("name", "params", "one", "words"),
    [
        ("recipe-invariant", {"correction": False}, lambda: at_target(DENSE, RecipeDiffusion.langevin(H), (0, 1)), "depends on the state"),
        ("recipe-invariant", {}, lambda: at_target(DENSE, RecipeDiffusion.cld(H, 1.0, momentum=0.04), (0, 1)), "momenta start in N(0, M I)"),
        ("recipe-invariant", {}, lambda: Case(DENSE, RecipeDiffusion.langevin(H), (0,), [Normal(np.zeros(3), np.eye(3))]), "starts at pi"),
        ("recipe-invariant", {}, lambda: Case(SKEW, CompleteRecipe.langevin(H), (0,), [Particles(ZEROS)]), "starts at pi"),
        ("irreversible-gap", {}, lambda: at_target(DENSE, RecipeDiffusion.random(H, 3, 1), (0, 1)), "D = I"),
        ("irreversible-gap", {}, lambda: at_target(DENSE, RecipeDiffusion.kinetic(H, 1.0), (0, 1)), "without a momentum"),
        ("irreversible-gap", {}, lambda: at_target(DENSE, RecipeDiffusion.langevin(1e4), (0, 1)), "step_size at most 600/M"),
    ],
)  # fmt: skip
def test_outside_their_hypotheses_the_theorems_say_which(name: str, params: dict[str, Any], one: Any, words: str) -> None:
    found = build("theorem", name, params).unmet(one())
    assert found and words in "; ".join(found)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), d=st.integers(1, 8))
def test_the_optimal_curl_is_skew_and_attains_the_mean_of_the_spectrum(seed: int, d: int) -> None:
    rng = np.random.Generator(np.random.Philox(seed))
    basis = np.linalg.qr(rng.standard_normal((d, d)))[0]
    values = np.exp(rng.uniform(-3, 3, d))
    p = basis * values @ basis.T
    q, mean = optimal_curl(p), values.mean()
    assert (q == -q.T).all()
    drift = (np.eye(d) + q) @ p
    assert np.abs(np.linalg.eigvals(drift).real - mean).max() < 1e-9 * np.linalg.norm(drift)
    root = basis * np.sqrt(values) @ basis.T
    for t in (0.1, 1.0):
        size = np.linalg.norm(root @ linalg.expm(-drift * t / mean) @ np.linalg.inv(root), 2)
        assert size <= 2**0.5 * np.exp(-t) * (1 + 1e-8)


def test_the_exponent_is_the_spectral_one() -> None:
    rng = np.random.Generator(np.random.Philox(5))
    for d in (1, 2, 6):
        a = rng.standard_normal((d, d)) - 3 * np.eye(d)
        low, high = exponent(linalg.expm(0.2 * a), 0.2)
        stated = -float(np.linalg.eigvals(a).real.max())
        assert low - 1e-9 <= stated <= high + 1e-9 and high - low < 1e-8
    jordan = np.array([[-1.0, 1.0], [0.0, -1.0]])
    low, high = exponent(linalg.expm(0.5 * jordan), 0.5)
    assert low <= 1.0 <= high + 1e-12 and high - low < 1e-8


def test_the_gap_s_two_ends_are_attained_and_a_cut_bound_is_violated() -> None:
    target, theorem = Gaussian.ill_conditioned(5, 100.0, rotation=1), build("theorem", "irreversible-gap", {})
    plain, best = (at_target(target, s, (0, 1)) for s in (RecipeDiffusion.langevin(0.1), RecipeDiffusion.irreversible_optimal(0.1)))
    between = at_target(target, RecipeDiffusion.irreversible_random(0.1, 5, 1), (0, 1))
    rows = [theorem.rows(one) for one in (plain, best, between)]
    assert all(theorem.unmet(one) == [] for one in (plain, best, between)) and theorem.judge(list(chain(*rows))).word == "holds"
    assert rows[0][0].measured == pytest.approx(1.0, abs=1e-10) and rows[1][1].measured == pytest.approx(1.0, abs=1e-9)
    assert 0.3 < rows[2][0].measured < 0.5 and rows[2][1].measured < 0.1
    assert theorem.judge(theorem.rows(plain, 1 - 1e-6)).word == theorem.judge(theorem.rows(best, 1 - 1e-6)).word == "violated"
    assert theorem.judge(theorem.rows(between, 0.9)).word == "holds"
    assert theorem.judge(rows[1]).figures["largest speed-up"] == pytest.approx(29.157, abs=1e-3)


def test_what_is_gained_in_time_can_be_lost_per_euler_step() -> None:
    """At d = 5, condition 100: 29 times faster in time, and 7 times slower per Euler step of the best length."""
    target = Gaussian.ill_conditioned(5, 100.0, rotation=1)
    p = np.linalg.inv(target.cov.numpy())
    values = np.linalg.eigvalsh(p)
    assert per_step(values.astype(complex)) == pytest.approx(-np.log(99 / 101), rel=1e-6)
    assert per_step(np.linalg.eigvals((np.eye(5) + optimal_curl(p)) @ p)) / per_step(values) == pytest.approx(0.1428, abs=1e-3)
