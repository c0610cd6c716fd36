"""The bias that inner chains of finite length leave in the score: numbers by other routes, where the bound is tight, hypotheses, bugs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from mixrate.errors import InvalidInput
from mixrate.laws.normal import Normal
from mixrate.samplers.diffusion import estimators
from mixrate.samplers.rdmc import RDMC
from mixrate.samplers.ula import ULA
from mixrate.targets.base import Target
from mixrate.targets.funnel import Funnel
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.laplace import Laplace
from mixrate.targets.skew_logistic import SkewLogistic
from mixrate.theory import rdmc_inner_bias
from mixrate.theory.base import Case
from mixrate.theory.rdmc_inner_bias import Problem, RDMCInnerBias, chosen, on_gaussian, on_line
from mixrate.theory.ula_w2 import ULAW2DK

ILL = Gaussian.ill_conditioned(2, 5.0, rotation=2, mean=0.7)
FAR = Gaussian.isotropic(3, mean=20.0)
PAIR = GaussianMixture.two_modes(2.5, weight=0.3)
CHAINS = RDMC(8, 1.0, inner="ula", inner_steps=6, inner_step=0.5)
#: Starts at a shift of the posterior, in small steps: the bound is nearly attained.
SLOW = dataclasses.replace(CHAINS, inner_steps=60, inner_step=0.01, cold="normal")
#: Two-sided false-alarm rate 1e-6.
SIGMAS = 4.9


def case(target: Target, sampler: Any = CHAINS) -> Case:
    return Case(target, sampler, (0,), [Normal(np.zeros(target.dim), np.eye(target.dim))])


def word(target: Target, sampler: Any = CHAINS, factor: float = 1.0, theorem: RDMCInnerBias | None = None) -> str:
    theorem = theorem or RDMCInnerBias()
    assert theorem.unmet(case(target, sampler)) == []
    return str(theorem.judge(theorem.rows(case(target, sampler), factor)).word)


def kernel(t: float) -> tuple[float, float]:
    return float(np.exp(-t)), float(-np.expm1(-2 * t))


# Numbers by other routes.


def recursion(t: float, cold: str, steps: int, size: float) -> tuple[float, float]:
    """The root mean square bias and the bound on ILL, from matrices written out here."""
    (a, v), p, d = kernel(t), ILL.precision.numpy(), 2
    q, mu, cov = p + a * a / v * np.eye(d), np.full(d, 0.7), np.linalg.inv(p)
    gain, width = (1 / a, v / a**2) if cold == "kernel" else (a, v)
    spectrum = np.linalg.eigvalsh(q)
    h = size / spectrum[-1]
    # E over x ~ N(a mu, a^2 cov + v I): sigma points of the Gaussian are exact for squares of affine functions
    root = np.linalg.cholesky(a * a * cov + v * np.eye(d)) * d**0.5
    shifts, biases = [], []
    for x in np.concatenate([a * mu + root.T, a * mu - root.T]):
        mean, centre = gain * x, np.linalg.solve(q, p @ mu + a / v * x)
        shifts.append(((mean - centre) ** 2).sum())
        for _ in range(steps):
            mean = mean + h * (p @ (mu - mean) + a / v * (x - a * mean))
        score = np.linalg.solve(a * a * cov + v * np.eye(d), a * mu - x)
        biases.append((((a * mean - x) / v - score) ** 2).sum())
    w2 = np.sqrt(np.mean(shifts) + ((width**0.5 - spectrum**-0.5) ** 2).sum())
    bound = (1 - spectrum[0] * h) ** steps * w2 + 1.65 * spectrum[-1] / spectrum[0] * np.sqrt(h * d)
    return float(np.mean(biases) ** 0.5), float(a / v * bound)


@pytest.mark.parametrize("cold", ["kernel", "normal"])
def test_numbers_on_a_gaussian(cold: str) -> None:
    rows = RDMCInnerBias().rows(case(ILL, dataclasses.replace(CHAINS, cold=cold)))
    assert [r.k for r in rows] == [*range(1, 7)] * 3 and len({r.label for r in rows}) == 3
    for row, t in zip(rows, np.repeat([1.0, 0.5, 0.125], 6), strict=True):
        bias, bound = recursion(float(t), cold, row.k, 0.5)
        assert row.label == f"score bias, t = {t:.4g}" and row.measured == pytest.approx(bias, rel=1e-9)
        assert row.bound == pytest.approx(bound, rel=1e-9) and row.upper - row.measured < 1e-11


def test_the_bias_agrees_with_simulated_chains() -> None:
    """The mean product of the errors of two independent chains at one x is its squared bias; false-alarm rate 1e-6."""
    t, n, steps = 0.5, 200_000, 4
    (a, v), p, random = kernel(t), ILL.precision.numpy(), np.random.default_rng(5)
    h = 0.5 / (np.linalg.eigvalsh(p)[-1] + a * a / v)
    x = a * (0.7 + random.standard_normal((n, 2)) @ np.linalg.cholesky(ILL.cov.numpy()).T) + v**0.5 * random.standard_normal((n, 2))
    score = (0.7 * a - x) @ np.linalg.inv(a * a * ILL.cov.numpy() + v * np.eye(2))
    errors = []
    for _ in range(2):
        y = (x + v**0.5 * random.standard_normal((n, 2))) / a
        for _ in range(steps):
            y = y + h * ((0.7 - y) @ p + a / v * (x - a * y)) + (2 * h) ** 0.5 * random.standard_normal((n, 2))
        errors.append((a * y - x) / v - score)
    products = (errors[0] * errors[1]).sum(1)
    found = next(r for r in RDMCInnerBias().rows(case(ILL)) if r.k == steps and r.label.endswith("t = 0.5"))
    error = SIGMAS * float(products.std()) / n**0.5
    assert found.measured**2 == pytest.approx(float(products.mean()), abs=error) and error < 0.1 * found.measured**2


@pytest.mark.parametrize(("target", "horizon"), [(SkewLogistic(), 1.0), (PAIR, 0.4)], ids=["skew_logistic", "two_modes"])
def test_numbers_on_the_line(target: Target, horizon: float) -> None:
    """Another mesh, a kernel of its own, W2 by quantiles; on the mixture the score is the oracle's."""
    sampler, (a, v) = dataclasses.replace(CHAINS, horizon=horizon), kernel(horizon)
    problem = Problem.of(sampler, target, 0)
    biases, bounds = on_line(problem, 1)
    x = float(problem.points(1))
    big, least = (target.constants[name].value + a * a / v for name in ("M", "m"))
    h, y = 0.5 / big, np.linspace(-16, 16, 2401) + x / a
    nodes = torch.as_tensor(y[:, None])
    logs = -target.potential(nodes).numpy() - (x - a * y) ** 2 / (2 * v)
    q = np.exp(logs - logs.max())
    q, p = q / q.sum(), np.exp(-((y - x / a) ** 2) * a * a / (2 * v))
    p /= p.sum()
    u = np.linspace(0, 1, 200_001)[1:-1]
    w2 = np.mean((np.interp(u, p.cumsum(), y) - np.interp(u, q.cumsum(), y)) ** 2) ** 0.5
    moved = y + h * (target.score(nodes)[:, 0].numpy() + a / v * (x - a * y))
    step = np.exp(-((y[:, None] - moved) ** 2) / (4 * h))
    step /= np.exp(-(np.arange(-5000, 5001) ** 2) * (y[1] - y[0]) ** 2 / (4 * h)).sum()
    mean = float(q @ y)
    if "diffused" in target.capabilities:
        mean = (x + v * float(sampler.forward.noised(target, horizon).score(torch.tensor([[x]], dtype=torch.float64)))) / a
    for n, e, b in zip(problem.lengths, biases, bounds, strict=True):
        p = step @ p
        assert e.value == pytest.approx(a / v * abs(float(p @ y) - mean), rel=1e-6, abs=1e-9)
        assert b == pytest.approx((1 - least * h) ** n * w2 + 1.65 * big / least * h**0.5, rel=1e-3)


def test_many_points_are_averaged_in_square(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem.of(CHAINS, SkewLogistic(), 0)
    three, every = problem.points(3), on_line(problem, 3)
    single = []
    for x in three.split(1):
        monkeypatch.setattr(Problem, "points", lambda self, n, x=x: x)
        single.append(on_line(problem, 1))
    assert every[1] == pytest.approx(np.mean([np.square(bounds) for _, bounds in single], 0) ** 0.5, rel=1e-12)
    squares = np.mean([[e.value**2 for e in biases] for biases, _ in single], 0)
    assert [e.value for e in every[0]] == pytest.approx(squares**0.5, rel=1e-12) and len({float(x) for x in three}) == 3


# Where it is tight, and where it is not.


def test_nearly_attained_from_a_shift_of_the_posterior() -> None:
    """N(mu, I) has posteriors N(., v I), the covariance of the start: a factor 0.9 is refuted at every time, and 0.999 is not."""
    rows = RDMCInnerBias().rows(case(FAR, SLOW))
    assert all(0.94 < r.measured / r.bound < 1 for r in rows)
    assert word(FAR, SLOW) == "holds" and word(FAR, SLOW, factor=0.9) == word(FAR, SLOW, factor=0.99) == "violated"


@pytest.mark.parametrize("t", [2.0, 1.0, 0.3])
def test_what_the_kernels_draws_attain(t: float) -> None:
    """On N(mu, I) at most (1 + tanh(t/2))^(-1/2), whatever mu: the rest of W2 is covariance."""
    for mean in (0.0, 9.0):
        problem = Problem.of(RDMC(8, t, inner="ula", inner_steps=1, inner_step=1e-10), Gaussian.isotropic(3, mean=mean), 0)
        biases, bounds = on_gaussian(problem)
        assert biases[0].value / (problem.pull * bounds[0]) == pytest.approx((1 + np.tanh(t / 2)) ** -0.5, rel=1e-4)


def test_no_plateau_on_gaussians_and_one_of_first_order_elsewhere() -> None:
    """ULA's mean is exact in the limit on Gaussians; on the line its error falls like h, where the bound falls like sqrt(h)."""
    late = dataclasses.replace(CHAINS, inner_steps=400)
    assert on_gaussian(Problem.of(late, ILL, 0)._replace(lengths=(400,)))[0][0].value < 1e-12
    found = []
    for size in (0.5, 0.25, 0.125):
        problem = Problem.of(dataclasses.replace(CHAINS, inner_step=size), SkewLogistic(), 0)._replace(lengths=(int(40 / size),))
        (bias,), (bound,) = on_line(problem, 1)
        found.append(bias.value / size)
        assert 0.001 < bias.value / (problem.pull * bound) < 0.05
    assert found[1] == pytest.approx(found[2], rel=0.1) and found[0] == pytest.approx(found[1], rel=0.2)


def test_it_holds_beyond_the_first_range_of_steps() -> None:
    assert word(ILL, dataclasses.replace(CHAINS, inner_step=1.9)) == "holds"
    assert word(PAIR, dataclasses.replace(CHAINS, horizon=0.4), theorem=RDMCInnerBias(instants=2, points=1)) == "holds"


def test_the_number_of_chains_does_not_enter() -> None:
    one, many = (RDMCInnerBias().rows(case(ILL, dataclasses.replace(CHAINS, inner_chains=n))) for n in (1, 64))
    assert [(r.measured, r.bound) for r in one] == [(r.measured, r.bound) for r in many]


def test_instants_and_lengths() -> None:
    started = dataclasses.replace(CHAINS, initial_steps=3)
    assert chosen(CHAINS, 3) == [0, 4, 7] and chosen(started, 2) == [3, 10] and chosen(CHAINS, 1) == [0] and chosen(CHAINS, 50) == list(range(8))
    lengths = Problem.of(dataclasses.replace(CHAINS, inner_steps=1000), ILL, 0).lengths
    assert (
        Problem.of(CHAINS, ILL, 0).lengths == (1, 2, 3, 4, 5, 6)
        and lengths[0] == 1
        and lengths[-1] == 1000
        and len(lengths) <= rdmc_inner_bias.LENGTHS
    )


# Hypotheses.


@pytest.mark.parametrize(
    ("target", "given", "words"),
    [
        (ILL, {"inner": "importance"}, "inner Langevin chains"),
        (ILL, {"inner": "mala"}, "inner Langevin chains"),
        (ILL, {"warm": True}, "cold chains from a Gaussian"),
        (ILL, {"cold": "importance"}, "cold chains from a Gaussian"),
        (ILL, {"identity": "target"}, "the mean of the points"),
        (ILL, {"inner_steps": (5,) * 8}, "one length of the chains"),
        (ILL, {"budget": 200.0}, "one length of the chains"),
        (ILL, {"segments": 2}, "one length of the chains"),
        (ILL, {"inner_step": 2.0}, "at t = 1: step_size below 2/M"),
        (PAIR, {}, "at t = 1: strongly log-concave"),
        (GaussianMixture.two_modes(1.0, dim=2), {}, "a Gaussian target, or one on the line"),
        (Laplace(), {}, "a known curvature (M)"),
        (Funnel(dim=2), {}, "a known curvature"),
    ],
)
def test_not_applicable(target: Target, given: dict[str, Any], words: str) -> None:
    assert any(found.startswith(words) for found in RDMCInnerBias().unmet(case(target, dataclasses.replace(CHAINS, **given))))


def test_other_samplers_and_parameters_are_refused() -> None:
    assert RDMCInnerBias().unmet(case(ILL, ULA(0.01))) == ["speaks of rdmc, not of ula"]
    for given in ({"instants": 0}, {"points": 0}):
        with pytest.raises(InvalidInput, match=r"^instants and points must be at least 1"):
            RDMCInnerBias(**given)


# Planted bugs.


def test_slower_chains_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the step in the sampler, its own in the bound."""
    monkeypatch.setattr(estimators, "ULA", lambda h: ULA(h / 2))
    assert word(FAR, SLOW) == "violated"


def test_a_score_with_a_wrong_pull_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """1/v in the place of a/v."""
    real = estimators.score_of
    monkeypatch.setattr("mixrate.samplers.rdmc.score_of", lambda q, draws, identity: real(q, draws, identity) / q.scale)
    assert word(FAR, SLOW) == "violated"


def test_a_bound_that_contracts_too_fast_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Contraction with twice the step."""
    real = ULAW2DK.bound

    def fast(self: ULAW2DK, one: Case) -> np.ndarray:
        return (1 - one.constant("m") * one.h) ** one.k * real(self, one)

    monkeypatch.setattr(ULAW2DK, "bound", fast)
    assert word(FAR, SLOW) == "violated"
    with pytest.raises(AssertionError):
        test_numbers_on_a_gaussian("kernel")


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        ("pull", property(lambda p: 1.0)),
        ("pull", property(lambda p: p.a**2 / p.v)),
        ("cold", property(lambda p: (1 / p.a, p.v))),
    ],
    ids=["no a/v", "curvature for a/v", "v for v/a^2"],
)
def test_wrong_factors_are_seen(monkeypatch: pytest.MonkeyPatch, name: str, mutant: Any) -> None:
    monkeypatch.setattr(Problem, name, mutant)
    for check in (lambda: test_numbers_on_a_gaussian("kernel"), lambda: test_numbers_on_the_line(SkewLogistic(), 1.0)):
        with pytest.raises(AssertionError):
            check()
