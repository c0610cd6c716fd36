"""Section E of the ledger: score matching. Each theorem holds where it should, refuses where it must, and can fail."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import mixrate.theory.tweedie as tweedie_module
from mixrate.errors import InvalidInput
from mixrate.experiments.components import build, names
from mixrate.laws.normal import Normal
from mixrate.samplers.base import Sampler
from mixrate.samplers.diffusion.reverse_euler import ReverseEuler
from mixrate.samplers.noise import Stream
from mixrate.samplers.ula import ULA
from mixrate.targets.base import Target
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.laplace import Laplace
from mixrate.targets.skew_logistic import SkewLogistic
from mixrate.theory.base import Case
from mixrate.theory.cld_easier import Gaps, position_gap
from mixrate.theory.phase_mixture import coordinates, process, standardised
from mixrate.theory.sm_hybrid import Losses
from mixrate.theory.sm_kde import KernelEstimate, fisher_from
from mixrate.theory.sm_quadrature import Network, average, mixture_rule, networks, normal_rule, target_rule

LEDGER = ["sm-dsm", "sm-ism", "sm-sliced", "sm-kde", "sm-hybrid", "cld-easier", "cld-score-gap", "cld-harder", "tweedie"]

TWO, PLANE = GaussianMixture.two_modes(3, weight=0.3), GaussianMixture.two_modes(3, dim=2, weight=0.3)
SYMMETRIC, NINE = GaussianMixture.two_modes(6), GaussianMixture.nine_modes()
SKEW, SHIFTED = SkewLogistic(), Gaussian(1.0, 0.5)
REVERSE = {
    "vp": ReverseEuler(50, 2.0, process="vp", first=0.5, last=3.0),
    "sub_vp": ReverseEuler(50, 2.0, process="sub_vp", first=0.5, last=3.0),
    "ve": ReverseEuler(50, 2.0, process="ve", first=0.05, last=10.0),
}


def case(target: Target, sampler: Sampler | None = None) -> Case:
    """No chain is run: the theorems here are quadratures over the target."""
    start = Normal(np.zeros(target.dim), np.eye(target.dim))
    return Case(target, sampler or ULA(0.1), (0,), [start])


def verdict(name: str, target: Target, sampler: Sampler | None = None, factor: float = 1.0, **params: Any) -> str:
    theorem, one = build("theorem", name, params), case(target, sampler)
    return "not applicable" if theorem.unmet(one) else theorem.judge(theorem.rows(one, factor)).word


SMALL: dict[str, dict[str, Any]] = {
    "sm-dsm": {"networks": 2, "sigmas": [0.3, 2.0]},
    "sm-ism": {"networks": 2},
    "sm-sliced": {"networks": 2, "points": 2},
    "sm-kde": {"draws": [5, 50], "bandwidths": [0.1, 0.5], "networks": 1},
    "sm-hybrid": {"times": [0.05], "networks": 1},
}


def test_every_row_of_the_section_is_a_theorem_without_a_law() -> None:
    assert set(LEDGER) <= set(names("theorem"))
    for name in LEDGER:
        assert build("theorem", name, {}).instrument == "Q"


@pytest.mark.parametrize(
    ("name", "target"),
    [("sm-dsm", TWO), ("sm-dsm", SKEW), ("sm-ism", TWO), ("sm-ism", SKEW), ("sm-ism", PLANE), ("sm-sliced", TWO), ("sm-sliced", PLANE),
     ("sm-sliced", Gaussian.isotropic(5)), ("sm-kde", TWO), ("sm-kde", SKEW), ("sm-hybrid", TWO), ("sm-hybrid", SHIFTED), ("cld-easier", TWO),
     ("cld-easier", NINE), ("cld-score-gap", SYMMETRIC), ("cld-score-gap", NINE), ("cld-harder", TWO), ("cld-harder", NINE)],
)  # fmt: skip
def test_it_holds_and_its_stated_side_cannot_be_changed(name: str, target: Target) -> None:
    small = SMALL.get(name, {})
    assert verdict(name, target, **small) == "holds"
    factor = {"cld-easier": 0.01, "cld-harder": 0.9}.get(name, 0.999)
    assert verdict(name, target, factor=factor, **small) == "violated"


def test_denoising_in_the_plane() -> None:
    assert verdict("sm-dsm", PLANE, networks=1, sigmas=[1.0]) == "holds"


@pytest.mark.parametrize("process", REVERSE)
def test_tweedie_on_every_forward_process(process: str) -> None:
    small = {"points": 3, "instants": 3}
    assert verdict("tweedie", TWO, REVERSE[process], **small) == "holds"
    assert verdict("tweedie", TWO, REVERSE[process], factor=1 - 1e-6, **small) == "violated"
    assert verdict("tweedie", TWO, REVERSE[process], claimed="deviation", **small) == "violated"


def test_tweedie_in_the_plane() -> None:
    assert verdict("tweedie", NINE, REVERSE["sub_vp"], points=1, instants=2) == "holds"


@pytest.mark.parametrize(
    ("name", "target", "sampler", "why"),
    [
        ("sm-dsm", Gaussian.isotropic(3), None, "d at most 2"),
        ("sm-dsm", Laplace(), None, "smooth potential"),
        ("sm-ism", Laplace(), None, "smooth potential"),
        ("sm-sliced", Gaussian.isotropic(9), None, "d at most 8"),
        ("sm-kde", PLANE, None, "d = 1"),
        ("sm-hybrid", PLANE, None, "in d = 1"),
        ("sm-hybrid", SKEW, None, "mixture of Gaussians"),
        ("cld-easier", SKEW, None, "mixtures of Gaussians"),
        ("cld-easier", Gaussian.isotropic(2), None, "no Gaussian"),
        ("cld-harder", Gaussian.isotropic(2), None, "no Gaussian"),
        ("tweedie", TWO, ULA(0.1), "backwards"),
        ("tweedie", SKEW, REVERSE["vp"], "oracle"),
        ("tweedie", Gaussian.isotropic(3), REVERSE["vp"], "d at most 2"),
    ],
)
def test_it_refuses_where_it_does_not_apply(name: str, target: Target, sampler: Sampler | None, why: str) -> None:
    unmet = build("theorem", name, {}).unmet(case(target, sampler))
    assert len(unmet) == 1 and why in unmet[0]


@pytest.mark.parametrize(
    ("name", "target", "params"),
    [
        ("sm-dsm", TWO, {"power": 2.0, "sigmas": [0.3]}),  # z/sigma^2
        ("sm-dsm", TWO, {"power": 0.0, "sigmas": [0.3]}),  # sigma forgotten
        ("sm-dsm", SKEW, {"power": 2.0, "sigmas": [2.0]}),
        ("sm-dsm", TWO, {"explicit": 1.0, "sigmas": [1.0]}),
        ("sm-ism", TWO, {"norm": 1.0}),
        ("sm-ism", PLANE, {"norm": 1.0}),
        ("sm-sliced", PLANE, {"spread": 1.01}),
        ("sm-sliced", PLANE, {"symmetrised": False}),
        ("sm-kde", TWO, {"minimiser": "target"}),
        ("sm-hybrid", TWO, {"claimed": "no_root"}),
        ("sm-hybrid", TWO, {"claimed": "no_gamma"}),
        ("cld-easier", TWO, {"times": [0.1, 0.3, 1.0]}),
        ("cld-easier", NINE, {"times": [0.3]}),
        ("cld-easier", TWO, {"reference": "equilibrium", "times": [0.0]}),
    ],
)
def test_planted_mistakes_are_found(name: str, target: Target, params: dict[str, Any]) -> None:
    assert verdict(name, target, **(SMALL.get(name, {}) | params)) == "violated"


def test_at_noise_one_the_printed_target_is_the_right_one() -> None:
    """So sigma = 1 alone would not have found the mistake."""
    assert verdict("sm-dsm", TWO, power=2.0, sigmas=[1.0], networks=2) == "holds"


def test_the_trace_of_another_matrix_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Jacobian at the network's input in the place of its hidden layer's: right in shape, wrong in every entry."""
    monkeypatch.setattr(Network, "jacobian", lambda s, x: s.a + torch.einsum("ik,nk,kj->nij", s.u, 1 - torch.tanh(x @ s.w.T) ** 2, s.w))
    assert verdict("sm-ism", TWO, networks=2) == "violated"


def test_a_wrong_conversion_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The velocity's sign, both ways: the round trip still closes, the posterior's mean does not agree."""
    right = tweedie_module.from_score

    def flipped(kind: str, score: torch.Tensor, x: torch.Tensor, level: Any) -> torch.Tensor:
        return -right(kind, score, x, level) if kind == "v" else right(kind, score, x, level)

    back = tweedie_module.to_score
    monkeypatch.setattr(tweedie_module, "from_score", flipped)
    monkeypatch.setattr(tweedie_module, "to_score", lambda kind, value, x, level: back(kind, -value if kind == "v" else value, x, level))
    assert verdict("tweedie", TWO, REVERSE["vp"], points=2, instants=2) == "violated"


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("sm-dsm", {"sigmas": [0.0]}, "sigmas must be positive"),
        ("sm-dsm", {"networks": 0}, "networks must be at least 1"),
        ("sm-ism", {"networks": 0}, "networks must be at least 1"),
        ("sm-sliced", {"spread": 0.0}, "spread must be a positive"),
        ("sm-kde", {"bandwidths": []}, "bandwidths must be positive"),
        ("sm-kde", {"minimiser": "both"}, "minimiser must be kernel or target"),
        ("sm-hybrid", {"times": [0.0]}, "times must be finite numbers, each at least 0.001"),
        ("sm-hybrid", {"claimed": "other"}, "claimed must be exact"),
        ("cld-easier", {"times": [-1.0]}, "times must be finite numbers"),
        ("cld-easier", {"reference": "other"}, "reference must be matched"),
        ("cld-harder", {"mass": 0.0}, "mass must be"),
        ("tweedie", {"points": 0}, "points must be at least 1"),
    ],
)
def test_parameters_out_of_range_are_refused_in_one_line(name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{message}"):
        build("theorem", name, params)


# The quadrature and the networks.


def test_the_error_of_a_quadrature_covers_its_distance_to_the_truth() -> None:
    """Smooth, nearly singular and kinked integrands; the kink |z| has E |z| = sqrt(2/pi)."""
    exact = average(normal_rule(1, 513), lambda z: torch.stack((torch.tanh(8 * z[:, 0] + 1), z[:, 0] ** 4), 1))
    for nodes in (33, 65, 129):
        for value, truth in zip(
            average(normal_rule(1, nodes), lambda z: torch.stack((torch.tanh(8 * z[:, 0] + 1), z[:, 0] ** 4, z[:, 0].abs()), 1)),
            (exact[0].value, 3.0, math.sqrt(2 / math.pi)),
            strict=True,
        ):
            assert value.lower <= truth <= value.upper
            assert nodes < 129 or value.upper - value.lower < 0.02


def test_rules_have_the_moments_of_their_laws() -> None:
    mean, cov = NINE.moments
    for rule in (target_rule(NINE, 201), mixture_rule(NINE, 33)):
        first = average(rule, lambda x: x)
        second = average(rule, lambda x: ((x - mean)[:, :, None] * (x - mean)[:, None, :]).flatten(1))
        assert np.allclose([e.value for e in first], mean, atol=1e-12)
        assert np.allclose([e.value for e in second], cov.flatten(), rtol=1e-12, atol=1e-12)


def test_the_networks_derivatives_are_those_of_automatic_differentiation() -> None:
    x = Stream("test").normal((5, 2)).requires_grad_(True)
    (net,) = networks(1, "test", inputs=2, outputs=2)
    by_rows = [torch.autograd.grad(net(x)[:, i].sum(), x)[0] for i in range(2)]
    assert torch.allclose(torch.stack(by_rows, 1), net.jacobian(x.detach()), rtol=1e-12)
    assert (net.jacobian(x.detach()) - net.jacobian(x.detach()).mT).abs().max() > 0.1  # no gradient
    (one,) = networks(1, "test", inputs=2, outputs=1)
    weights = [w.clone().requires_grad_(True) for w in (one.a, one.b, one.u, one.w, one.c)]
    for row, found in zip(x.detach(), one.parameter_gradient(x.detach()), strict=True):
        gradient = torch.autograd.grad(Network(*weights)(row[None]).sum(), weights)
        assert torch.allclose(torch.cat([g.flatten() for g in gradient]), found, rtol=1e-12)


# Erratum 1: the target of the denoising loss, and the halves.


def least_squares(sigma: float, power: float) -> float:
    """The slope of the best s(x) = slope x for data N(0, 1) under ``E (s(x_0 + sigma z) + z/sigma^power)^2``, by quadrature."""
    rule = normal_rule(2, 65)
    square, product = average(rule, lambda y: torch.stack([(y[:, 0] + sigma * y[:, 1]) ** 2, (y[:, 0] + sigma * y[:, 1]) * y[:, 1]], 1))
    return -product.value / sigma**power / square.value


@pytest.mark.parametrize("sigma", [0.1, 0.5, 3.0])
def test_the_printed_denoising_target_trains_the_score_divided_by_sigma(sigma: float) -> None:
    score = -1.0 / (1.0 + sigma**2)  # of N(0, 1 + sigma^2)
    assert math.isclose(least_squares(sigma, 1.0), score, rel_tol=1e-12)
    assert math.isclose(least_squares(sigma, 2.0), score / sigma, rel_tol=1e-12)


def test_a_half_in_one_loss_alone_makes_their_difference_depend_on_the_network() -> None:
    """Printed: J_ESM without and J_DSM with the factor 1/2, and J_DSM = J_ESM + C."""
    for explicit, spread in ((0.5, 1e-9), (1.0, 1.0)):
        theorem = build("theorem", "sm-dsm", {"explicit": explicit, "sigmas": [0.5]})
        differences = [r.measured for r in theorem.rows(case(TWO))]
        assert (np.ptp(differences) < spread) == (explicit == 0.5)


# The kernel estimate.


def test_the_error_of_the_kernel_score_is_bias_and_overfitting() -> None:
    """The linear part of J(q_h | pi) has the mean J(pi_h | pi) - J(pi_h): the rest, J(q_h) - J(pi_h), is what n draws add."""
    draws, h = TWO.sample(50, Stream("test-kde")), 0.2
    noised = TWO.diffused(1.0, h * h)
    bias, fisher, linear = (
        e.value
        for e in average(
            mixture_rule(noised, 257),
            lambda x: torch.stack(
                (
                    (noised.score(x) - TWO.score(x))[:, 0] ** 2,
                    noised.score(x)[:, 0] ** 2,
                    TWO.score(x)[:, 0] ** 2 - 2 * TWO.hessian(x)[:, 0, 0],
                ),
                1,
            ),
        )
    )
    assert math.isclose(linear, bias - fisher, rel_tol=1e-9)
    divergence, own, _ = fisher_from(KernelEstimate(draws, h), TWO)
    assert divergence.value > 100 * bias and own.value > fisher  # at this n the estimate is mostly its own draws


def test_far_apart_draws_are_learned_by_heart() -> None:
    """J(q_h) = 1/h^2: the loss on the draws has the minimum 0, where that of the target has 1/2 (1/h^2 - J(pi_h)) > 0."""
    draws, h = torch.tensor([[-2.0], [0.1], [1.7]], dtype=torch.float64), 0.05
    assert math.isclose(fisher_from(KernelEstimate(draws, h), TWO)[1].value, 1 / h**2, rel_tol=1e-9)


def test_the_kernel_score_is_the_mixture_s() -> None:
    draws = TWO.sample(7, Stream("test-kde"))
    x = torch.linspace(-6, 6, 31, dtype=torch.float64)[:, None]
    assert torch.allclose(KernelEstimate(draws, 0.3).score(x), GaussianMixture([1.0] * 7, draws, 0.09).score(x), rtol=1e-10, atol=1e-10)


# Velocities.


def test_both_ells_grow_without_bound_at_the_start() -> None:
    """``ell^2 Gamma tau -> 3/2`` for every gamma > 0, as ``2`` at gamma = 0: x_t tells v_0, so that integrating v_0 out removes a quarter."""
    for gamma in (0.04, 1.0):
        sde = process(0.25, None, gamma, 4.0)
        for fixed, limit in ((False, 1.5), (True, 2.0)):
            found = [float(sde.ell(t, fixed_momentum=fixed)) ** 2 * 1.0 * 4.0 * t / limit - 1.0 for t in (1e-5, 1e-6)]
            assert abs(found[1]) < 1e-3 and abs(found[1]) < 0.2 * abs(found[0])  # the correction is of first order in t


def test_hybrid_and_denoising_gradients_have_one_mean() -> None:
    losses = Losses(process(0.25, None, 0.04, 4.0), 0.1, TWO)
    (s,) = networks(1, "test-hybrid", inputs=2, outputs=1)
    mean_square, _ = losses.gradient(s)
    for rule, ell in (losses.at_hybrid(), losses.at_denoising()):
        mean = average(rule, lambda y, ell=ell: 2.0 * (s(y[:, :2])[:, 0] + ell * y[:, 2])[:, None] * s.parameter_gradient(y[:, :2]), chunk=1 << 14)  # type: ignore[misc]
        assert math.isclose(sum(m.value**2 for m in mean), mean_square.value, rel_tol=1e-7)


@pytest.mark.parametrize(("target", "order"), [(TWO, 3), (SYMMETRIC, 4)])
def test_late_the_velocity_is_the_farther_by_a_power_of_the_overlap(target: GaussianMixture, order: int) -> None:
    """velocity/position -> R^-j (1 - R), j the order of the first cumulant beyond the second; relative corrections of order exp(-2 time)."""
    for friction in (None, 1.1, 1.5):
        gaps = Gaps(process(0.25, friction, 0.04, 4.0), 1.0, standardised(target))
        assert math.isclose(gaps.velocity().value / gaps.position().value, gaps.overlap**-order * (1 - gaps.overlap), rel_tol=1e-2)


@pytest.mark.parametrize(("target", "order"), [(TWO, 3), (SYMMETRIC, 4)])
def test_more_friction_than_critical_makes_the_claim_true_at_every_time(target: GaussianMixture, order: int) -> None:
    """Late it needs ``s (1 + s)^(j - 1) < 1``, s = (g - sqrt(g^2 - 1))^2, that is g > 1.074 for j = 3 and g > 1.120 for j = 4."""
    times = [0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2]
    edge = {3: 1.0739, 4: 1.1193}[order]
    s = (edge - math.sqrt(edge**2 - 1)) ** 2
    assert math.isclose(s * (1 + s) ** (order - 1), 1.0, rel_tol=2e-3)
    assert verdict("cld-easier", target, friction=edge + 0.06, times=times) == "holds"
    assert verdict("cld-easier", target, friction=edge - 0.04, times=times) == "violated"


def test_early_the_claim_is_certain_from_the_position_alone() -> None:
    """``F(k_u) <= F(0)``: where ``(1 - R) F(0) <= F(k_x)`` no score of the velocity is needed to know it."""
    for target in (TWO, SYMMETRIC, NINE):
        part = standardised((coordinates(target) or [])[0])
        for t, certain in ((0.003, True), (0.03, True), (0.3, False)):
            gaps, own = Gaps(process(0.25, None, 0.04, 4.0), t, part), position_gap(part, 0.0).value
            assert gaps.velocity().value <= (1 - gaps.overlap) * own * (1 + 1e-9)
            assert ((1 - gaps.overlap) * own <= gaps.position().value) == certain


def test_under_damped_the_claim_is_refused_where_it_is_false_for_every_law() -> None:
    assert verdict("cld-easier", TWO, friction=0.4, times=[0.1, 0.25]) == "not applicable"
    assert verdict("cld-harder", TWO, friction=0.4, times=[0.1, 0.25]) == "holds"


def test_the_bound_from_below_is_attained_at_the_start() -> None:
    """R -> 1 and F(k_u)/F(k_x) -> 1 there; and F falls at least like 1/(c + k), for every law."""
    gaps = Gaps(process(0.25, None, 0.04, 4.0), 1e-4, standardised(TWO))
    assert 1.0 <= gaps.velocity().value / ((1 / gaps.overlap - 1) * gaps.position().value) < 1.001
    for law in (TWO, SYMMETRIC):
        f = [position_gap(standardised(law), k).value * (1 + k) for k in (0.0, 0.1, 1.0, 10.0)]
        assert all(a >= b for a, b in pairwise(f))


def test_coordinates_of_what_has_none() -> None:
    assert coordinates(SKEW) is None and coordinates(GaussianMixture.circle()) is None
    parts = coordinates(NINE)
    assert parts is not None and [len(p.weights) for p in parts] == [3, 3]
    mean, cov = standardised(parts[0]).moments
    assert abs(float(mean)) < 1e-12 and math.isclose(float(cov), 1.0, rel_tol=1e-12)
