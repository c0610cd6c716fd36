"""The proximal sampler by bounded rejection: kernel against quadrature, detailed balance, exact starts, costs, planted bugs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from mixrate.errors import InvalidInput, Unsupported
from mixrate.experiments.cell import run_point
from mixrate.experiments.schema import read
from mixrate.laws.grid import Grid, grid_step
from mixrate.laws.normal import Normal
from mixrate.laws.particles import Particles, simulate
from mixrate.laws.propagate import mesh_for, propagate
from mixrate.samplers import proximal
from mixrate.samplers.base import State
from mixrate.samplers.mala import MALA
from mixrate.samplers.noise import Noise, Stream
from mixrate.samplers.proximal import Proximal
from mixrate.targets.base import Batch, Target, Values
from mixrate.targets.double_well import DoubleWell
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.mesh import Mesh
from mixrate.targets.skew_logistic import SkewLogistic

SKEWED = GaussianMixture([0.3, 0.7], [[-1.5], [2.0]], [0.3, 0.6])
SKEW, ZOD = SkewLogistic(), GaussianMixture.zod_mc()
#: The false-alarm rate of every statistical test here, and its quantile of a normal.
ALARM, SIGMAS = 1e-6, 4.9
#: From steps that a mesh just resolves to steps beyond the box.
SETTINGS = [(0.05, 1), (0.05, 30), (2.0, 5), (2.0, 1000), (200.0, 50)]


def mesh_of(target: Target, nodes: int = 301) -> Mesh:
    return mesh_for(target, MALA(0.1), None, nodes=nodes)


# The kernel on a mesh.


def check_detailed_balance(sampler: Proximal, target: Target) -> None:
    """pi_i P_ij = pi_j P_ji, rows that sum to 1, and pi P = pi, each to rounding."""
    mesh = mesh_of(target)
    kernel, leave = sampler.kernel(target, mesh)
    pi = Grid.of_target(target, mesh).density * mesh.cell
    flux = pi[:, None] * kernel
    assert np.abs(flux - flux.T).max() < 1e-13 * flux.max() and kernel.min() >= 0
    assert np.abs(kernel.sum(1) - 1).max() < 1e-12 and np.abs(pi @ kernel - pi).sum() < 1e-12
    assert leave.max() < 1e-9
    operator = grid_step(sampler, target, mesh).operator
    assert np.abs(operator(pi) - pi).sum() < 1e-12
    assert np.abs(operator(np.eye(mesh.n)[7]) - kernel[7]).max() < 1e-15


@pytest.mark.parametrize(("h", "rounds"), SETTINGS)
@pytest.mark.parametrize("target", [SKEWED, SKEW], ids=lambda t: t.name)
def test_detailed_balance(target: Target, h: float, rounds: int) -> None:
    check_detailed_balance(Proximal(h, rounds), target)


def test_detailed_balance_with_a_bound_that_is_given() -> None:
    for lowest in (0.0, -2.0):
        check_detailed_balance(Proximal(0.5, 20, lowest), DoubleWell())
    # on a mesh that a normal of deviation sqrt(h) all but falls through, it is still a kernel
    check_detailed_balance(Proximal((0.71 * mesh_of(SKEWED).spacing[0]) ** 2, 20), SKEWED)


def check_quadrature(h: float, rounds: int) -> None:
    """Moves between nodes against an integral over y of the sum over rounds, with a(y) in closed form: a mixture, widened by h."""
    mesh, lowest = mesh_of(SKEWED), Proximal(h, rounds).bound(SKEWED)
    kernel, x = Proximal(h, rounds).kernel(SKEWED, mesh)[0], mesh.axes[0]
    means, variances = SKEWED.means[:, 0].numpy(), SKEWED.covs[:, 0, 0].numpy() + h

    def normal(z: float, variance: Any = h) -> Any:
        return np.exp(-z * z / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    def rate(y: float, i: int, j: int) -> float:
        a = np.exp(lowest) * (SKEWED.weights.numpy() * normal(y - means, variances)).sum()
        return float(normal(y - x[i]) * normal(x[j] - y) * sum((1 - a) ** k for k in range(rounds)))

    for i, j in ((110, 111), (120, 180), (190, 125)):
        middle, reach = (x[i] + x[j]) / 2, 9 * np.sqrt(h)
        integral = integrate.quad(rate, middle - reach, middle + reach, args=(i, j), epsabs=0, epsrel=1e-12, limit=300)[0]
        r = np.exp(lowest - float(SKEWED.potential(torch.tensor([[x[j]]], dtype=torch.float64))))
        assert kernel[i, j] == pytest.approx(r * integral * mesh.cell, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(("h", "rounds"), [(0.3, 1), (0.3, 30), (2.0, 5), (200.0, 50)])
def test_moves_are_the_quadrature(h: float, rounds: int) -> None:
    check_quadrature(h, rounds)


def test_many_rounds_are_the_exact_draw() -> None:
    mesh, h = mesh_of(SKEWED), 0.1
    start = Grid.of_normal(Normal([0.5], [[0.2]]), mesh).density
    exact, many, few = (grid_step(s, SKEWED, mesh).operator(start) for s in (Proximal(h), Proximal(h, 10**13), Proximal(h, 10)))
    assert np.abs(many - exact).max() < 1e-12 and np.abs(few - exact).max() > 1e-3


def test_a_bound_too_low_makes_moves_rare_and_no_more() -> None:
    """One round: every move by the same factor rarer."""
    mesh, low = mesh_of(SKEWED), Proximal(0.5, 1).bound(SKEWED) - 1.5
    one, other = Proximal(0.5, 1).kernel(SKEWED, mesh)[0], Proximal(0.5, 1, low).kernel(SKEWED, mesh)[0]
    off = ~np.eye(mesh.n, dtype=bool)
    assert np.abs(other[off] - np.exp(-1.5) * one[off]).max() < 1e-15
    check_exact_start(Proximal(0.5, 10, low), SKEWED)


# Particles.


def check_step_follows_kernel(h: float, rounds: int) -> None:
    """From one node, 40,000 steps against the kernel's row: Kolmogorov-Smirnov, and the share that stayed."""
    sampler, mesh = Proximal(h, rounds), mesh_of(SKEWED, 1201)
    i = int(np.argmin(np.abs(mesh.axes[0] + 1.1)))
    row = sampler.kernel(SKEWED, mesh)[0][i]
    start = Particles(torch.full((40_000, 1), float(mesh.axes[0][i]), dtype=torch.float64))
    law = simulate(start, sampler, SKEWED, [1])[0]
    stayed = (law.x == start.x)[:, 0].numpy()
    # the diagonal holds those who stay and those who move within the node's own cell: as many as into a cell beside it
    stay, beside = row[i] - (row[i - 1] + row[i + 1]) / 2, row[i + 1]
    assert abs(stayed.mean() - stay) < SIGMAS * np.sqrt(stay * (1 - stay) / 40_000) + 1e-4 + 0.01 * beside
    assert law.acceptance == pytest.approx(1 - stayed.mean(), abs=1e-12)
    moves = row.copy()
    moves[i] = (row[i - 1] + row[i + 1]) / 2
    cdf = np.cumsum(moves) / moves.sum()
    assert stats.kstest(law.x[:, 0].numpy()[~stayed], lambda t: np.interp(t, mesh.axes[0] + mesh.cell / 2, cdf)).pvalue > ALARM


@pytest.mark.parametrize(("h", "rounds"), [(0.3, 3), (2.0, 5), (2.0, 100), (30.0, 20)])
def test_the_step_has_the_law_of_the_kernel(h: float, rounds: int) -> None:
    check_step_follows_kernel(h, rounds)


def check_exact_start(sampler: Proximal, target: Target) -> None:
    """Three steps from 20,000 exact draws stay exact: V and a projection against fresh draws, and enough of them move to tell."""
    after = simulate(Particles.of_target(target, 20_000, seed=5), sampler, target, [3])[0]
    fresh, direction = target.sample(20_000, Stream("fresh")), np.linspace(1.0, 2.0, target.dim)
    assert after.acceptance is not None and after.acceptance > 0.05
    assert stats.ks_2samp(target.potential(after.x).numpy(), target.potential(fresh).numpy()).pvalue > ALARM
    assert stats.ks_2samp(after.x.numpy() @ direction, fresh.numpy() @ direction).pvalue > ALARM


@pytest.mark.parametrize(
    ("sampler", "target"),
    [(Proximal(0.5, 1), SKEWED), (Proximal(2.0, 20), SKEWED), (Proximal(1.0, 8), SKEW), (Proximal(20.0, 20), ZOD), (Proximal(100.0, 100), ZOD)],
)
def test_an_exact_start_stays_exact(sampler: Proximal, target: Target) -> None:
    check_exact_start(sampler, target)


def test_a_step_is_a_function_of_the_particles_noise() -> None:
    sampler, x, noise = Proximal(2.0, 5), SKEWED.sample(200, Stream("x")), Stream("blocks").at(1)
    whole = sampler.step(SKEWED, State(x), Stream("blocks").at(1)).x
    parts = [sampler.step(SKEWED, State(x[rows]), part).x for rows, part in noise.blocks(200, 64)]
    assert torch.equal(whole, torch.cat(parts)) and bool((whole == x).any()) and not bool((whole == x).all())


def test_modes_far_apart_are_reached_without_scores() -> None:
    """Modes 11 apart, from the normal around one of them: after 5,000 potentials the particles are shared out as they should be."""
    sampler, n = Proximal(50.0, 50), 500
    x = simulate(Particles.of_normal(Normal(np.zeros(2), np.eye(2)), n, 0), sampler, ZOD, [100])[0].x
    nearest = torch.bincount(((x[:, None] - ZOD.means) ** 2).sum(2).argmin(1), minlength=4).numpy()
    assert stats.chisquare(nearest, n * ZOD.weights.numpy()).pvalue > ALARM


# Costs.


class Blind(Gaussian):
    """A Gaussian that draws nothing in closed form."""

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset(super().capabilities) - {"restricted_gaussian"}


def test_costs_depend_on_the_target() -> None:
    assert Proximal(0.3).evaluations(SKEWED) == (0, 1)
    assert Proximal(0.3, 40).evaluations(SKEWED) == Proximal(0.3, 40).evaluations(SKEW) == (0, 40)
    assert Proximal(0.1).evaluations(SKEW) == (60, pytest.approx((1.4 / 0.6) ** 0.5 + 1))  # M = 4
    assert np.isnan(Proximal(0.3).evaluations(SKEW)).all() and np.isnan(Proximal(0.01).evaluations(DoubleWell())).all()
    assert MALA(0.1).evaluations(SKEW) == (1, 1)


def test_the_cost_by_rejection_is_met_where_the_hessian_is_isotropic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean acceptance of a proposal: (1 - M h)^(d/2) / (1 + M h)^(d/2) where Hess V = M I, more where it is not."""
    shares, first = [], proximal._first_accepted

    def watched(propose: Callable[[], tuple[Batch, Values]], x: Batch, rounds: int, noise: Noise) -> tuple[Batch, torch.Tensor]:
        accept = torch.exp(-propose()[1])
        shares.append((float(accept.mean()), float(accept.std()) / len(x) ** 0.5))
        return first(propose, x, rounds, noise)

    monkeypatch.setattr(proximal, "_first_accepted", watched)
    for dim, h in ((1, 0.25), (3, 0.2)):
        for precision, equal in ((2.0, True), (1.0, False)):
            target = Blind(np.zeros(dim), np.diag([0.5] + [1 / precision] * (dim - 1)))
            scores, potentials = Proximal(h).evaluations(target)
            Proximal(h).step(target, State(torch.zeros((50_000, dim), dtype=torch.float64)), Stream("cost", dim))
            found, error = shares[-1]
            stated = 1 / (potentials - 1)
            assert scores == 60 and found > stated - SIGMAS * error
            assert abs(found - stated) < SIGMAS * error or (not equal and dim > 1)


def test_declared_costs_are_the_calls_made() -> None:
    calls = {"potential": 0, "score": 0}

    class Counting(SkewLogistic):
        def potential(self, x: Batch) -> Values:
            calls["potential"] += 1
            return super().potential(x)

        def score(self, x: Batch) -> Batch:
            calls["score"] += 1
            return super().score(x)

    target, x = Counting(), torch.full((4, 1), 30.0, dtype=torch.float64)  # so far out that nothing is accepted
    for sampler in (Proximal(0.1, 7, 0.0), Proximal(0.1, 90, 0.0)):
        calls.update(potential=0, score=0)
        assert torch.equal(sampler.step(target, State(x), Stream("count")).x, x)
        assert (calls["score"], calls["potential"]) == sampler.evaluations(target)
    calls.update(potential=0, score=0)
    Proximal(0.1).step(target, State(torch.zeros((1, 1), dtype=torch.float64)), Stream("count"))
    assert calls["score"] == Proximal(0.1).evaluations(target)[0] and calls["potential"] >= 2


@pytest.mark.parametrize(
    ("target", "sampler", "law", "per_step"),
    [
        ("{name: gaussian.isotropic, dim: 1}", "{step_size: 0.1}", "normal", (0, 1)),
        ("skew_logistic", "{step_size: 0.1}", "grid", (60, (1.4 / 0.6) ** 0.5 + 1)),
        ("skew_logistic", "{step_size: 3.0, rounds: 9}", "grid", (0, 9)),
        ("double_well", "{step_size: 3.0, rounds: 9, lowest: 0.0}", "{kind: particles, n: 50}", (0, 9)),
    ],
)
def test_tables_have_these_costs(tmp_path: Path, target: str, sampler: str, law: str, per_step: tuple[float, float]) -> None:
    text = f"title: costs\ntarget: {target}\nstart: {{mean: 1.0, cov: 0.5}}\nsteps: [1, 3]\nmetrics: [w2]\nlaw: {law}\n"
    (tmp_path / "costs.yaml").write_text(f"{text}sampler: {{name: proximal, {sampler[1:]}\n", encoding="utf-8")
    rows = run_point(read(tmp_path / "costs.yaml").points()[0])
    assert rows["status"].eq("ok").all() and rows["k"].tolist() == [0, 1, 3]
    assert rows["scores"].tolist() == [0, per_step[0], 3 * per_step[0]]
    assert rows["potentials"].tolist() == pytest.approx([0, per_step[1], 3 * per_step[1]])


# Refusals.


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rounds": 0}, "rounds must be a whole number of at least 1, got 0"),
        ({"rounds": 2.5}, "rounds must be a whole number of at least 1, got 2.5"),
        ({"rounds": True}, "rounds must be a whole number"),
        ({"lowest": 0.0}, "lowest must not be set where rounds is not, got 0.0"),
        ({"rounds": 3, "lowest": float("nan")}, "lowest must be a finite number, got nan"),
        ({"rounds": 3, "lowest": "low"}, "lowest must be a finite number, got 'low'"),
        ({"step_size": 0.0, "rounds": 3}, "step_size must be a positive"),
    ],
)
def test_what_is_out_of_range_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{words}"):
        Proximal(**{"step_size": 0.1, **given})


def test_bounds_that_are_none_are_refused() -> None:
    high = Proximal(0.5, 3, 1.8)
    with pytest.raises(InvalidInput, match=r"^lowest must be at most the potential everywhere, got 1.8 where it is 0\.\d+$"):
        simulate(Particles(torch.zeros((100, 1), dtype=torch.float64)), high, SKEW, [2])
    with pytest.raises(InvalidInput, match=r"^lowest must be at most"):
        high.kernel(SKEW, mesh_of(SKEW))
    with pytest.raises(Unsupported, match=r"^lowest must be given on double_well"):
        Proximal(0.1, 5).admit(DoubleWell())
    Proximal(0.1, 5, 0.0).admit(DoubleWell())


def test_routes_that_there_are_not_are_refused() -> None:
    with pytest.raises(Unsupported, match="uniform numbers"):
        propagate(Normal([1.0], [[1.0]]), Proximal(0.1, 5), Gaussian([0.0], [[1.0]]), [1])
    with pytest.raises(Unsupported, match="one dimension only"):
        grid_step(Proximal(0.1, 5), ZOD, mesh_for(ZOD, MALA(0.1), None, nodes=51))
    with pytest.raises(Unsupported, match="use more nodes"):
        grid_step(Proximal(1e-5, 5), SKEW, mesh_of(SKEW))


# Planted bugs: each is seen by the check named beside it. The last accepted proposal in the place of the first is none: given y
# they are exchangeable.


def upwards(v: Values, lowest: float) -> Values:
    """exp(V - lowest) for exp(lowest - V)."""
    return lowest - v


def from_y(self: Proximal, target: Target, x: Batch, y: Batch, noise: Noise) -> Batch:
    """A particle without an accepted proposal stays at y."""
    return BOUNDED(self, target, y, y, noise)


def around_x(self: Proximal, target: Target, x: Batch, y: Batch, noise: Noise) -> Batch:
    """Proposals around x, not y."""
    return BOUNDED(self, target, x, x, noise)


def until_accepted(propose: Callable[[], tuple[Batch, Values]], x: Batch, rounds: int, noise: Noise) -> tuple[Batch, torch.Tensor]:
    """Where nothing is accepted, the last proposal is taken."""
    z, open_ = FIRST(propose, x, rounds, noise)
    return torch.where(open_.unsqueeze(1), propose()[0], z), open_


def too_many(propose: Callable[[], tuple[Batch, Values]], x: Batch, rounds: int, noise: Noise) -> tuple[Batch, torch.Tensor]:
    """One round more: invariant, at another rate than the kernel's."""
    return FIRST(propose, x, rounds + 1, noise)


BOUNDED, FIRST = Proximal.bounded, proximal._first_accepted
MUTANTS: list[tuple[Any, str, Any, Callable[[], None]]] = [
    (proximal, "_excess", upwards, lambda: check_exact_start(Proximal(0.5, 3), SKEWED)),
    (Proximal, "bounded", from_y, lambda: check_exact_start(Proximal(0.5, 3), SKEWED)),
    (Proximal, "bounded", from_y, lambda: check_step_follows_kernel(2.0, 5)),
    (Proximal, "bounded", around_x, lambda: check_step_follows_kernel(2.0, 5)),
    (proximal, "_first_accepted", until_accepted, lambda: check_exact_start(Proximal(0.5, 3), SKEWED)),
    (proximal, "_first_accepted", too_many, lambda: check_step_follows_kernel(2.0, 5)),
    (proximal, "_lattice_sum", lambda spacing: 1.02 * (2 * np.pi) ** 0.5 / spacing, lambda: check_quadrature(0.3, 30)),
]


@pytest.mark.parametrize(("owner", "name", "bug", "check"), MUTANTS, ids=[f"{i}-{m[1]}" for i, m in enumerate(MUTANTS)])
def test_planted_bugs_are_seen(owner: Any, name: str, bug: Any, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    check()
    monkeypatch.setattr(owner, name, bug)
    with pytest.raises(AssertionError):
        check()


def test_the_theorem_on_the_exact_draw_does_not_speak_of_bounded_rejection() -> None:
    from mixrate.theory.base import Case
    from mixrate.theory.prox_kl import ProxKL

    target = Gaussian(0.0, 1.0)
    mesh = Mesh((-8.0,), (8.0,), 401)
    for sampler, unmet in ((Proximal(0.2), 0), (Proximal(0.2, 30), 1)):
        start = Grid.of_normal(Normal([1.0], [[1.0]]), mesh)
        case = Case(target, sampler, (0, 2), propagate(start, sampler, target, [0, 2]))
        assert len(ProxKL().unmet(case)) == unmet
