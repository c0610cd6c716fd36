"""Where reverse diffusion Monte Carlo starts, and what it costs beside Langevin: hypotheses, numbers by other routes, controls."""

from __future__ import annotations

import dataclasses
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import linalg

from mixrate.errors import InvalidInput, Unsupported
from mixrate.experiments.components import names
from mixrate.laws.grid import Grid
from mixrate.laws.normal import Normal
from mixrate.laws.particles import Particles
from mixrate.laws.propagate import mesh_for, propagate
from mixrate.metrics.kl import KL
from mixrate.metrics.tv import TV
from mixrate.samplers.rdmc import RDMC
from mixrate.samplers.ula import ULA
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.theory import rdmc_vs_ld
from mixrate.theory.base import Case, Theorem
from mixrate.theory.rdmc_start import RDMCStart
from mixrate.theory.rdmc_vs_ld import RDMCVsLD, RDMCVsLDLangevin, crossing, first_passage

ILL = Gaussian.ill_conditioned(3, 5.0, rotation=2, mean=0.7)


def word(theorem: Theorem, *cases: Case, factor: float = 1.0) -> str:
    rows = []
    for case in cases:
        if theorem.unmet(case):
            return "not applicable"
        rows += theorem.rows(case, factor)
    return str(theorem.judge(rows).word)


def test_the_theorems_are_found() -> None:
    assert {"rdmc-start", "rdmc-vs-ld", "rdmc-vs-ld-langevin"} <= set(names("theorem"))


# The start.


def starting(sampler: RDMC, target: Gaussian, steps: tuple[int, ...], mean: float = 3.0) -> Case:
    start = Normal(np.full(target.dim, mean), np.eye(target.dim))
    return Case(target, sampler, (0, *steps), propagate(start, sampler, target, [0, *steps]))


LANGEVIN = RDMC(3, 0.5, inner="oracle", initial_steps=40, initial_step=0.03)


def test_rdmc_start_on_a_gaussian() -> None:
    """Rows while the initial steps last; near the start the bound is nearly attained."""
    case = starting(LANGEVIN, ILL, (1, 5, 40, 43))
    assert word(RDMCStart(), case) == "holds" and word(RDMCStart(), case, factor=0.8) == "violated"
    rows = RDMCStart().rows(case)
    assert [r.k for r in rows] == [1, 5, 40] and [r.time for r in rows] == pytest.approx([0.03, 0.15, 1.2])
    # by hand: p_T, its constants and the divergence from it
    a, v = np.exp(-0.5), -np.expm1(-1.0)
    cov = a * a * np.linalg.inv(ILL.precision.numpy()) + v * np.eye(3)
    spectrum = 1 / np.linalg.eigvalsh(cov)
    alpha, big, p = spectrum.min(), spectrum.max(), Normal(a * ILL.mean.numpy(), cov)
    start = KL().between(Normal(np.full(3, 3.0), np.eye(3)), p).value
    for row in rows:
        assert row.bound == pytest.approx(np.exp(-alpha * 0.03 * row.k) * start + 8 * 0.03 * 3 * big**2 / alpha, rel=1e-9)
        law, step = Normal(np.full(3, 3.0), np.eye(3)), np.eye(3) - 0.03 * np.linalg.inv(cov)
        for _ in range(row.k):
            law = Normal(step @ (law.mean - p.mean) + p.mean, step @ law.cov @ step.T + 0.06 * np.eye(3))
        assert row.measured == pytest.approx(KL().between(law, p).value, rel=1e-9)
    bounds, measured = RDMCStart().bound(case), RDMCStart().measured(case)
    assert len(bounds) == 5 and np.isnan(bounds[4]) and len(measured) == 4


def test_rdmc_start_on_two_modes() -> None:
    """At T = 1 the noised modes are log-concave although the target's are not."""
    target, sampler = GaussianMixture.two_modes(4.0, weight=0.3), RDMC(1, 1.0, inner="oracle", initial_steps=4, initial_step=0.05)
    start = Normal(np.full(1, 3.0), np.eye(1))
    grid = Grid.of_normal(start, mesh_for(target, sampler, start, 301))
    case = Case(target, sampler, (0, 1, 4), propagate(grid, sampler, target, [0, 1, 4]))
    assert word(RDMCStart(), case) == "holds" and word(RDMCStart(), case, factor=0.7) == "violated"
    noised = sampler.origin(target)
    assert noised.constants["m"].value == pytest.approx(1 - 4 * np.exp(-2.0), rel=1e-9) and target.constants["m"].value < 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"inner": "exact"}, "the exact score"),
        ({"initial_steps": 0}, "a recorded step among the initial ones"),
        ({"initial_step": 0.2}, "at the horizon 0.5: step_size at most"),
    ],
)
def test_rdmc_start_is_not_applicable(given: dict[str, Any], words: str) -> None:
    found = RDMCStart().unmet(starting(dataclasses.replace(LANGEVIN, **given), ILL, (1, 3)))
    assert len(found) == 1 and found[0].startswith(words)
    other = Case(ILL, ULA(0.01), (0,), [Normal(np.zeros(3), np.eye(3))])
    assert RDMCStart().unmet(other) == ["speaks of rdmc, not of ula"]


# What it costs beside Langevin.


@cache
def apart(separation: float, weight: float = 0.3) -> GaussianMixture:
    return GaussianMixture.two_modes(separation, weight=weight)


def langevin(separation: float, h: float = 0.1, nodes: int | None = None, weight: float = 0.3) -> Case:
    target, sampler, start = apart(separation, weight), ULA(h), Normal(np.full(1, -separation / 2), np.eye(1))
    return Case(target, sampler, (0,), [Grid.of_normal(start, mesh_for(target, sampler, start, nodes))])


def reverse(separation: float, n: int = 4000, **given: Any) -> Case:
    horizon = float(np.log(1.5 * separation))
    sampler = RDMC(20, horizon, **({"inner": "importance", "inner_chains": 16, "least_ess": 0.0} | given))
    return Case(apart(separation), sampler, (0,), [Particles.of_normal(Normal(np.zeros(1), np.eye(1)), n, 0)])


def relaxed(separation: float, h: float, eps: float) -> float:
    """Steps by the matrix exponential of the diffusion's finite-volume generator, which ULA follows to order h."""
    target, edge, n = apart(separation), separation / 2 + 7, 500
    x = np.linspace(-edge, edge, n)
    density = np.exp(-target.potential(torch.as_tensor(x[:, None])).numpy())
    dx = x[1] - x[0]
    middle = np.sqrt(density[1:] * density[:-1]) / dx**2
    flow = np.diag(middle / density[1:], 1) + np.diag(middle / density[:-1], -1)  # to the left, to the right
    flow -= np.diag(flow.sum(0))
    pi, p = density / density.sum(), np.exp(-((x + separation / 2) ** 2) / 2)
    p /= p.sum()
    unit = linalg.expm(flow * 20.0)
    rate = -np.log(np.sort(np.abs(np.linalg.eigvals(unit)))[-2]) / 20
    assert rate == pytest.approx(target.constants["poincare"].value, rel=0.01)
    before, k = 1.0, 0
    while (now := 0.5 * np.abs(p - pi).sum()) > eps:
        before, p, k = now, unit @ p, k + 1
    return 20 * (k - 1 + np.log(before / eps) / np.log(before / now)) / h


def test_langevins_steps_agree_with_the_diffusions_relaxation() -> None:
    case = langevin(6.0, 0.05)
    steps = RDMCVsLDLangevin().cost(case).value
    assert steps == pytest.approx(relaxed(6.0, 0.05, 0.2), rel=0.04)
    # TV from the mode of weight 0.3 is 0.7 exp(-gap t)
    assert steps == pytest.approx(np.log(0.7 / 0.2) / (0.05 * case.constant("poincare")), rel=0.05)


def test_first_passage_is_the_first_step_within() -> None:
    case = langevin(5.0, 0.2, 401)
    assert isinstance(case.start, Grid)
    found = first_passage(case.sampler, case.target, case.start, 0.3)
    k = int(np.ceil(found))
    before, after = (TV()(law, case.target).value for law in propagate(case.start, case.sampler, case.target, [k - 1, k]))
    assert after <= 0.3 < before and found == pytest.approx(
        k - 1 + np.log(before / 0.3) / np.log(before / after), abs=0.02
    )  # another rule for the integral
    with pytest.raises(Unsupported, match="the bias of the chain may be larger"):
        first_passage(ULA(0.2), case.target, case.start, 1e-4)


@cache
def langevins() -> tuple[Case, ...]:
    return tuple(langevin(s, nodes=301) for s in (6.0, 7.0, 8.0, 9.0))


def test_langevin_grows_like_the_relaxation_time() -> None:
    assert not any(RDMCVsLDLangevin().unmet(case) for case in langevins())
    rows = [row for case in langevins() for row in RDMCVsLDLangevin().rows(case)]
    assert RDMCVsLDLangevin().judge(rows).word == "holds"
    assert RDMCVsLDLangevin(claimed=0.0).judge(rows).word == RDMCVsLDLangevin(claimed=0.9).judge(rows).word == "violated"


def test_reverse_diffusion_does_not() -> None:
    cases = [reverse(s, 15000) for s in (6.0, 7.0, 8.0, 10.0)]
    assert not any(RDMCVsLD().unmet(case) for case in cases)
    rows = [row for case in cases for row in RDMCVsLD().rows(case)]
    assert RDMCVsLD().judge(rows).word == "holds" and RDMCVsLD(claimed=1.0).judge(rows).word == "violated"
    assert all(80 < row.measured < 200 for row in rows) and rows[-1].measured < 2.0 * rows[0].measured


def test_chains_from_draws_without_weights_lose_the_weights() -> None:
    """Cold ULA from the kernel's draws: half of the mass in either mode, whatever the number of chains; importance draws have them."""
    case = reverse(10.0, 2000)

    def left(**given: Any) -> float:
        sampler = dataclasses.replace(case.sampler, **given)
        law = propagate(case.start, sampler, case.target, [20])[0]
        assert isinstance(law, Particles)
        return float((law.x < 0).double().mean())

    for chains in (4, 16):
        assert abs(left(inner="ula", inner_chains=chains, inner_steps=100) - 0.5) < 0.03 + 4.9 * 0.5 / 2000**0.5
    # the start N(0, I) costs 0.04 in the weights, and 64 draws of order 1/64 more
    assert abs(left(inner_chains=64) - 0.3) < 0.06 + 4.9 * 0.46 / 2000**0.5
    with pytest.raises(Unsupported, match=r"tv 0.2 was not reached with 8 inner points: 0.\d+, after 1.6e\+04 evaluations"):
        RDMCVsLD(ladder=(4, 8)).cost(dataclasses.replace(case, sampler=dataclasses.replace(case.sampler, inner="ula", inner_steps=100)))


def test_equal_weights_are_no_test() -> None:
    """They come out by symmetry with the same chains."""
    sampler = dataclasses.replace(reverse(10.0).sampler, inner="ula", inner_chains=16, inner_steps=100)
    start = Particles.of_normal(Normal(np.zeros(1), np.eye(1)), 2000, 0)
    assert TV()(propagate(start, sampler, apart(10.0, 0.5), [20])[0], apart(10.0, 0.5)).lower < 0.08
    assert RDMCVsLDLangevin().unmet(langevin(6.0, weight=0.5))[0].startswith("unequal weights")


def test_rdmc_vs_ld_is_not_applicable() -> None:
    assert RDMCVsLD().unmet(reverse(4.0))[0].startswith("separation at least 5")
    assert RDMCVsLD().unmet(reverse(6.0, inner="oracle"))[0].startswith("an inner sampler that evaluates the target")
    assert RDMCVsLD().unmet(reverse(6.0, least_ess=2.0))[0].startswith("least_ess 0 and no budget")
    assert RDMCVsLD().unmet(langevin(6.0))[0] == "speaks of rdmc, not of ula"
    near = langevin(6.0)
    assert isinstance(near.start, Grid)
    there = dataclasses.replace(near, laws=[Grid.of_target(near.target, near.start.mesh)])
    assert RDMCVsLDLangevin().unmet(there)[0].startswith("a start in one mode")
    wide = Case(Gaussian.isotropic(1), ULA(0.1), (0,), near.laws)
    assert RDMCVsLDLangevin().unmet(wide) == ["two modes of unit variance in d = 1"]


def test_what_is_out_of_range_is_refused() -> None:
    for eps in (0.0, 0.5):
        with pytest.raises(InvalidInput, match=r"^eps must lie between 0 and 1/2"):
            RDMCVsLDLangevin(eps=eps)
    for ladder in ((4,), (4, 2), (0, 2)):
        with pytest.raises(InvalidInput, match=r"^ladder must be at least two increasing"):
            RDMCVsLD(ladder=ladder)


def test_crossing() -> None:
    cost = [10.0, 20.0, 40.0]
    assert crossing(cost, [0.4, 0.2, 0.1], 0.1 * 2**0.5) == pytest.approx(20 * 2**0.5)
    assert crossing(cost, [0.4, 0.2, 0.1], 0.2) == pytest.approx(20.0) and crossing(cost, [0.1, 0.1, 0.1], 0.2) == 0.0
    assert all(a >= b for a, b in pairwise(crossing(cost, [0.4, 0.2, 0.1], eps) for eps in (0.1, 0.15, 0.25, 0.39)))


# Planted bugs.


def test_planted_bugs_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of the powers counted twice; the constants of the target for those of p_T; steps beyond the initial ones."""
    real = first_passage

    def squared(*given: Any) -> float:
        return real(*given) ** 1.1

    monkeypatch.setattr(rdmc_vs_ld, "first_passage", squared)
    with pytest.raises(AssertionError):
        test_langevin_grows_like_the_relaxation_time()
    with pytest.raises(AssertionError):
        test_langevins_steps_agree_with_the_diffusions_relaxation()
    monkeypatch.undo()
    monkeypatch.setattr(RDMC, "origin", lambda self, target: target)
    with pytest.raises(AssertionError):
        test_rdmc_start_on_a_gaussian()
