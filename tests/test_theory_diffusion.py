"""Section F of the ledger: diffusion from a known density. Each theorem holds where it should, refuses where it must, and can fail."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from mixrate.errors import InvalidInput, Unsupported
from mixrate.experiments.components import build, names
from mixrate.laws.coupling import Coupled
from mixrate.laws.flow import Flow, noiseless
from mixrate.laws.grid import Grid
from mixrate.laws.normal import Normal, affine_map
from mixrate.laws.origin import grid_origin, normal_origin, particles_origin
from mixrate.laws.particles import Particles
from mixrate.laws.propagate import mesh_for, propagate, stationary
from mixrate.metrics.kl import KL
from mixrate.metrics.tv import TV
from mixrate.metrics.w2 import W2
from mixrate.samplers.base import Sampler
from mixrate.samplers.diffusion.ddpm import DDPM
from mixrate.samplers.diffusion.flow_adaptive import FlowAdaptive
from mixrate.samplers.diffusion.flow_heun import FlowHeun
from mixrate.samplers.diffusion.forward import VE, VP, Forward, SubVP
from mixrate.samplers.diffusion.reverse import Reverse
from mixrate.samplers.diffusion.reverse_euler import ReverseEuler
from mixrate.samplers.diffusion.reverse_exponential import ReverseExponential
from mixrate.samplers.diffusion.schedule import Constant, Linear
from mixrate.samplers.ula import ULA
from mixrate.targets.base import Target
from mixrate.targets.double_well import DoubleWell
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.theory.base import Case, Theorem
from mixrate.theory.em_girsanov import drift_gap

LEDGER = [
    "ddpm-marginal",
    "ddpm-posterior",
    "reverse-sde",
    "reverse-flow",
    "ou-kl",
    "em-girsanov",
    "rate-diffusion-horizon",
    "rate-diffusion-step",
    "rate-diffusion-d",
    "rate-diffusion-score",
    "annealed-weights",
    "sscs-order",
    "sscs-published",
    "phase-euler-order",
    "error-split",
]

MODES, ILL = GaussianMixture.two_modes(3.0, weight=0.3), Gaussian.ill_conditioned(3, 5.0, rotation=2, mean=0.7)
PRIOR = Normal([0.0], [[1.0]])


def word(theorem: Theorem, *cases: Case, factor: float = 1.0) -> str:
    rows = []
    for case in cases:
        if theorem.unmet(case):
            return "not applicable"
        rows += theorem.rows(case, factor)
    return theorem.judge(rows).word


def on_grid(sampler: Sampler, start: Any, steps: tuple[int, ...], target: Target = MODES, nodes: int = 301) -> Case:
    mesh = mesh_for(target, sampler, PRIOR, nodes)
    first = grid_origin(sampler, target, nodes) if start == "forward" else Grid.of_normal(start, mesh)
    return Case(target, sampler, steps, propagate(first, sampler, target, steps))


def on_normal(sampler: Sampler, start: Any, steps: tuple[int, ...], target: Target = ILL) -> Case:
    d = target.dim
    first = normal_origin(sampler, target) if start == "forward" else Normal(np.zeros(d), np.eye(d))
    return Case(target, sampler, steps, propagate(first, sampler, target, steps))


def test_section_f_is_covered() -> None:
    assert set(LEDGER) <= set(names("theorem"))


# Forward processes.

PROCESSES = [VP(3.0, Constant(2.0)), VP(1.0, Linear(0.1, 20.0, 1.0)), SubVP(1.0, Linear(0.1, 20.0, 1.0)), VE(1.0, 0.01, 5.0)]


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_the_kernel_solves_its_equation(process: Forward) -> None:
    """a' = f a and v' = 2 f v + g^2 by central differences; closed forms of the integrals against quadrature; composition."""
    for t in (0.2, 0.5, 0.9):
        e = 1e-6
        slope = (process.scale(t + e) - process.scale(t - e)) / (2 * e)
        assert abs(slope - process.drift(t) * process.scale(t)) < 1e-7 * (1 + abs(slope))
        slope = (process.variance(t + e) - process.variance(t - e)) / (2 * e)
        assert abs(slope - 2 * process.drift(t) * process.variance(t) - process.noise(t)) < 1e-6 * (1 + abs(slope))
        ratio, added = process.between(0.1, t)
        assert abs(ratio**2 * process.variance(0.1) + added - process.variance(t)) < 1e-13 * (1 + process.variance(t))
        assert abs(added - Forward.added(process, 0.1, t)) < 1e-10 * added
        assert abs(process.push(0.1, t) - Forward.push(process, 0.1, t)) < 1e-10 * abs(process.push(0.1, t))
    early = process.variance(1e-9)
    assert early > 0 and abs(early / (2 * process.variance(5e-10)) - 1) < (1.01 if isinstance(process, SubVP) else 1e-6)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_the_noised_target_is_the_law_of_the_forward_process(process: Forward) -> None:
    """A mixture's components by the moments of ``a X + sqrt(v) xi``; its density by a convolution on a mesh."""
    t = 0.4
    a, v = process.kernel(t)
    noised = process.noised(MODES, t)
    x = np.linspace(-30, 30, 6001)
    p = np.exp(-MODES.potential(torch.as_tensor(x[:, None])).numpy() - float(MODES.log_normalizer or 0.0))
    y = np.array([-2.0, 0.3, 1.7])
    convolved = (p[None, :] * np.exp(-((y[:, None] - a * x) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v)).sum(1) * (x[1] - x[0])
    found = np.exp(-noised.potential(torch.as_tensor(y[:, None])).numpy() - float(noised.log_normalizer or 0.0))
    assert np.abs(found / convolved - 1).max() < 1e-6


# The laws of schedules.


def test_a_schedule_ends() -> None:
    sampler = ReverseEuler(10, 2.0)
    with pytest.raises(InvalidInput, match="steps must be at most 10"):
        propagate(Normal([0.0], [[1.0]]), sampler, Gaussian.isotropic(1), [11])
    with pytest.raises(Unsupported, match="no stationary law"):
        stationary(Normal([0.0], [[1.0]]), sampler, Gaussian.isotropic(1))
    with pytest.raises(Unsupported, match="schedule"):
        propagate(Coupled.starting(PRIOR, Gaussian.isotropic(1), 4), sampler, Gaussian.isotropic(1), [1])
    with pytest.raises(Unsupported, match="start: forward has no meaning"):
        grid_origin(ULA(0.1), MODES)
    with pytest.raises(Unsupported, match="no closed form after noising"):
        propagate(PRIOR, sampler, DoubleWell(), [1])


def test_a_schedule_goes_on_where_it_was() -> None:
    """Particles carried in two pieces are those carried at once."""
    sampler = ReverseExponential(12, 2.0)
    start = Particles.of_normal(PRIOR, 500, seed=4)
    whole = propagate(start, sampler, MODES, [5, 12])
    rest = propagate(whole[0], sampler, MODES, [7])[0]
    assert torch.equal(rest.x, whole[1].x)  # type: ignore[union-attr]


def test_the_three_routes_agree() -> None:
    """On a Gaussian on the line: moments by the normal law and by the grid to 1e-9; a mixture's particles against its grid."""
    target, sampler = Gaussian([0.4], [[0.3]]), ReverseExponential(20, 2.0, stop=0.01, spacing="quadratic")
    exact = propagate(PRIOR, sampler, target, [20])[0]
    case = on_grid(sampler, PRIOR, (0, 20), target)
    found = case.laws[-1].moments  # type: ignore[union-attr]
    assert isinstance(exact, Normal) and abs(found.mean[0] - exact.mean[0]) < 1e-9 and abs(found.cov[0, 0] - exact.cov[0, 0]) < 1e-9
    particles = propagate(Particles.of_normal(PRIOR, 20_000, seed=2), sampler, MODES, [20])[0]
    grid = on_grid(sampler, PRIOR, (0, 20)).laws[-1]
    assert isinstance(grid, Grid)
    cdf = np.cumsum(grid.density) * grid.mesh.cell
    x = np.sort(particles.x[:, 0].numpy())  # type: ignore[union-attr]
    there = np.interp(x, grid.mesh.axes[0] + grid.mesh.cell / 2, cdf)
    # Dvoretzky-Kiefer-Wolfowitz: false alarm 1e-6 at sqrt(log(2e6)/(2 n)) = 0.019
    assert np.abs(there - (np.arange(len(x)) + 0.5) / len(x)).max() < 0.019


def test_flows_are_composed_and_pushed_at_once() -> None:
    """One push along the composed map agrees with a change of variables, and with the step-by-step law up to its rounding."""
    sampler = FlowHeun(60, 3.0)
    assert noiseless(sampler.at(3), MODES) and not noiseless(ReverseEuler(60, 3.0).at(3), MODES)
    start = grid_origin(sampler, MODES, 401)
    flow = Flow.of(start)
    for k in range(60):
        flow = flow.then(sampler.at(k), MODES)
    law = flow.law()
    assert law.unresolved < 1e-12 and abs(law.mass - 1) < 1e-12
    places, before = flow.places[:, 0].numpy(), flow.fine.mesh.axes[0]
    density = np.interp(before, start.mesh.axes[0], start.density) / np.gradient(places, before)
    near = (np.abs(places) < 6) & (density > 1e-6)
    found = np.interp(places[near], law.mesh.axes[0], law.density)
    assert np.abs(found / density[near] - 1).max() < 0.02  # two linear interpolations


@pytest.mark.parametrize("process", ["vp", "sub_vp", "ve"])
def test_the_adaptive_flow_returns_the_target_to_its_tolerance(process: str) -> None:
    """To 1e-6 on the mixture, for every process: the start is exact, and nothing else is lost."""
    first, last = {"vp": (0.1, 10.0), "sub_vp": (0.1, 10.0), "ve": (0.01, 8.0)}[process]
    case = on_grid(FlowAdaptive(1, 1.0, process=process, first=first, last=last), "forward", (0, 1), nodes=601)
    assert TV()(case.laws[-1], MODES).value < 1e-6


def test_starts_at_the_forward_law() -> None:
    sampler = ReverseEuler(10, 1.5)
    q = sampler.forward.noised(MODES, 1.5)
    law = grid_origin(sampler, MODES, 301)
    assert TV().between(law, Grid.of_target(q, law.mesh)).value < 1e-12
    assert particles_origin(sampler, MODES, 100, 3).x.shape == (100, 1)
    with pytest.raises(Unsupported, match="needs a Gaussian target"):
        normal_origin(sampler, MODES)


def test_small_noise_on_a_coarse_mesh_costs_nothing() -> None:
    """Steps whose noise falls below the spacing, as a reverse diffusion's last ones do: two meshes agree to 1e-9, and no mass
    is made or lost, which a plain sum over the nodes would do by 1e-4 a step."""
    sampler = DDPM(60, 3.0, spacing="quadratic")
    coarse, fine = (propagate(grid_origin(sampler, MODES, n), sampler, MODES, [60])[0] for n in (301, 601))
    values = [TV()(law, MODES).value for law in (coarse, fine)]
    assert abs(values[0] - values[1]) < 1e-9
    assert isinstance(coarse, Grid) and abs(coarse.mass - 1.0) < 1e-10
    mesh = mesh_for(MODES, ULA(0.002), None, nodes=301)
    assert 0.7 < (2 * 0.002) ** 0.5 / mesh.spacing[0] < 1.35
    law = propagate(Grid.of_target(MODES, mesh), ULA(0.002), MODES, [200])[0]
    assert isinstance(law, Grid) and abs(law.mass - 1.0) < 1e-10


# The theorems.


def test_marginals_ask_for_the_oracle_and_the_forward_start() -> None:
    theorem = build("theorem", "reverse-sde", {})
    assert theorem.unmet(on_normal(ReverseEuler(5, 1.0), "prior", (0, 5))) == ["starts at the forward law (start: forward)"]
    assert "the oracle score" in theorem.unmet(on_normal(ReverseEuler(5, 1.0, error=0.1), "forward", (0, 5)))[0]
    assert "speaks of" in theorem.unmet(on_normal(FlowHeun(5, 1.0), "forward", (0, 5)))[0]


@pytest.mark.parametrize(("name", "sampler"), [("reverse-sde", ReverseExponential), ("reverse-flow", FlowHeun)])
def test_marginals_on_gaussians(name: str, sampler: Any) -> None:
    cases = [on_normal(sampler(n, 2.0), "forward", (0, n // 2, n)) for n in (40, 80, 160, 320)]
    assert word(build("theorem", name, {}), *cases) == "holds"
    assert word(build("theorem", name, {"claimed": 3.0}), *cases) == "violated"


class HalfScore(ReverseExponential):
    """A score that counts half: the drift of the flow with the noise of the reverse diffusion."""

    def move(self, target: Target, x: torch.Tensor, t: float, s: float, noise: Any) -> torch.Tensor:
        p = self.forward
        xi = noise.normal(tuple(x.shape))
        return p.scale(s) / p.scale(t) * x + 0.5 * p.push(s, t) * self.look(target, t, x) + p.back(s, t) ** 0.5 * xi


def test_a_missing_factor_two_is_seen_by_every_theorem_on_the_law() -> None:
    def planted(n: int) -> Sampler:
        return HalfScore(n, 2.0)

    cases = [on_normal(planted(n), "forward", (0, n)) for n in (40, 80, 160)]
    theorem: Any = build("theorem", "reverse-sde", {})
    assert theorem.judge([r for c in cases for r in theorem.rows(c)]).word != "holds"
    girsanov: Any = build("theorem", "em-girsanov", {})
    assert girsanov.judge(girsanov.rows(cases[-1])).word == "violated"


def test_girsanov_term_by_term_on_a_gaussian() -> None:
    """The closed form against the quadrature on the line; the injected error adds ``e^2 int g^2/2``; no step, no gap."""
    target = Gaussian([0.4], [[0.3]])
    sampler = ReverseExponential(8, 2.0, stop=0.05, error=0.3)
    closed, error = drift_gap(sampler, target)
    line, _ = drift_gap(sampler, GaussianMixture([1.0], [[0.4]], [[[0.3]]]))
    assert np.abs(closed / line - 1).max() < 1e-9 and (error < 2e-3 * closed).all()
    plain, _ = drift_gap(dataclasses.replace(sampler, error=0.0), target)
    assert np.allclose(closed - plain, 0.3**2 * -np.diff(sampler.times), rtol=1e-9)
    fine, _ = drift_gap(ReverseExponential(800, 2.0, stop=0.05), target)
    assert fine.sum() < 0.02 * plain.sum()


def test_girsanov_is_not_refuted_by_its_own_quadrature() -> None:
    """A few long steps down to small times, where the integrand is stiff."""
    case = on_normal(ReverseExponential(4, 3.0, stop=1e-3), "prior", (0, 4), Gaussian.isotropic(2, 1e-3))
    assert word(build("theorem", "em-girsanov", {}), case) == "holds"


def test_girsanov_holds_and_can_fail() -> None:
    theorem = build("theorem", "em-girsanov", {})
    for sampler in (ReverseExponential(20, 2.0, error=0.4), ReverseExponential(20, 1.0, first=0.1, last=15.0, stop=0.01)):
        assert word(theorem, on_grid(sampler, PRIOR, (0, 10, 20))) == "holds"
    case = on_normal(ReverseExponential(20, 2.0, error=0.4), "prior", (0, 10, 20))
    assert word(theorem, case) == "holds" and word(theorem, case, factor=0.05) == "violated"


def test_the_prior_is_where_the_bound_says() -> None:
    theorem = build("theorem", "ou-kl", {})
    shifted = on_normal(ReverseEuler(8, 2.0), "prior", (0,), Gaussian.isotropic(2, 1.0, 1.5))
    assert word(theorem, shifted) == "holds" and word(theorem, shifted, factor=1 - 1e-6) == "violated"
    assert theorem.unmet(on_normal(ReverseEuler(8, 1.0, process="ve", first=0.01, last=4.0), "prior", (0,)))
    two = GaussianMixture.two_modes(2.0, dim=2) if "dim" in GaussianMixture.two_modes.__annotations__ else None
    assert two is None or theorem.unmet(Case(two, ReverseEuler(8, 1.0), (0,), [Particles(torch.zeros((2, 2), dtype=torch.float64))]))


def test_ddpm_formulas_and_the_printed_one() -> None:
    case = on_normal(ReverseEuler(20, 1.0, first=0.1, last=20.0), "prior", (0,))
    for name in ("ddpm-marginal", "ddpm-posterior"):
        assert word(build("theorem", name, {}), case) == "holds"
        assert word(build("theorem", name, {}), case, factor=1 + 1e-6) == "violated"
    assert word(build("theorem", "ddpm-posterior", {"printed": True}), case) == "violated"
    assert word(build("theorem", "ddpm-posterior", {}), on_normal(ReverseEuler(5, 1.0, process="sub_vp"), "prior", (0,))) == "not applicable"
    assert word(build("theorem", "ddpm-marginal", {}), on_normal(ULA(0.01), "prior", (0,))) == "not applicable"


def test_the_split_adds_up_and_each_part_vanishes_with_its_cause() -> None:
    theorem: Any = build("theorem", "error-split", {})
    full = on_grid(ReverseExponential(25, 2.0, stop=0.02, error=0.2), PRIOR, (0, 25))
    parts = theorem.parts(full)
    assert word(theorem, full) == "holds" and word(theorem, full, factor=0.3) == "violated"
    assert min(e.value for e in parts.values()) > 1e-3
    for change, start, part in (({"stop": 0.0}, PRIOR, "early stopping"), ({"error": 0.0}, PRIOR, "score"), ({}, "forward", "initialisation")):
        case = on_grid(dataclasses.replace(full.sampler, **change), start, (0, 25))  # type: ignore[type-var]
        assert theorem.parts(case)[part].value < 1e-6
    finer = on_grid(ReverseExponential(100, 2.0, stop=0.02, error=0.2), PRIOR, (0, 100))
    assert theorem.parts(finer)["discretisation"].value < 0.4 * parts["discretisation"].value
    assert theorem.unmet(on_grid(ReverseExponential(25, 2.0), PRIOR, (0, 10))) == ["runs to the end of its schedule (steps: [25])"]


def test_the_pieces_of_kl_have_their_rates() -> None:
    """d by d and e by e on Gaussians, to the digits that the fit leaves."""
    dims = [on_normal(ReverseExponential(20, 2.0), "prior", (0, 20), Gaussian.isotropic(d, 0.25, 1.0)) for d in (1, 3, 9, 27)]
    assert word(build("theorem", "rate-diffusion-d", {}), *dims) == "holds"
    errors = [on_normal(ReverseExponential(200, 2.0, error=e), "forward", (0, 200), Gaussian.isotropic(2, 0.25, 1.0)) for e in (0.5, 1.0, 2.0)]
    assert word(build("theorem", "rate-diffusion-score", {}), *errors) == "holds"
    short = on_normal(ReverseExponential(20, 2.0), "prior", (0, 10))
    assert build("theorem", "rate-diffusion-d", {}).unmet(short) == ["runs to the end of its schedule (steps: [20])"]


def test_annealed_weights_reads_shares() -> None:
    target = GaussianMixture.song_ermon()
    theorem = build("theorem", "annealed-weights", {})
    right = Case(target, ULA(0.1), (0,), [Particles.of_target(target, 2000)])
    assert word(theorem, right) == "holds"
    far = Particles(torch.cat([torch.full((1000, 2), -5.0), torch.full((1000, 2), 5.0)]).double())
    assert word(theorem, Case(target, ULA(0.1), (0,), [far])) == "violated"
    assert word(theorem, Case(ILL, ULA(0.1), (0,), [Particles(torch.zeros((4, 3), dtype=torch.float64))])) == "not applicable"


def test_an_exponential_step_is_the_published_one() -> None:
    """For dx = -x dt + sqrt(2) dB: ``e^h x + 2 (e^h - 1) S + sqrt(e^2h - 1) xi``, read off the step (docs/errata.md, 3: as printed,
    with the factor 1, a target N(1.5, 0.25) comes out with variance 3.6)."""
    target, n, horizon = Gaussian([1.5], [[0.25]]), 4000, 6.0
    sampler, h = ReverseExponential(n, horizon), horizon / n
    step = affine_map(sampler.at(0), target)
    late = sampler.forward.noised(target, horizon)
    precision = 1.0 / float(late.moments[1][0, 0])  # type: ignore[index]
    assert abs(step.linear[0, 0] - (np.exp(h) - 2 * (np.exp(h) - 1) * precision)) < 1e-13
    assert abs(step.noise_cov[0, 0] - np.expm1(2 * h)) < 1e-15

    def end(factor: float) -> float:
        variance = 1.0
        for k in range(n):
            q = 1.0 / float(sampler.forward.noised(target, sampler.times[k]).moments[1][0, 0])  # type: ignore[index]
            variance = (np.exp(h) - factor * (np.exp(h) - 1) * q) ** 2 * variance + np.expm1(2 * h)
        return variance

    assert abs(end(2.0) - 0.25) < 5e-3 and abs(end(1.0) - 3.61) < 0.01


def test_kl_of_the_flow_is_that_of_its_start() -> None:
    """A bijection changes no divergence: KL(target | law) at the end is KL(q_T | N(0, 1))."""
    sampler = FlowAdaptive(1, 2.0)
    case = on_grid(sampler, PRIOR, (0, 1), nodes=601)
    first = KL().between(Grid.of_target(sampler.forward.noised(MODES, 2.0), case.start.mesh), case.start)  # type: ignore[union-attr]
    last = KL().between(Grid.of_target(MODES, case.start.mesh), case.laws[-1])  # type: ignore[union-attr]
    assert abs(first.value - last.value) < 1e-8 + last.upper - last.value
    assert W2()(case.laws[-1], MODES).value > 0.0 and isinstance(sampler, Reverse)
