"""Section D of the ledger: kinetic dynamics. Each theorem holds where it should, refuses where it must, and can fail."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from mixrate.experiments.components import build, names
from mixrate.laws.coupling import Coupled
from mixrate.laws.moments import joined, pair
from mixrate.laws.normal import AffineMap, Normal, affine_map, lifted, position
from mixrate.laws.particles import Particles
from mixrate.laws.propagate import propagate, stationary
from mixrate.metrics.base import Estimate
from mixrate.metrics.w2 import W2
from mixrate.samplers.baoab import BAOAB
from mixrate.samplers.base import Sampler
from mixrate.samplers.kinetic import Kinetic
from mixrate.samplers.klmc import KLMC
from mixrate.samplers.randomized_midpoint import RandomizedMidpoint
from mixrate.samplers.recipe_diffusion import RecipeDiffusion
from mixrate.samplers.ubu import UBU
from mixrate.samplers.ula import ULA
from mixrate.targets.base import Target
from mixrate.targets.double_well import DoubleWell
from mixrate.targets.gaussian import Gaussian
from mixrate.theory.base import Case, Theorem
from mixrate.theory.cld_regimes import CLDRegimes
from mixrate.theory.complexity import Search, fewest
from mixrate.theory.verdict import Row

LEDGER = [
    "recipe-invariant",
    "cld-regimes",
    "cld-kernel",
    "psld-kernel",
    "klmc-w2-flow",
    "klmc-w2",
    "baoab-gauss",
    "rate-integrators-euler",
    "rate-integrators-klmc",
    "rate-integrators-obabo",
    "rate-integrators-baoab",
    "rate-integrators-ubu",
    "rate-midpoint-coupling",
    "rate-midpoint-variance",
    "rate-kinetic-d",
    "rate-kinetic-eps",
    "rate-midpoint-d",
    "rate-midpoint-eps",
    "irreversible-gap",
]

ILL = Gaussian.ill_conditioned(3, 4.0, rotation=1)
FAR = Normal(np.full(3, 2.0), 0.5 * np.eye(3))


def on_normal(target: Target, sampler: Sampler, start: Normal, steps: tuple[int, ...]) -> Case:
    return Case(target, sampler, steps, propagate(start, sampler, target, steps))


def word(theorem: Theorem, *cases: Case, factor: float = 1.0) -> str:
    rows = []
    for case in cases:
        if theorem.unmet(case):
            return "not applicable"
        rows += theorem.rows(case, factor)
    return theorem.judge(rows).word


def test_section_d_is_covered() -> None:
    assert set(LEDGER) <= set(names("theorem"))


# W2 of the diffusion and of KLMC.


def flow(friction: float, mass: float = 1.0, start: Normal = FAR, target: Target = ILL) -> Case:
    return on_normal(target, RecipeDiffusion.kinetic(0.1, friction, mass), start, (0, 1, 5, 20, 60, 120))


def test_the_flow_contracts_as_stated_and_not_much_faster() -> None:
    theorem = build("theorem", "klmc-w2-flow", {})
    assert word(theorem, flow(5**0.5)) == "holds"
    assert word(theorem, flow(5**0.5), factor=0.5) == "violated"


def test_a_mass_is_a_unit_of_time() -> None:
    """``t -> t/sqrt(M)``, ``gamma -> gamma sqrt(M)``: the same laws and the same bounds, number by number."""
    theorem: Any = build("theorem", "klmc-w2-flow", {})
    one = flow(2.5)
    other = on_normal(ILL, RecipeDiffusion.kinetic(0.1 * 4.0**0.5, 2.5 / 4.0**0.5, 4.0), FAR, one.steps)
    assert np.allclose(theorem.bound(one), theorem.bound(other), rtol=1e-12)
    for a, b in zip(one.measure(W2()), other.measure(W2()), strict=True):
        assert abs(a.value - b.value) < 1e-12
    chain, scaled = (on_normal(ILL, KLMC(h, g, m), FAR, (0, 10, 100)) for h, g, m in ((0.02, 2.5, 1.0), (0.04, 1.25, 4.0)))
    theorem = build("theorem", "klmc-w2", {})
    assert np.allclose(theorem.bound(chain), theorem.bound(scaled), rtol=1e-12) and not theorem.unmet(chain) and not theorem.unmet(scaled)


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (lambda: flow(2.0), "friction at least sqrt((m + M)/mass) = 2.23607, got 2"),
        (lambda: flow(2.0, mass=0.25), "friction at least sqrt((m + M)/mass) = 4.47214, got 2"),
        (lambda: on_normal(ILL, RecipeDiffusion.psld(0.1, 1.0, 3.0), FAR, (0, 1)), "kinetic Langevin"),
        (lambda: on_normal(ILL, RecipeDiffusion.cld(0.1, 3.0, momentum=0.04), FAR, (0, 1)), "independent momentum"),
        (lambda: flow(3.0, start=flow(3.0).laws[2]), "independent momentum"),  # type: ignore[arg-type]
    ],
)
def test_the_flow_theorem_refuses(case: Any, why: str) -> None:
    unmet = build("theorem", "klmc-w2-flow", {}).unmet(case())
    assert len(unmet) == 1 and why in unmet[0]


def test_klmc_refuses_a_large_step_and_a_potential_that_is_not_convex() -> None:
    theorem = build("theorem", "klmc-w2", {})
    assert theorem.unmet(on_normal(ILL, KLMC(0.03, 2.5), FAR, (0, 1))) == ["step_size at most m/(4 gamma M) = 0.025, got 0.03"]
    particles = Particles(torch.zeros((4, 1), dtype=torch.float64))
    wells = Case(DoubleWell(), KLMC(0.01, 3.0), (0,), [particles])
    assert "strongly log-concave (m > 0)" in theorem.unmet(wells)[0]


def test_pairs_with_one_noise_bound_the_flow_from_above() -> None:
    target, sampler = Gaussian.isotropic(5), RecipeDiffusion.kinetic(0.2, 2.0)
    start = Coupled.starting(Normal(np.full(5, 2.0), 0.5 * np.eye(5)), target, 2000)
    pairs = propagate(start, sampler, target, [0, 5, 15])
    case = Case(target, sampler, (0, 5, 15), pairs)
    assert word(build("theorem", "klmc-w2-flow", {}), case) == "holds"
    exact = on_normal(target, sampler, Normal(np.full(5, 2.0), 0.5 * np.eye(5)), (0, 5, 15)).measure(W2())
    for bound, value in zip(case.measure(W2()), exact, strict=True):
        assert bound.side == "upper" and bound.upper >= value.value


# Second moments beside the diffusion.


@pytest.mark.parametrize("sampler", [KLMC(0.1, 2.3, 0.6), UBU(0.1, 2.3, 0.6), BAOAB(0.1, 2.3, 0.6), ULA(0.1)], ids=lambda s: s.name)
def test_the_moments_of_a_pair_are_those_of_the_law(sampler: Sampler) -> None:
    """Where the law is Gaussian: the same variance, stationary and on the way, and a coupling no nearer than W2."""
    target, start = Gaussian.isotropic(1, 0.25), Normal([1.3], [[0.7]])
    one = pair(sampler, 4.0)
    moments = one.start(1.3, 0.7, 4.0, 0.0 if sampler.momentum is None else sampler.momentum.start)
    law = one.step.power(7)(Normal(moments, np.zeros((len(moments),) * 2))).mean
    exact = propagate(start, sampler, target, [7])[0]
    assert isinstance(exact, Normal)
    assert abs(one.variance(law) - (exact.cov[0, 0] + exact.mean[0] ** 2)) < 1e-12
    assert one.square(law) ** 0.5 >= W2()(exact, target).value - 1e-12
    still = stationary(start, sampler, target)
    assert isinstance(still, Normal) and abs(one.variance(one.step.stationary().mean) - still.cov[0, 0]) < 1e-12


def test_the_pair_starts_at_w2_and_the_diffusion_beside_itself_stays_together() -> None:
    sampler, start = RandomizedMidpoint(1e-3, 2.0), Normal(np.full(3, 2.0), np.diag([0.5, 0.5, 0.5]))
    _, moments, where = joined(sampler, ILL, start)
    assert abs(moments[where].sum() ** 0.5 - W2()(start, ILL).value) < 1e-12
    one = pair(UBU(1e-3, 2.0), 3.0)
    assert one.square(one.step.stationary().mean) ** 0.5 < 1e-6


def test_the_midpoints_variance_is_off_by_the_expansion() -> None:
    """``l h^3/(24 gamma M^2)``, to the next order in h."""
    for curvature, gamma, mass in ((1.0, 2.0, 1.0), (3.0, 4.0, 0.5)):
        one = pair(RandomizedMidpoint(0.02, gamma, mass), curvature)
        bias = one.variance(one.step.stationary().mean) - 1.0 / curvature
        assert abs(bias / (curvature * 0.02**3 / (24.0 * gamma * mass**2)) - 1.0) < 0.05


def test_the_midpoints_moments_are_those_of_its_particles() -> None:
    """Mean square of 200,000 chains after 3 steps against the moments: within 5 standard errors (false alarm 1e-6)."""
    sampler, target = RandomizedMidpoint(0.8, 1.0), Gaussian.isotropic(1)
    start = Particles.of_normal(Normal([1.0], [[0.25]]), 200_000, seed=3)
    x = propagate(start, sampler, target, [3])[0].x[:, 0].numpy()  # type: ignore[union-attr]
    one = pair(sampler, 1.0)
    moments = one.start(1.0, 0.25, 1.0, 1.0)
    expected = one.variance(one.step.power(3)(Normal(moments, np.zeros((16, 16)))).mean)
    assert abs((x**2).mean() - expected) < 5.0 * (x**2).std() / len(x) ** 0.5


def test_one_uniform_for_all_is_another_chain() -> None:
    """Planted: the midpoint always in the middle has a bias of order 2, and its variance is not the expansion's."""

    @dataclasses.dataclass(frozen=True)
    class Middle(RandomizedMidpoint):
        def whole(self, target: Target, state: Any, noise: Any) -> Any:
            class Half:
                normal = staticmethod(noise.normal)

                @staticmethod
                def uniform(shape: tuple[int, ...]) -> torch.Tensor:
                    return torch.full(shape, 0.5, dtype=torch.float64)

            return super().whole(target, state, Half())  # type: ignore[arg-type]

    biases = [abs(one.variance(one.step.stationary().mean) - 1.0) for one in (pair(Middle(h, 2.0), 1.0) for h in (0.1, 0.05))]
    assert abs(np.log2(biases[0] / biases[1]) - 3.0) > 0.5


# Complexity.


def test_the_fewest_steps_are_those_of_a_plain_search() -> None:
    target, start = Gaussian.isotropic(2), Normal(np.full(2, 2.0), 0.5 * np.eye(2))
    sizes = np.geomspace(0.5, 0.005, 25)

    def distance(law: Normal) -> float:
        return W2()(position(law, 2), target).value

    def search(h: float) -> Search:
        sampler = KLMC(h, 2.0)
        return Search(affine_map(sampler, target), lifted(start, sampler.momentum), distance)

    def plain(h: float) -> int:
        step, law = affine_map(KLMC(h, 2.0), target), lifted(start, KLMC(h, 2.0).momentum)
        for k in range(1, 3000):
            law = step(law)
            if distance(law) <= 0.1:
                return k
        return 10**9

    found = fewest(search, sizes, 0.1)
    best = min(plain(float(h)) for h in np.geomspace(0.5, 0.005, 97))
    assert found <= min(plain(float(h)) for h in sizes) and abs(found - best) <= 1


def test_complexity_asks_for_the_friction_of_its_theorem() -> None:
    particles = Particles(torch.zeros((4, 3), dtype=torch.float64))
    for name, sampler in (("rate-kinetic-d", KLMC(0.1, 3.0)), ("rate-midpoint-eps", RandomizedMidpoint(0.1, 3.0))):
        unmet = build("theorem", name, {}).unmet(Case(ILL, sampler, (0,), [particles]))
        assert unmet == ["friction 2 sqrt(M/mass) = 4, got 3"]


# Damping.


def damped(ratio: float, steps: tuple[int, ...] = (0, 4, 8), mass: float = 0.25, beta: float = 2.0) -> Case:
    sampler = RecipeDiffusion.cld(0.25, ratio * 2.0 * mass**0.5, mass, beta)
    return on_normal(Gaussian.isotropic(2), sampler, Normal([2.0, 1.0], 0.25 * np.eye(2)), steps)


def test_the_regimes_hold_and_their_optimum_is_reported() -> None:
    theorem = CLDRegimes()
    rows = [r for ratio in (0.5, 0.9, 1.0, 1.1, 2.0) for r in theorem.rows(damped(ratio))]
    verdict = theorem.judge(rows)
    assert verdict.word == "holds" and verdict.figures["Gamma/(2 sqrt(M)) of the largest exponent"] == 1.0
    assert verdict.figures["Gamma/(2 sqrt(M)) of the least W2 at t = 1"] < 1.0
    assert word(theorem, damped(0.5), factor=0.99) == "violated"


def test_an_optimum_elsewhere_is_a_violation() -> None:
    """Rows that agree with their own formula, but whose largest exponent is not at the critical friction."""
    rows = [Row.of(Estimate(v, v, v), v, x=x, tolerance=1e-6, label="exponent") for x, v in ((0.5, 1.0), (1.0, 2.0), (2.0, 3.0))]
    assert CLDRegimes().judge(rows).word == "violated"
    assert CLDRegimes().judge(rows[:2]).word == "holds"


def test_exponents_by_powers_are_the_spectral_radius() -> None:
    draw = np.random.Generator(np.random.Philox(1))
    for n in (1, 2, 5, 20):
        a = draw.standard_normal((n, n)) / n**0.5
        log, error = AffineMap(a, np.zeros(n), np.eye(n)).exponent()
        assert abs(log - np.log(np.abs(np.linalg.eigvals(a)).max())) < 1e-9 + error
    defective, _ = AffineMap(np.array([[0.9, 1.0], [0.0, 0.9]]), np.zeros(2), np.eye(2)).exponent()
    assert abs(defective - np.log(0.9)) < 1e-9
    assert AffineMap(np.array([[0.0, 1.0], [0.0, 0.0]]), np.zeros(2), np.eye(2)).exponent()[0] == -np.inf


@pytest.mark.parametrize(
    ("name", "sampler", "wrong"),
    [
        ("cld-kernel", RecipeDiffusion.cld(0.1, 0.7, 0.25, 4.0, 0.04), RecipeDiffusion.psld(0.1, 0.5, 3.0)),
        ("psld-kernel", RecipeDiffusion.psld(0.1, 0.5, 3.0, 0.25, 8.0, 0.04), RecipeDiffusion.cld(0.1, 1.0)),
    ],
)
def test_kernels_speak_of_their_own_process_from_a_point(name: str, sampler: Sampler, wrong: Sampler) -> None:
    target, point = Gaussian.isotropic(2), Normal([1.0, -2.0], np.zeros((2, 2)))
    theorem = build("theorem", name, {})
    assert word(theorem, on_normal(target, sampler, point, (0, 1, 9))) == "holds"
    assert word(theorem, on_normal(target, sampler, point, (0, 1, 9)), factor=1 + 1e-8) == "violated"
    assert word(theorem, on_normal(target, wrong, point, (0, 1))) == "not applicable"
    assert word(theorem, on_normal(target, sampler, Normal([1.0, -2.0], np.eye(2)), (0, 1))) == "not applicable"


class Swapped(RecipeDiffusion):
    """PSLD whose Gamma and nu are exchanged on the way to the matrices of the step."""

    def move(self, target: Target, z: torch.Tensor, noise: Any) -> torch.Tensor:
        d, q = self.recipe.matrices  # type: ignore[attr-defined]
        mass = self.recipe.mass or 1.0
        exchanged = type(self.recipe)(np.diag([d[1, 1] / mass, d[0, 0] * mass]), q, mass)  # type: ignore[call-arg]
        return RecipeDiffusion(self.step_size, exchanged, self.start).move(target, z, noise)


def test_gamma_and_nu_swapped_are_seen_by_the_kernel() -> None:
    honest = RecipeDiffusion.psld(0.1, 0.5, 3.0, 0.25, 8.0, 0.04)
    planted = Swapped(honest.step_size, honest.recipe, honest.start)
    target, point = Gaussian.isotropic(1), Normal([1.0], [[0.0]])
    case = on_normal(target, planted, point, (0, 1, 9))
    theorem: Any = build("theorem", "psld-kernel", {})
    assert theorem.judge(theorem.rows(case)).word == "violated"


# Orders.


@pytest.mark.parametrize("name", ["kinetic_euler", "klmc", "obabo", "baoab", "ubu"])
def test_order_theorems_speak_of_their_own_integrator(name: str) -> None:
    theorem = build("theorem", f"rate-integrators-{name.removeprefix('kinetic_')}", {})
    other = KLMC(0.1, 2.0) if name != "klmc" else BAOAB(0.1, 2.0)
    assert "speaks of" in theorem.unmet(on_normal(ILL, other, FAR, (0,)))[0]


def test_baoab_has_no_order_on_a_gaussian() -> None:
    case = on_normal(ILL, BAOAB(0.1, 2.0), FAR, (0,))
    assert build("theorem", "rate-integrators-baoab", {}).unmet(case) == ["the target is not Gaussian (there the bias is zero)"]
    assert word(build("theorem", "baoab-gauss", {}), case) == "holds"
    assert word(build("theorem", "baoab-gauss", {}), case, factor=1 + 1e-9) == "violated"


class LateKick(BAOAB):
    """A full second kick."""

    @property
    def stages(self) -> Any:
        return self.kick(1 / 2, look=False), self.drift(1 / 2), self.fluctuate(1), self.drift(1 / 2), self.kick(1)


def test_a_full_second_kick_is_not_exact_on_gaussians() -> None:
    planted: Kinetic = LateKick(0.1, 2.0)
    theorem: Any = build("theorem", "baoab-gauss", {})
    assert theorem.judge(theorem.rows(on_normal(ILL, planted, FAR, (0,)))).word == "violated"
