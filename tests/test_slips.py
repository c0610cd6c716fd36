"""SLIPS: its maps against closed forms, the observation process on a grid, warm chains, costs, starved inner samplers, planted bugs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from mixrate.errors import Diverged, InvalidInput, Unsupported
from mixrate.experiments.components import names
from mixrate.laws.grid import Grid
from mixrate.laws.normal import Normal, affine_map
from mixrate.laws.origin import grid_origin, normal_origin, particles_origin
from mixrate.laws.particles import Particles
from mixrate.laws.propagate import propagate
from mixrate.metrics.tv import TV
from mixrate.metrics.w2 import W2
from mixrate.samplers.diffusion.posterior import Posterior
from mixrate.samplers.diffusion.slips import Slips
from mixrate.samplers.noise import Noise, Stream
from mixrate.targets.base import Batch, Target
from mixrate.targets.double_well import DoubleWell
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture

ILL = Gaussian.ill_conditioned(3, 5.0, rotation=2, mean=0.7)
LINE = GaussianMixture([0.3, 0.7], [[-1.0], [1.0]], [0.3, 0.6])
SCHEMES: list[dict[str, Any]] = [
    {"sigma": 1.3},
    {"powers": (2.0, 1.0), "last": 0.99},
    {"powers": (1.0, 2.0), "last": 0.98, "sigma": 0.7},
    {"scheme": "standard", "first": 0.3, "last": 300.0, "sigma": 1.3},
]
#: The false-alarm rate of every statistical test here.
ALARM = 1e-6


def clock(sampler: Slips) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """alpha and g^2 as the paper writes them."""
    if sampler.scheme == "standard":
        return lambda t: t, lambda t: t
    p, q = sampler.powers
    return lambda t: t**0.5 * t ** (p / 2) * (1 - t) ** (-q / 2), lambda t: t**p / (1 - t) ** q


# The schedule.


@pytest.mark.parametrize("given", SCHEMES)
def test_times_are_uniform_in_the_log_of_the_signal_to_noise_ratio(given: dict[str, Any]) -> None:
    sampler = Slips(12, inner="oracle", initial_steps=2, **given)
    alpha, ratio = clock(sampler)
    t = np.array(sampler.times[2:])
    assert sampler.times[:3] == (sampler.first,) * 3 and t[-1] == sampler.last and len(t) == 13 and (np.diff(t) > 0).all()
    steps = np.diff(np.log([ratio(s) for s in t]))
    assert np.allclose(steps, steps[0], rtol=1e-9)
    for s in t:
        assert sampler.alpha(s) == pytest.approx(alpha(s), rel=1e-12)
        assert sampler.blur(s) == pytest.approx(sampler.sigma**2 / ratio(s), rel=1e-12)
    assert sampler.length == 2 + 12 + 1 and dataclasses.replace(sampler, denoise=False).length == 14


# On Gaussian targets.


def closed_form(sampler: Slips, k: int, target: Gaussian, chains: float = np.inf) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A, b, C) of the step after k steps in x = Y/alpha: the posterior given Y = y is N(L (P m + alpha y/(sigma^2 t)), L),
    ``L = (P + alpha^2/(sigma^2 t) I)^-1``; U is its mean, or that of `chains` draws."""
    alpha, _ = clock(sampler)
    precision, mean, eye = target.precision.numpy(), target.mean.numpy(), np.eye(target.dim)
    t = sampler.times[k]
    a, v = alpha(t), sampler.sigma**2 * t
    post = np.linalg.inv(precision + a * a / v * eye)
    u, offset = post * (a * a / v), post @ precision @ mean  # of U as a function of x
    spread = post / chains
    if k < sampler.initial_steps:  # ULA on the law of x at t_0, N(m, P^-1 + v/a^2 I)
        h, pull = sampler.initial_step * v / a**2, np.linalg.inv(np.linalg.inv(precision) + v / a**2 * eye)
        return eye - h * pull, h * pull @ mean, 2 * h * eye + (h * a * a / v) ** 2 * spread
    if k + 1 == len(sampler.times):
        return u, offset, spread
    s = sampler.times[k + 1]
    # Y' = Y + (alpha' - alpha) U + sigma sqrt(s - t) xi, divided by alpha'
    d = (alpha(s) - a) / alpha(s)
    return a / alpha(s) * eye + d * u, d * offset, d * d * spread + sampler.sigma**2 * (s - t) / alpha(s) ** 2 * eye


def check_maps(inner: str) -> None:
    """Every step of every scheme, to 1e-10."""
    for given in SCHEMES:
        sampler = Slips(3, inner=inner, inner_chains=7, initial_steps=1, initial_step=0.3, **given)
        for k in range(sampler.length):
            step = affine_map(sampler.at(k), ILL)
            stated = closed_form(sampler, k, ILL, 7 if inner == "exact" else np.inf)
            for mine, theirs in zip((step.linear, step.offset, step.noise_cov), stated, strict=True):
                assert np.abs(mine - theirs).max() < 1e-10


@pytest.mark.parametrize("inner", ["oracle", "exact"])
def test_steps_in_closed_form(inner: str) -> None:
    check_maps(inner)


def test_cold_ula_has_the_maps_of_long_chains() -> None:
    """Chains of many short steps leave the posterior's law, up to order h."""
    sampler = Slips(3, inner="ula", inner_chains=4, inner_steps=400, inner_step=0.1, warm=False)
    for k in (0, 2):
        step, stated = affine_map(sampler.at(k), ILL), closed_form(sampler, k, ILL, 4)
        assert np.abs(step.linear - stated[0]).max() < 2e-3 and np.abs(step.noise_cov - stated[2]).max() < 0.06 * np.abs(stated[2]).max()


def observed(target: Gaussian, sampler: Slips, t: float) -> Normal:
    """The law of ``X + sigma W_t/alpha(t)``."""
    moments = target.diffused(1.0, sampler.sigma**2 / clock(sampler)[1](t)).moments
    assert moments is not None
    return Normal(*(m.numpy() for m in moments))


def check_marginals() -> None:
    """From the exact start, the law at every time is that of the observations, up to order one in the step."""
    for given in SCHEMES[::3]:
        away = []
        for n in (20, 40, 80):
            sampler = Slips(n, inner="oracle", denoise=False, **given)
            laws = propagate(normal_origin(sampler, ILL), sampler, ILL, [n // 4, n // 2, n])
            found = [W2().between(law, observed(ILL, sampler, sampler.times[k])).value for k, law in zip((n // 4, n // 2, n), laws, strict=True)]
            away.append(max(found))
        slopes = -np.diff(np.log2(away))
        assert away[-1] < 0.06 and (np.abs(slopes - 1) < 0.15).all(), (given, away)


def test_marginals_are_those_of_the_observations() -> None:
    check_marginals()


# Elsewhere.


def test_a_mixture_on_a_grid() -> None:
    """TV to the observations' law falls with the step, and the last step, to U, leaves the target."""
    away = []
    for n in (25, 50):
        sampler = Slips(n, inner="oracle")
        before, after = propagate(grid_origin(sampler, LINE, 401), sampler, LINE, [n, n + 1])
        assert isinstance(before, Grid) and isinstance(after, Grid)
        stated = Grid.of_target(LINE.diffused(1.0, sampler.blur(sampler.last)), before.mesh)
        away.append((TV().between(before, stated).value, TV()(after, LINE).value))
    assert away[1][0] < 0.53 * away[0][0] and away[1][1] < 0.55 * away[0][1] and away[1][1] < 0.02


def test_exact_start_stays_exact() -> None:
    """Three steps of an oracle schedule so fine that its error is far below the noise of the sample: Kolmogorov-Smirnov."""
    sampler, n = Slips(3, first=0.5, last=0.501, inner="oracle", denoise=False), 20000
    law = propagate(particles_origin(sampler, LINE, n, 3), sampler, LINE, [3])[0]
    assert isinstance(law, Particles)
    s, w, m, c = sampler.blur(0.501), LINE.weights.numpy(), LINE.means[:, 0].numpy(), LINE.covs[:, 0, 0].numpy()
    found = stats.kstest(law.x[:, 0].numpy(), lambda x: (w * stats.norm.cdf((x[:, None] - m) / np.sqrt(c + s))).sum(1))
    assert found.pvalue > ALARM


@pytest.mark.parametrize("inner", ["importance", "exact", "mala", "ula"])
def test_estimates_agree_with_the_oracle(inner: str) -> None:
    """The mean error over particles, within 5.2 standard errors (2e-7) and a hundredth of the score's size."""
    sampler = Slips(4, first=0.4, last=0.9, inner=inner, inner_chains=100, inner_steps=40, inner_step=0.5, warm=False, least_ess=0.0)
    for k in (0, 4):
        x = LINE.diffused(1.0, sampler.blur(sampler.times[k])).sample(400, Stream("x", k))
        stated = LINE.diffused(1.0, sampler.blur(sampler.times[k])).score(x)
        error = sampler.look(LINE, k, x, Stream("look", k)).score - stated
        allowed = 5.2 * float(error.std()) / 400**0.5 + (0.1 if inner == "ula" else 0.01) * float(stated.std())
        assert abs(float(error.mean())) < allowed
        assert float(error.std()) < 0.4 * float(stated.std())


def test_warm_mala_finds_the_weights_of_the_modes() -> None:
    """From N(0, sigma^2/g(t_0)^2 I), which has them wrong, by Langevin within Langevin; without it they stay wrong."""
    target = GaussianMixture.two_modes(3.0, weight=0.2)
    lower = []
    for initial in (15, 0):
        sampler = Slips(40, first=0.6, sigma=1.5, inner="mala", inner_chains=16, inner_steps=5, initial_steps=initial)
        start = Particles.of_normal(Normal(np.zeros(1), np.eye(1) * sampler.blur(0.6)), 1000, 1)
        law = propagate(start, sampler, target, [sampler.length])[0]
        assert isinstance(law, Particles) and law.diverged == 0
        lower.append(TV()(law, target).lower)
    assert lower[0] < 0.05 and lower[1] > 0.1


def check_warm() -> None:
    """With steps too short to move, chains end where they were; cold ones would have been drawn anew."""
    sampler = Slips(10, inner="ula", inner_chains=16, inner_steps=1, inner_step=1e-12)
    x = sampler.origin(LINE).sample(50, Stream("warm"))
    state = sampler.init(LINE, x, Stream("warm"))
    first = sampler.advance(0, LINE, state, Stream("warm", step=1))
    second = sampler.advance(1, LINE, first, Stream("warm", step=2))
    assert first.chains.shape == (50, 16) and float((second.chains - first.chains).abs().max()) < 1e-4
    assert float((first.chains - x).std()) > 0.5


def test_chains_go_on() -> None:
    check_warm()
    with pytest.raises(Unsupported, match="use particles"):
        affine_map(Slips(4, inner="ula").at(0), ILL)


def test_blocks_do_not_change_a_number() -> None:
    sampler = Slips(2, inner="mala", inner_chains=8, inner_steps=2, initial_steps=1)
    x = sampler.origin(ILL).sample(40, Stream("blocks"))

    def run(lo: int, hi: int) -> Batch:
        noise = Stream("run")
        noise.first = lo
        state = sampler.init(ILL, x[lo:hi], noise)
        for k in range(sampler.length):
            state = sampler.advance(k, ILL, state, noise.at(k + 1))
        return state.x

    assert torch.equal(run(0, 40), torch.cat([run(0, 17), run(17, 40)]))


# Costs, and what is refused.


@pytest.mark.parametrize("inner", ["importance", "ula", "mala"])
@pytest.mark.parametrize("identity", ["tweedie", "target"])
def test_costs_are_those_of_the_step(inner: str, identity: str) -> None:
    counts = {"potential": 0, "score": 0}

    class Counting(DoubleWell):
        def potential(self, x: Batch) -> torch.Tensor:
            counts["potential"] += len(x)
            return super().potential(x)

        def score(self, x: Batch) -> Batch:
            counts["score"] += len(x)
            return super().score(x)

        def potential_and_score(self, x: Batch) -> tuple[torch.Tensor, Batch]:
            return self.potential(x), self.score(x)

    target = Counting()
    sampler = Slips(3, inner=inner, inner_chains=6, inner_steps=4, identity=identity, initial_steps=1, least_ess=0, least_acceptance=0)
    state = sampler.init(target, torch.zeros((5, 1), dtype=torch.float64), Stream("count"))
    for k in range(sampler.length):  # initial and last steps included
        counts.update(potential=0, score=0)
        state = sampler.advance(k, target, state, Stream("count", step=k + 1))
        assert counts == {"potential": 5 * sampler.potential_evaluations, "score": 5 * sampler.score_evaluations}


def test_starved_inner_samplers_end_the_run() -> None:
    far = Particles(torch.tensor([[0.0], [60.0]], dtype=torch.float64), 0)
    with pytest.raises(
        Diverged, match=r"^inner ESS too low: below 5 for 50.00% of the particles at t = 0.2, median .*; raise inner_chains or first"
    ) as caught:
        propagate(far, Slips(5, inner="importance", inner_chains=64), LINE, [5])
    assert caught.value.step == 1 and caught.value.fraction == 0.5
    with pytest.raises(Diverged, match="inner acceptance too low"):
        propagate(far, Slips(5, inner_step=1000.0), LINE, [5])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scheme": "cosine"}, "scheme must be one of geometric"),
        ({"inner": "rejection"}, "inner must be one of importance"),
        ({"cold": "zero"}, "cold must be one of kernel"),
        ({"identity": "none"}, "identity must be one of tweedie"),
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"initial_steps": -1}, "initial_steps must be a whole number of at least 0"),
        ({"sigma": 0.0}, "sigma must be a positive"),
        ({"powers": (1.0, -1.0)}, "powers must be a positive"),
        ({"powers": (1.0,)}, "powers must be two numbers"),
        ({"first": 0.0}, "first must be a positive"),
        ({"last": 1.0}, "last must be above first = 0.2 and below 1, got 1"),
        ({"scheme": "standard", "last": 0.1}, "last must be above first = 0.2 and below inf, got 0.1"),
        ({"inner": "importance", "least_ess": 200.0}, "least_ess must be in"),
        ({"least_acceptance": 2.0}, "least_acceptance must be in"),
    ],
)
def test_what_is_out_of_range_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{words}"):
        Slips(**({"steps": 10} | given))


def test_routes_that_a_target_does_not_have_are_refused() -> None:
    for given, words in (({"inner": "oracle"}, "no closed form after noising"), ({"inner": "exact"}, "inner must not be exact")):
        with pytest.raises(Unsupported, match=words):
            Slips(10, **given).admit(DoubleWell())
    with pytest.raises(InvalidInput, match="inner_chains must be above d"):
        Slips(10, inner_chains=3, identity="both").admit(GaussianMixture.two_modes(3.0, dim=2))
    assert "slips" in names("sampler")


# Planted bugs: each is seen by the check named beside it.


class Bug(Slips):
    """One line of the step, wrong."""

    where: str = ""

    def _move(self, k: int, x: Batch, score: Batch, noise: Noise) -> Batch:
        if k < self.initial_steps or k + 1 == len(self.times):
            return MOVE(self, k, x, score, noise)
        t, s = self.times[k], self.times[k + 1]
        u, a, b = x + self.blur(t) * score, self.alpha(t), self.alpha(s)
        push, spread = b - a, self.sigma * (s - t) ** 0.5
        if self.where == "alpha' at the left end":  # Euler, not the integral of alpha'
            push = (self.alpha(t + 1e-6) - self.alpha(t - 1e-6)) / 2e-6 * (s - t)
        elif self.where == "alpha for alpha'":
            push = a * (s - t)
        elif self.where == "noise without sigma":
            spread = (s - t) ** 0.5
        elif self.where == "noise of deviation dt":
            spread = self.sigma * (s - t)
        return (a * x + push * u + spread * noise.normal(tuple(x.shape))) / b


def variance_t(self: Slips, target: Target, k: int, x: Batch) -> Posterior:
    """t for sigma^2 t."""
    t = self.times[k]
    return Posterior(target, self.alpha(t) * x, self.alpha(t), t, self.inner_chains)


def scale_inverted(self: Slips, target: Target, k: int, x: Batch) -> Posterior:
    """1/alpha for alpha."""
    t = self.times[k]
    return Posterior(target, self.alpha(t) * x, 1 / self.alpha(t), self.sigma**2 * t, self.inner_chains)


def observed_in_x(self: Slips, target: Target, k: int, x: Batch) -> Posterior:
    """x for Y = alpha x."""
    t = self.times[k]
    return Posterior(target, x, self.alpha(t), self.sigma**2 * t, self.inner_chains)


def blur_without_sigma(self: Slips, t: float) -> float:
    """1/g^2 for sigma^2/g^2."""
    return t / self.alpha(t) ** 2


def alpha_without_root(self: Slips, t: float) -> float:
    """g for alpha = t^(1/2) g."""
    return ALPHA(self, t) / t**0.5


def bugged(where: str) -> Callable[..., Batch]:
    def move(self: Slips, k: int, x: Batch, score: Batch, noise: Noise) -> Batch:
        other = Bug(**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)})
        object.__setattr__(other, "where", where)
        return Bug._move(other, k, x, score, noise)

    move.__name__ = where.replace(" ", "-")
    return move


MOVE, ALPHA = Slips._move, Slips.alpha


def forgetful(self: Slips, q: Posterior, start: Batch | None = None) -> Any:
    """Cold chains that count as warm."""
    return PLAN(self, q, None)


PLAN = Slips.plan
MUTANTS: list[tuple[str, Any, Callable[[], None]]] = [
    *[("_move", bugged(w), lambda: check_maps("oracle")) for w in ("alpha' at the left end", "alpha for alpha'", "noise of deviation dt")],
    ("_move", bugged("noise without sigma"), lambda: check_maps("oracle")),
    ("_move", bugged("noise without sigma"), check_marginals),
    ("_move", bugged("noise of deviation dt"), check_marginals),
    ("_move", bugged("alpha for alpha'"), check_marginals),
    ("posterior", variance_t, lambda: check_maps("exact")),
    ("posterior", scale_inverted, lambda: check_maps("exact")),
    ("posterior", observed_in_x, lambda: check_maps("exact")),
    ("blur", blur_without_sigma, lambda: check_maps("oracle")),
    ("blur", blur_without_sigma, check_marginals),
    ("alpha", alpha_without_root, lambda: check_maps("oracle")),
    ("alpha", alpha_without_root, check_marginals),
    ("plan", forgetful, check_warm),
]


@pytest.mark.parametrize(("name", "bug", "check"), MUTANTS, ids=[f"{i}-{m[1].__name__}" for i, m in enumerate(MUTANTS)])
def test_planted_bugs_are_seen(name: str, bug: Any, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slips, name, bug)
    with pytest.raises(AssertionError):
        check()
