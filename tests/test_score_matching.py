"""Score matching losses have the score as their minimiser; parameterisations are one score in other words."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mixrate.errors import InvalidInput
from mixrate.samplers.diffusion import losses
from mixrate.samplers.diffusion.network import Architecture, ScoreNetwork
from mixrate.samplers.diffusion.noising import Level, PhaseLevel, Process
from mixrate.samplers.diffusion.parameterization import KINDS, PHASE_KINDS, Moments, from_score, to_score
from mixrate.samplers.noise import Stream
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture

MEAN = torch.tensor([0.7, -0.4], dtype=torch.float64)
COV = torch.tensor([[1.3, 0.5], [0.5, 0.6]], dtype=torch.float64)
TARGET = Gaussian(MEAN, COV)
N, D, SIGMA = 64, 2, 0.6
TIMES = torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64)
PROCESSES = {
    "vp": Process("vp", 1.0, 0.5, 3.0),
    "sub_vp": Process("sub_vp", 1.0, 0.5, 3.0),
    "ve": Process("ve", 1.0, 0.1, 4.0),
    "sigma": Process("sigma", 1.0),
    "cld": Process("cld", 1.0, 2.0, 3.0, mass=0.5, friction=0.8, momentum_variance=0.3),
    "psld": Process("psld", 1.0, 2.0, 3.0, mass=0.5, friction=0.8, momentum_variance=0.3, nu=1.5),
}


def matched(*key: object, noises: int) -> tuple[Tensor, Tensor]:
    """(x_0, eps) whose empirical means and covariances are those of the target and of independent N(0, I) to rounding.

    For an affine score every loss here depends on these moments alone, so its minimiser has no sampling error.
    """
    drawn = Stream("matched", *key).normal((N, D + noises))
    drawn = drawn - drawn.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(drawn.T @ drawn / N), drawn.T, upper=False).T
    return MEAN + white[:, :D] @ torch.linalg.cholesky(COV).T, white[:, D:].contiguous()


def minimiser(loss: Callable[[Callable[..., Tensor]], Tensor], rows: int, columns: int) -> Tensor:
    """The affine score (W | b) of least loss, shape (rows, columns + 1): one Newton step, as the loss is quadratic in it."""

    def value(theta: Tensor) -> Tensor:
        whole = theta.reshape(rows, columns + 1)
        return loss(lambda x, *level: x @ whole[:, :-1].T + whole[:, -1])

    zero = torch.zeros(rows * (columns + 1), dtype=torch.float64)
    gradient = torch.autograd.functional.jacobian(value, zero)
    hessian = torch.autograd.functional.hessian(value, zero)
    return -torch.linalg.solve(hessian, gradient).reshape(rows, columns + 1)


def best(laws: list[tuple[Tensor, Tensor]], weights: Tensor) -> Tensor:
    """The affine s with the least ``sum_k E sum_i w_ki |s - score_k|_i^2`` over the Gaussians `laws`, (mean, cov): with y = (x, 1),
    ``E y y^T`` and ``E[score x^T] = -I``, ``E score = 0`` row i is ``-(sum_k w_ki) e_i^T (sum_k w_ki E y y^T)^-1``."""
    second = []
    for mean, cov in laws:
        y = torch.cat((mean, torch.ones(1, dtype=torch.float64)))
        second.append(torch.outer(y, y) + torch.block_diag(cov, torch.zeros((1, 1), dtype=torch.float64)))
    rows = []
    for i in range(weights.shape[1]):
        whole = sum(w * m for w, m in zip(weights[:, i], second, strict=True))
        rows.append(-weights[:, i].sum() * torch.linalg.inv(whole)[i])  # type: ignore[call-overload]
    return torch.stack(rows)


def at_levels(name: str) -> tuple[Tensor, Tensor, Any, list[tuple[Tensor, Tensor]]]:
    """(x_0, eps, levels of the rows, the laws) at three times of a process, each with all of the sample."""
    process = PROCESSES[name]
    x0, eps = matched(name, noises=2 * D if process.phase else D)
    level = process.levels(TIMES.repeat_interleave(N))
    noised = [process.noised(TARGET, float(t)).moments for t in TIMES]
    assert all(m is not None for m in noised)
    return x0.repeat(3, 1), eps.repeat(3, 1), level, noised  # type: ignore[return-value]


Check = tuple[Tensor, Tensor]


def single(loss: Callable[[Callable[..., Tensor], Tensor, Tensor], Tensor], cov: Tensor) -> Check:
    """What a loss of one density finds, and the score of N(MEAN, cov)."""
    x0, z = matched("single", noises=D)
    return minimiser(lambda s: loss(s, x0, z), D, D), best([(MEAN, cov)], torch.ones((1, D), dtype=torch.float64))


def in_time(loss: Callable[..., Tensor], name: str, weight: str) -> Check:
    """What a loss over three times finds for one affine score, and what its weights ask for."""
    x0, eps, level, laws = at_levels(name)
    found = minimiser(lambda s: loss(s, x0, eps, level, level.weights(weight)), D, D)
    return found, best(laws, level.weights(weight)[::N].expand(3, D))


def in_phase(loss: Callable[..., Tensor], name: str, weights: Callable[[PhaseLevel], Tensor], rows: slice) -> Check:
    """The same on (x, p), for the rows of the score that the loss is about."""
    x0, eps, level, laws = at_levels(name)
    wanted = torch.cat([w[::N].expand(3, D) for w in weights(level).chunk(2, 1)], 1)
    found = minimiser(lambda s: loss(s, x0, eps, level), len(range(2 * D)[rows]), 2 * D)
    return found, best(laws, wanted)[rows]


SIGNS = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=D)), dtype=torch.float64)
LEVELS = torch.tensor([0.3, 0.8, 2.0], dtype=torch.float64).repeat_interleave(N)[:, None]


def noisy(sigma: float) -> Tensor:
    return COV + sigma**2 * torch.eye(D, dtype=torch.float64)


def affine_truth(x: Tensor) -> Tensor:
    return TARGET.score(x)


def several(loss: Callable[..., Tensor]) -> Check:
    """Denoising at three levels by one affine score."""
    x0, z = matched("several", noises=D)
    found = minimiser(lambda s: loss(s, x0.repeat(3, 1), z.repeat(3, 1), LEVELS), D, D)
    sigmas = LEVELS[::N]
    return found, best([(MEAN, noisy(float(s))) for s in sigmas], sigmas.expand(3, D) ** 2)


def ddpm_of(loss: Callable[..., Tensor] = losses.ddpm) -> Callable[..., Tensor]:
    """`ddpm` of the score -eps/sqrt(v), with the signature of the others."""
    return lambda s, x0, eps, level, weight: loss(lambda x, at: -at.variance.sqrt() * s(x, at), x0, eps, level)


def hybrid_even(s: Callable[..., Tensor], x0: Tensor, eps: Tensor, level: PhaseLevel) -> Tensor:
    return losses.hybrid(s, x0, eps, level, level.pp**2)


def momentum_only(level: PhaseLevel) -> Tensor:
    return torch.cat((level.pp**2, level.pp**2), 1)  # the first half is of rows that are not asked for


def diffusion(level: PhaseLevel) -> Tensor:
    return torch.cat((level.rate_x, level.rate_p), 1)


CHECKS: dict[str, Callable[[], Check]] = {
    "explicit": lambda: single(lambda s, x, z: losses.explicit(s, x, affine_truth), COV),
    "implicit": lambda: single(lambda s, x, z: losses.implicit(s, x), COV),
    "sliced": lambda: single(lambda s, x, z: losses.sliced(s, x, SIGNS[:, None].expand(4, N, D)), COV),
    "denoising": lambda: single(lambda s, x, z: losses.denoising(s, x, z, SIGMA), noisy(SIGMA)),
    "multilevel": lambda: several(losses.multilevel),
    "ddpm": lambda: in_time(ddpm_of(), "vp", "variance"),
    **{
        f"{name}, {weight}": lambda name=name, weight=weight: in_time(losses.denoising_in_time, name, weight)  # type: ignore[misc]
        for name in ("vp", "sub_vp", "ve", "sigma")
        for weight in ("variance", "likelihood", "uniform")
    },
    "hybrid": lambda: in_phase(hybrid_even, "cld", momentum_only, slice(D, 2 * D)),
    "hybrid on psld": lambda: in_phase(hybrid_even, "psld", momentum_only, slice(D, 2 * D)),
    "two_term": lambda: in_phase(losses.two_term, "psld", diffusion, slice(0, 2 * D)),
}


def wrong(check: Check) -> float:
    found, expected = check
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", CHECKS)
def test_the_minimiser_is_the_score(name: str) -> None:
    # rounding of sums over 192 rows and of a solve whose condition is below 1e4
    assert wrong(CHECKS[name]()) < 1e-9


def _denoising(target: Callable[[Tensor, float], Tensor]) -> Callable[..., Tensor]:
    return lambda s, x, z: ((s(x + SIGMA * z) + target(z, SIGMA)) ** 2).sum(1).mean()


def _hybrid(ell: Callable[[PhaseLevel], Tensor]) -> Callable[..., Tensor]:
    def loss(s: Callable[..., Tensor], x0: Tensor, eps: Tensor, level: PhaseLevel) -> Tensor:
        residual = s(level.noised(x0, eps), level) + ell(level) * eps.chunk(2, 1)[1]
        return (level.pp**2 * residual**2).sum(1).mean()

    return loss


def _two_term(s: Callable[..., Tensor], x0: Tensor, eps: Tensor, level: PhaseLevel) -> Tensor:
    e, f = eps.chunk(2, 1)
    s_x, s_p = s(level.noised(x0, eps), level).chunk(2, 1)
    return (level.rate_x * (s_x + e / level.xx) ** 2 + level.rate_p * (s_p + f / level.pp) ** 2).sum(1).mean()


def _unweighted(s: Callable[..., Tensor], x0: Tensor, eps: Tensor, level: PhaseLevel) -> Tensor:
    return losses.two_term(s, x0, eps, level, 1.0 / level.rate_p)


def _several(power: float) -> Callable[..., Tensor]:
    return lambda s, x, z, sigma: (sigma**power * (s(x + sigma * z, sigma) + z / sigma) ** 2).sum(1).mean()


def _as_clean(s: Callable[..., Tensor], x0: Tensor, eps: Tensor, level: Level, weight: Tensor) -> Tensor:
    """Epsilon and x_0 mixed up: the noise is taken for the clean draw."""
    read = lambda x, at: to_score("x0", -at.variance.sqrt() * s(x, at), x, at)  # noqa: E731
    return losses.denoising_in_time(read, x0, eps, level, weight)


def _trace(half: float, sign: float) -> Callable[..., Tensor]:
    def loss(s: Callable[..., Tensor], x: Tensor, z: Tensor) -> Tensor:
        square = losses.explicit(s, x, torch.zeros_like)
        return 2.0 * half * square + sign * (losses.implicit(s, x) - square)

    return loss


MUTANTS: dict[str, Callable[[], Check]] = {
    "erratum 1: z/sigma^2 for z/sigma": lambda: single(_denoising(lambda z, sigma: z / sigma**2), noisy(SIGMA)),
    "denoising: sigma is missing": lambda: single(_denoising(lambda z, sigma: z), noisy(SIGMA)),
    "denoising: the sign": lambda: single(_denoising(lambda z, sigma: -z / sigma), noisy(SIGMA)),
    "implicit: no half": lambda: single(_trace(1.0, 1.0), COV),
    "implicit: the sign of the trace": lambda: single(_trace(0.5, -1.0), COV),
    "sliced: directions of length 1": lambda: single(lambda s, x, z: losses.sliced(s, x, SIGNS[:, None].expand(4, N, D) / D**0.5), COV),
    "multilevel: weight sigma": lambda: several(_several(1.0)),
    "multilevel: no weight": lambda: several(_several(0.0)),
    "in time: another weight": lambda: in_time(lambda s, x, e, a, w: losses.denoising_in_time(s, x, e, a, w.sqrt()), "vp", "variance"),
    "in time: epsilon for x0": lambda: in_time(_as_clean, "vp", "variance"),
    "hybrid: ell without its root": lambda: in_phase(_hybrid(lambda a: 1.0 / a.pp**2), "cld", momentum_only, slice(D, 2 * D)),
    "hybrid: ell of p alone": lambda: in_phase(_hybrid(lambda a: (a.px**2 + a.pp**2) ** -0.5), "cld", momentum_only, slice(D, 2 * D)),
    "two_term: L^-1 for L^-T": lambda: in_phase(_two_term, "psld", diffusion, slice(0, 2 * D)),
    "two_term: no weight of the times": lambda: in_phase(_unweighted, "psld", diffusion, slice(0, 2 * D)),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_loss_has_another_minimiser(name: str) -> None:
    assert wrong(MUTANTS[name]()) > 0.01


def test_erratum_1_by_what_it_trains() -> None:
    """The printed target z/sigma^2 finds the score divided by sigma."""
    found, score = single(_denoising(lambda z, sigma: z / sigma**2), noisy(SIGMA))
    torch.testing.assert_close(found, score / SIGMA, rtol=1e-9, atol=1e-12)


def test_ddpm_is_twice_the_weighted_denoising() -> None:
    x0, eps, level, _ = at_levels("vp")
    score = lambda x, at: torch.tanh(x)  # noqa: E731
    twice = 2.0 * losses.denoising_in_time(score, x0, eps, level, level.variance)
    torch.testing.assert_close(losses.ddpm(lambda x, at: -at.variance.sqrt() * score(x, at), x0, eps, level), twice)


def test_two_term_weighs_each_half_by_its_diffusion() -> None:
    """Gamma beta and M nu beta by hand: their ratio moves no minimiser, only the value."""
    x0, eps, level, _ = at_levels("psld")
    beta = 2.0 + level.t.squeeze(1)
    x, p = ((half**2).sum(1) for half in losses.kernel_target(eps, level).chunk(2, 1))
    expected = 0.5 * (0.8 * beta * x + 0.5 * 1.5 * beta * p).mean()
    torch.testing.assert_close(losses.two_term(lambda u, at: torch.zeros_like(u), x0, eps, level), expected)


def test_in_noise_units_is_the_loss_of_epsilon() -> None:
    x0, eps, level, _ = at_levels("psld")
    guess = torch.tanh(level.noised(x0, eps))
    found = losses.in_noise_units(lambda u, at: losses.kernel_target(guess, at), x0, eps, level)
    torch.testing.assert_close(found, 0.5 * ((guess - eps) ** 2).sum(1).mean())


def test_the_kernel_target_is_the_score_of_the_kernel() -> None:
    x0, eps, level, _ = at_levels("psld")
    r = losses.kernel_target(eps, level).reshape(-1, 2, D)
    for k, t in enumerate(TIMES):
        cov = PROCESSES["psld"].sde.kernel(float(t)).cov  # type: ignore[union-attr]
        away = (level.noised(x0, eps) - level.noised(x0, torch.zeros_like(eps))).reshape(-1, 2, D)
        rows = slice(k * N, (k + 1) * N)
        torch.testing.assert_close(r[rows], -torch.einsum("ij,njd->nid", torch.linalg.inv(cov), away[rows]), rtol=1e-9, atol=1e-9)


# Traces and kernel density estimates.


def test_sliced_over_all_signs_is_implicit_on_any_map() -> None:
    weights = Stream("map").normal((3, 3))
    x = Stream("points").normal((20, 3))
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)), dtype=torch.float64)
    score = lambda y: torch.sin(y @ weights)  # noqa: E731
    torch.testing.assert_close(losses.sliced(score, x, signs[:, None].expand(8, 20, 3)), losses.implicit(score, x))


def test_one_sign_is_exact_on_a_diagonal_jacobian_and_a_gaussian_direction_is_not() -> None:
    x = Stream("points").normal((20, 3))
    exact = losses.implicit(torch.sin, x)
    signs = losses.directions("rademacher", 1, 20, 3, Stream("signs"))
    torch.testing.assert_close(losses.sliced(torch.sin, x, signs), exact)
    gaussian = losses.sliced(torch.sin, x, losses.directions("gaussian", 1, 20, 3, Stream("signs")))
    assert abs((gaussian - exact).item()) > 1e-3


@pytest.mark.parametrize("kind", ["gaussian", "rademacher"])
def test_directions_have_the_identity_as_second_moment(kind: str) -> None:
    w = losses.directions(kind, 4, 5000, 3, Stream("directions")).reshape(-1, 3)
    # entries of w w^T have variance at most 2: five standard errors, nine entries, false alarm 5e-6
    assert float((w.T @ w / len(w) - torch.eye(3)).abs().max()) < 5 * (2 / len(w)) ** 0.5


def test_implicit_differs_from_explicit_by_half_the_fisher_information() -> None:
    """On the matched sample of a Gaussian and an affine score both sides are exact: ``-1/2 tr C^-1``."""
    x0, _ = matched("fisher", noises=D)
    a = torch.tensor([[0.3, -1.0], [0.2, 0.4]], dtype=torch.float64)
    score = lambda x: x @ a.T + 0.1  # noqa: E731
    difference = losses.implicit(score, x0) - losses.explicit(score, x0, affine_truth)
    torch.testing.assert_close(difference, -0.5 * torch.linalg.inv(COV).trace())


def test_the_kernel_density_is_a_mixture_and_its_score_the_minimiser() -> None:
    data, z, h = TARGET.sample(40, Stream("data")), Stream("z").normal((40, D)), 0.3
    mixture = GaussianMixture([1.0] * 40, data, h**2)
    x = TARGET.sample(100, Stream("x"))
    torch.testing.assert_close(losses.kernel_score(x, data, h), mixture.score(x), rtol=1e-9, atol=1e-9)
    assert float(losses.kernel_density(mixture.score, data, z, h)) < 1e-18
    assert float(losses.kernel_density(TARGET.score, data, z, h)) > 0.1


def test_what_a_loss_refuses_is_one_line() -> None:
    x = torch.zeros((3, 2))
    with pytest.raises(InvalidInput, match=r"^sigma must be a positive finite number, got 0$"):
        losses.denoising(torch.sin, x, x, 0)
    with pytest.raises(InvalidInput, match=r"^directions must be gaussian or rademacher, got 'signs'$"):
        losses.directions("signs", 1, 2, 2, Stream("x"))
    with pytest.raises(InvalidInput, match=r"^bandwidth must be a positive finite number, got -1.0$"):
        losses.kernel_score(x, x, -1.0)


# Parameterisations.


@pytest.mark.parametrize("process", ["vp", "sub_vp", "ve"])
@pytest.mark.parametrize("kind", ["epsilon", "x0", "score", "v"])
def test_conversions_go_there_and_back(process: str, kind: str) -> None:
    x0, eps, level, _ = at_levels(process)
    x, score = level.noised(x0, eps), Stream("score").normal((3 * N, D))
    torch.testing.assert_close(to_score(kind, from_score(kind, score, x, level), x, level), score, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("process", ["vp", "sub_vp", "ve"])
def test_conversions_give_the_posterior_means(process: str) -> None:
    """E[x_0 | x_t] of a Gaussian by conditioning; from it those of eps and of the velocity."""
    x0, eps, level, laws = at_levels(process)
    x = level.noised(x0, eps)
    a, v = level.scale, level.variance
    score = torch.cat([-(x[k * N : (k + 1) * N] - m) @ torch.linalg.inv(c) for k, (m, c) in enumerate(laws)])
    clean = torch.cat([MEAN + (x[k * N : (k + 1) * N] - m) @ torch.linalg.inv(c) @ COV * a[k * N] for k, (m, c) in enumerate(laws)])
    noise = (x - a * clean) / v.sqrt()
    norm = (a * a + v).sqrt()
    for kind, mean in {"x0": clean, "epsilon": noise, "v": a / norm * noise - v.sqrt() / norm * clean}.items():
        torch.testing.assert_close(from_score(kind, score, x, level), mean, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(to_score(kind, mean, x, level), score, rtol=1e-8, atol=1e-8)


def network(process: Process, kind: str) -> ScoreNetwork:
    return ScoreNetwork(D, process, kind, Architecture(8, 1), Moments.of(MEAN, COV))


@pytest.mark.parametrize("process", ["vp", "sub_vp", "ve", "psld"])
def test_a_mixed_network_that_gives_zero_is_the_gaussian_score(process: str) -> None:
    target = PROCESSES[process].noised(TARGET, 0.4)
    x = target.sample(50, Stream("x"))
    torch.testing.assert_close(network(PROCESSES[process], "mixed").score(x, 0.4), target.score(x), rtol=1e-9, atol=1e-9)


def test_a_mixed_network_on_cld_starts_from_the_kernel_at_the_mean() -> None:
    """alpha = p/(ell S_pp): the score of N(to_p mean, S_pp), and nothing in x."""
    process = PROCESSES["cld"]
    u = process.noised(TARGET, 0.4).sample(50, Stream("u"))
    transition, cov = process.sde.kernel(0.4)  # type: ignore[union-attr]
    found = network(process, "mixed").score(u, 0.4)
    torch.testing.assert_close(found[:, D:], -(u[:, D:] - transition[1, 0] * MEAN) / cov[1, 1], rtol=1e-9, atol=1e-9)
    assert not found[:, :D].any()


@pytest.mark.parametrize("name", PROCESSES)
def test_networks_see_and_give_numbers_of_order_one(name: str) -> None:
    """The network's target, found from the score of a kernel, has a mean square between 0.2 and 2 per coordinate at all times. Not
    asked of `x0` and `score`, whose targets fade or grow; `mixed` on (x, p) may leave less where a Gaussian explains most of it."""
    process = PROCESSES[name]
    wide = Gaussian(5.0 * MEAN, 25.0 * COV)
    x0 = wide.sample(4000, Stream("wide"))
    eps = Stream("eps").normal((4000, D * (2 if process.phase else 1)))
    for kind in PHASE_KINDS if process.phase else [k for k in KINDS if k not in ("x0", "score")]:
        net = ScoreNetwork(D, process, kind, Architecture(8, 1), Moments.of(5.0 * MEAN, 25.0 * COV))
        for t in (process.least, 0.1, 1.0):
            level = process.levels(torch.full((4000,), t))
            wanted = losses.kernel_target(eps, level) if isinstance(level, PhaseLevel) else -eps / level.variance.sqrt()
            wanted = wanted[:, D:] if name == "cld" else wanted
            u = level.noised(x0, eps)
            give = lambda f, net=net, u=u, level=level: net.at(u, level, lambda z, age: f.expand(len(z), -1) if f.ndim == 1 else f)  # type: ignore[arg-type]  # noqa: E731
            zero = give(torch.zeros(wanted.shape[1], dtype=torch.float64))
            # affine in the output, row by row: solve for what gives the wanted score
            unit = torch.stack([give(row) - zero for row in torch.eye(wanted.shape[1], dtype=torch.float64)], 2)
            f = torch.linalg.solve(unit, (wanted - zero)[:, :, None])[:, :, 0]
            square = (f**2).mean(0)
            least = 0.0 if process.phase and kind == "mixed" else 0.2
            assert least < float(square.min()) and float(square.max()) < 2.0, (kind, t, square)
