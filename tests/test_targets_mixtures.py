"""Gaussians and Gaussian mixtures of the literature: their tables, products, constants by a second route, and noising."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from scipy import special, stats

from mixrate.errors import InvalidInput
from mixrate.experiments import components
from mixrate.samplers.noise import Stream
from mixrate.targets.base import Split, Target
from mixrate.targets.functional import tensorised
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.plane_gap import plane_gap
from mixrate.targets.spectrum import spectral_gap

NAMED = {f"{cls.__name__}.{method}": getattr(cls, method)(**given) for cls in (Gaussian, GaussianMixture) for method, given in cls.examples}
OTHERS: dict[str, Target] = {
    "line": GaussianMixture([0.2, 0.5, 0.3], [-3.0, 0.0, 1.0], [0.5, 1.5, 0.2]),
    "pair of spheres": GaussianMixture([0.7, 0.3], [[0.0, 1.0, 0.0], [1.0, 0.0, 2.0]], [1.0, 0.3]),
    "tilted pair": GaussianMixture([0.4, 0.6], [[0.0, 1.0], [2.0, -1.0]], [[[1.0, 0.4], [0.4, 0.7]]] * 2),
    "three spheres": GaussianMixture([0.3, 0.3, 0.4], [[0.0, 0.0, 1.0, 0.0], [2.0, 0.0, 1.0, 1.0], [0.0, 2.0, 1.0, 2.0]], 0.5),
    "middle axis": GaussianMixture(
        [0.3, 0.3, 0.4], [[0.0, 4.0, 1.0], [2.0, 4.0, 0.0], [0.0, 4.0, -2.0]], [[0.5, 2.0, 1.0], [0.3, 2.0, 1.0], [1.0, 2.0, 0.4]]
    ),
    "uneven grid": GaussianMixture(np.outer([0.2, 0.8], [0.5, 0.1, 0.4]).ravel(), [[a, b] for a in (-1, 2) for b in (0, 3, 5)], [[0.5, 0.2]] * 6),
    "one": GaussianMixture([2.0], [[1.0, -1.0]], [[[1.0, 0.4], [0.4, 0.7]]]),
}
ALL = NAMED | OTHERS
MIXTURES = {name: t for name, t in ALL.items() if isinstance(t, GaussianMixture)}
SPLIT = [name for name, t in ALL.items() if t.split is not None]
EQUAL = [name for name, t in MIXTURES.items() if t.constant("m") is not None]
each = pytest.mark.parametrize("name", list(ALL))
each_mixture = pytest.mark.parametrize("name", list(MIXTURES))


def points(target: Target, key: str, n: int = 64) -> torch.Tensor:
    """Draws, draws spread out, and points far out."""
    x = target.sample(n, Stream("mixtures", key))
    return torch.cat([x, 3.0 * x + 1.0, 1e3 * Stream("far", key).normal((n, target.dim))])


@each
def test_score_and_hessian_are_derivatives_of_the_potential_also_far_out(name: str) -> None:
    target = ALL[name]
    x = points(target, name).requires_grad_(True)
    (gradient,) = torch.autograd.grad(target.potential(x).sum(), x)
    x = x.detach()
    scale = 1.0 + gradient.abs().amax(1, keepdim=True)
    assert float(((target.score(x) + gradient).abs() / scale).max()) < 1e-12
    by_autograd = Target.hessian(target, x)
    scale = 1.0 + by_autograd.abs().amax((1, 2), keepdim=True)
    assert float(((target.hessian(x) - by_autograd).abs() / scale).max()) < 1e-9  # differences of gradients of size 1e3
    v, s = target.potential_and_score(x[:64].float())
    assert v.dtype == s.dtype == torch.float32
    assert torch.allclose(v.double(), target.potential(x[:64]), rtol=1e-3, atol=1e-3)


def log_density(target: GaussianMixture, x: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """By scipy, component by component."""
    weights = target.weights.numpy() if weights is None else weights
    logs = [stats.multivariate_normal(m, c).logpdf(x) for m, c in zip(target.means.numpy(), target.covs.numpy(), strict=True)]
    return np.asarray(special.logsumexp(np.log(weights)[:, None] + np.stack([np.atleast_1d(log) for log in logs]), axis=0))


@each_mixture
def test_the_potential_is_minus_the_log_density_that_scipy_computes(name: str) -> None:
    target = MIXTURES[name]
    x = points(target, name)[:128]
    exact = log_density(target, x.numpy())
    assert np.abs(target.potential(x).numpy() + exact).max() < 1e-9 * (1 + np.abs(exact).max())
    assert target.log_normalizer == 0.0
    if len(target.weights) > 1:  # 1 % of weight moved to the first component would be seen
        tampered = 0.99 * target.weights.numpy()
        tampered[0] += 0.01
        assert np.abs(target.potential(x).numpy() + log_density(target, x.numpy(), tampered)).max() > 5e-3


@each
def test_moments_and_projections_of_exact_draws(name: str) -> None:
    """20,000 draws: the mean at 5.7 standard errors, and a fixed projection's law by Kolmogorov-Smirnov at 1e-6."""
    target = ALL[name]
    x = target.sample(20_000, Stream("draws", name)).numpy()
    assert target.moments is not None
    mean, cov = (moment.numpy() for moment in target.moments)
    assert (np.abs(x.mean(0) - mean) < 5.7 * np.sqrt(np.diag(cov) / len(x))).all()
    u = np.cos(np.arange(target.dim))
    u /= np.linalg.norm(u)
    squares = ((x - mean) @ u) ** 2
    assert abs(squares.mean() - u @ cov @ u) < 5.7 * squares.std() / len(x) ** 0.5
    w, m, c = (
        (target.weights.numpy(), target.means.numpy(), target.covs.numpy())
        if isinstance(target, GaussianMixture)
        else (np.ones(1), mean[None], cov[None])
    )
    sd = np.sqrt(np.einsum("i,kij,j->k", u, c, u))
    assert stats.kstest(x @ u, lambda t: (w * stats.norm.cdf(t[:, None], m @ u, sd)).sum(1)).pvalue > 1e-6


# The tables.


def test_grids_circles_and_pairs_are_those_of_the_literature() -> None:
    nine, many = GaussianMixture.nine_modes(), GaussianMixture.twenty_five_modes()
    assert sorted(map(tuple, nine.means.tolist())) == [(a, b) for a in (-5.0, 0.0, 5.0) for b in (-5.0, 0.0, 5.0)]
    assert sorted(map(tuple, many.means.tolist())) == [(a, b) for a in (-10.0, -5.0, 0.0, 5.0, 10.0) for b in (-10.0, -5.0, 0.0, 5.0, 10.0)]
    assert nine.covs[3].tolist() == many.covs[17].tolist() == [[0.3, 0.0], [0.0, 0.3]]
    ring = GaussianMixture.circle()
    assert torch.allclose(ring.means.norm(dim=1), torch.full((8,), 10.0, dtype=torch.float64)) and float(ring.covs[0, 0, 0]) == 0.7
    assert np.allclose(ring.means[:3].numpy(), [[0, 10], [50**0.5, 50**0.5], [10, 0]], atol=1e-14)
    growing = GaussianMixture.growing(3)
    assert np.allclose(growing.means.numpy(), [[-2 / 3] * 3, [4 / 3] * 3]) and np.allclose(growing.weights.numpy(), [2 / 3, 1 / 3])
    assert growing.moments is not None and float(growing.moments[0].abs().max()) < 1e-15  # centred
    assert GaussianMixture.song_ermon().id == GaussianMixture([0.2, 0.8], [[-5, -5], [5, 5]], 1.0).id
    half, double = GaussianMixture.zod_mc(5.5), GaussianMixture.zod_mc()
    assert torch.equal(2 * half.means, double.means) and torch.equal(half.covs, double.covs)
    assert double.means.tolist() == [[0, 0], [0, 11], [9, 9], [11, 0]]
    pair = GaussianMixture.log_concave_pair()
    assert np.allclose(pair.means.numpy(), [[-0.5, -0.5], [0.5, 0.5]], rtol=1e-15)


def test_the_forty_modes_are_the_numbers_that_the_global_generator_gives_and_it_is_left_alone() -> None:
    state = torch.get_rng_state()
    ours, other = GaussianMixture.fab_forty(), GaussianMixture.fab_forty(seed=42)
    assert torch.equal(torch.get_rng_state(), state)
    for target, seed in ((ours, 0), (other, 42)):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            assert torch.equal(target.means, ((torch.rand((40, 2)) - 0.5) * 2 * 40.0).double())
    # as printed by torch 2: a generator that changed its stream would change the target without a word
    assert np.allclose(ours.means[0].numpy(), [-0.299, 21.458], atol=1e-3)
    assert not torch.equal(ours.means, other.means)
    deviation = torch.nn.functional.softplus(torch.ones(1, dtype=torch.float64))
    assert torch.allclose(ours.covs, deviation**2 * torch.eye(2, dtype=torch.float64), rtol=1e-15)


@pytest.mark.parametrize("cls", [Gaussian, GaussianMixture])
def test_examples_can_be_written_in_a_file(cls: type[Target]) -> None:
    for method, given in cls.examples:
        built = components.build("target", f"{cls.__module__.rsplit('.', 1)[-1]}.{method}", given)
        assert built == NAMED[f"{cls.__name__}.{method}"]


# Products.


def unequal(split: Split, target: Target, x: torch.Tensor) -> float:
    """How far the factors' potentials are from V up to a constant, relative to V."""
    y = x if split.basis is None else x @ split.basis
    total, start = torch.zeros(len(x), dtype=torch.float64), 0
    for factor in split.factors:
        total += factor.potential(y[:, start : start + factor.dim])
        start += factor.dim
    assert start == target.dim
    gap = total - target.potential(x)
    return float((gap - gap[0]).abs().max() / (1 + total.abs().max()))


@pytest.mark.parametrize("name", SPLIT)
def test_a_split_adds_up_to_the_potential(name: str) -> None:
    target = ALL[name]
    assert target.split is not None
    if target.split.basis is not None:
        gram = target.split.basis.T @ target.split.basis
        assert float((gram - torch.eye(target.dim, dtype=torch.float64)).abs().max()) < 1e-13
    assert unequal(target.split, target, points(target, name)) < 1e-13
    turned = Split(torch.eye(target.dim, dtype=torch.float64).flip(0), target.split.factors)  # axes exchanged
    if target.split.basis is None and len(dict.fromkeys(target.split.factors)) > 1:
        assert unequal(turned, target, points(target, name)) > 1e-6


def test_what_is_a_product_and_what_is_not() -> None:
    def kinds(target: Target) -> list[int] | None:
        return None if target.split is None else [factor.dim for factor in target.split.factors]

    assert kinds(NAMED["GaussianMixture.nine_modes"]) == kinds(NAMED["GaussianMixture.twenty_five_modes"]) == kinds(OTHERS["uneven grid"]) == [1, 1]
    assert kinds(NAMED["GaussianMixture.growing"]) == [1] * 16 and kinds(NAMED["GaussianMixture.log_concave_pair"]) == [1, 1]
    assert kinds(OTHERS["three spheres"]) == [3, 1] and kinds(OTHERS["middle axis"]) == [2, 1] and kinds(OTHERS["one"]) is None
    for name in ("circle", "fab_forty", "zod_mc"):
        assert kinds(NAMED[f"GaussianMixture.{name}"]) is None
    assert kinds(GaussianMixture.two_modes(3.0, dim=4)) == [1] * 4 and kinds(GaussianMixture.two_modes(3.0)) is None
    nine = GaussianMixture.nine_modes()
    weights = nine.weights.clone()
    weights[0] *= 1.001
    assert GaussianMixture(weights, nine.means, 0.3).split is None  # weights that are no product
    assert GaussianMixture(nine.weights[:8], nine.means[:8], 0.3).split is None  # a corner is missing
    assert nine.split is not None and nine.split.factors[0] == nine.split.factors[1] == GaussianMixture([1, 1, 1], [-5, 0, 5], 0.3)


# m and M.


def extremes(target: Target, x: torch.Tensor) -> tuple[float, float]:
    """Extreme eigenvalues of the Hessian, by differentiation."""
    values = torch.linalg.eigvalsh(Target.hessian(target, x))
    return float(values[:, 0].min()), float(values[:, -1].max())


def adversarial(target: GaussianMixture) -> torch.Tensor:
    """Where two components weigh the same on the segment between their means, about these points, and a mesh of the line."""
    j, k = torch.triu_indices(len(target.weights), len(target.weights), 1)
    low, high = torch.zeros(len(j), dtype=torch.float64), torch.ones(len(j), dtype=torch.float64)
    for _ in range(60):
        mid = (low + high) / 2
        logs = target._components(target.means[j] + mid[:, None] * (target.means[k] - target.means[j]))[0]
        first = logs.gather(1, j[:, None]) > logs.gather(1, k[:, None])
        low, high = torch.where(first[:, 0], mid, low), torch.where(first[:, 0], high, mid)
    at = torch.cat([target.means[j] + low[:, None] * (target.means[k] - target.means[j]), target.means])
    near = [at + r * Stream("near", str(r)).normal(tuple(at.shape)) for r in (0.03, 0.5)]
    lo, hi = target.extent()
    mesh = [torch.linspace(float(lo[0]), float(hi[0]), 4001, dtype=torch.float64)[:, None]] if target.dim == 1 else []
    return torch.cat([at, *near, *mesh])


@pytest.mark.parametrize("name", EQUAL)
def test_spectra_of_the_hessian_lie_between_m_and_M_and_reach_what_is_exact(name: str) -> None:
    target = MIXTURES[name]
    m, big = target.constants["m"], target.constants["M"]
    lowest, highest = extremes(target, torch.cat([points(target, name)[:128], adversarial(target)]))
    slack = 1e-10 * big.value
    assert m.value <= lowest + slack and max(highest, -lowest) <= big.value + slack
    if m.how != "bound":  # 1 % more would be refuted
        assert lowest < m.value + 0.01 * abs(m.value)
    if big.how != "bound":
        assert max(highest, -lowest) > 0.99 * big.value


@pytest.mark.parametrize("seed", range(6))
def test_the_search_on_the_line_finds_what_fine_meshes_find(seed: int) -> None:
    random = np.random.default_rng(seed)
    k = 3 + seed % 3
    spread = (1.0, 1e-4, 0.0)[seed % 3]  # variances far from each other, nearly equal, equal
    target = GaussianMixture(random.uniform(0.1, 1, k), random.uniform(-6, 6, k), 0.5 * np.exp(spread * random.uniform(-1, 1, k)))
    p, mu, w = 1 / target.covs[:, 0, 0].numpy(), target.means[:, 0].numpy(), target.weights.numpy()
    lowest = float(p.min())
    for i, j in itertools.combinations(range(k), 2):  # about the roots of each log ratio, however far out
        c = np.log(w[i] / w[j]) + 0.5 * np.log(p[i] / p[j]) + 0.5 * (p[j] * mu[j] ** 2 - p[i] * mu[i] ** 2)
        for root in np.roots([0.5 * (p[j] - p[i]), p[i] * mu[i] - p[j] * mu[j], c]):
            x = float(root.real) + torch.linspace(-5, 5, 40_001, dtype=torch.float64)[:, None]
            lowest = min(lowest, float(target.hessian(x).min()))
    m = target.constants["m"]
    assert m.how == "numeric" and lowest - 1e-4 * abs(lowest) < m.value <= lowest + 1e-8 * abs(lowest)


def test_a_tie_far_out_counts() -> None:
    """Variances that differ by 1e-4 tie again 4e4 away, as steeply as between the modes: m is what it is there, too."""
    equal, nearly = GaussianMixture([1, 1], [-2, 2], 1.0), GaussianMixture([1, 1], [-2, 2], [1.0, 1.0001])
    assert abs(nearly.constants["m"].value / equal.constants["m"].value - 1) < 1e-3
    steep = GaussianMixture([1, 1, 1], [-6, 0, 6], [1.0, 1.0, 1.0001])
    x = torch.linspace(-30, 30, 60_001, dtype=torch.float64)[:, None]
    assert float(steep.hessian(x).min()) > -8.1 and steep.constants["m"].value < -34.0  # the outer modes, 12 apart, meet at -2.4e5
    far = torch.linspace(-2.402e5, -2.398e5, 40_001, dtype=torch.float64)[:, None]
    assert float(steep.hessian(far).min()) < -30.0


def test_two_modes_have_their_constants_in_closed_form() -> None:
    for separation, variance, dim in ((1.0, 1.0, 1), (6.0, 1.0, 2), (3.0, 0.5, 3)):
        target = GaussianMixture.two_modes(separation, dim=dim, variance=variance, weight=0.3)
        m = 1 / variance - separation**2 / (4 * variance**2)
        assert math.isclose(target.constants["m"].value, m, rel_tol=1e-14) and target.constants["m"].how == "exact"
        assert math.isclose(target.constants["M"].value, max(1 / variance, -m), rel_tol=1e-14) and target.constants["M"].how == "exact"
    pair = GaussianMixture.log_concave_pair(dim=5, square=0.8).constants
    assert math.isclose(pair["m"].value, 0.2, rel_tol=1e-13) and math.isclose(pair["M"].value, 1.0, rel_tol=1e-13)


def fall(target: GaussianMixture, radius: float) -> float:
    """The least eigenvalue of the Hessian on a circle, searched where two components tie there."""
    angle = torch.linspace(0, 2 * math.pi, 20_001, dtype=torch.float64)
    on = torch.stack([angle.cos(), angle.sin()], 1)
    logs = target._components(radius * on)[0]
    first = logs.argmax(1)
    lowest = math.inf
    for i in torch.nonzero(first[1:] != first[:-1])[:, 0].tolist():
        j, k = int(first[i]), int(first[i + 1])
        low, high = float(angle[i]), float(angle[i + 1])
        for _ in range(50):
            mid = (low + high) / 2
            at = radius * torch.tensor([[math.cos(mid), math.sin(mid)]], dtype=torch.float64)
            both = target._components(at)[0][0]
            low, high = (mid, high) if both[j] > both[k] else (low, mid)
        lowest = min(lowest, extremes(target, at)[0])
    return lowest


@pytest.mark.parametrize("time", [0.0, 0.5, 2.0])
def test_the_hessian_of_zod_mc_is_unbounded_below_at_every_time_so_that_no_smoothness_constant_exists(time: float) -> None:
    """Along the rays on which two components tie it falls like the square of the distance: it quadruples when that doubles."""
    target = GaussianMixture.zod_mc().noised(time)
    found = [fall(target, radius) for radius in (3200.0, 6400.0, 12800.0, 25600.0)]
    assert found[0] < -1e3 and all(3.9 < b / a < 4.1 for a, b in itertools.pairwise(found))
    assert target.constant("m") is None and target.constant("M") is None and target.constant("lsi") is None
    # no component has the smallest precision in every direction, which is why
    p = target.precisions
    assert all(any(float(torch.linalg.eigvalsh(p[k] - p[j])[0]) < 0 for k in range(4)) for j in range(4))


# Functional inequalities.


def test_the_poincare_constant_of_a_product_is_that_of_its_factor_and_a_plane_mesh_agrees() -> None:
    pair = GaussianMixture.two_modes(3.0, dim=2, weight=0.3)
    gap = pair.constants["poincare"].value
    assert gap == spectral_gap(GaussianMixture.two_modes(3.0, weight=0.3)).value
    assert abs(plane_gap(pair).value / gap - 1) < 0.02
    nine = GaussianMixture.nine_modes().constants
    assert nine["poincare"].value == spectral_gap(GaussianMixture([1, 1, 1], [-5, 0, 5], 0.3)).value
    line = GaussianMixture.two_modes(2 * 50**0.5, weight=0.2).constants["poincare"].value
    assert math.isclose(GaussianMixture.song_ermon().constants["poincare"].value, line, rel_tol=1e-3)


CHEAP = [
    name for name, t in MIXTURES.items() if name in ("one", "pair of spheres") or t.dim == 1 or (t.split is not None and t.split.factors[0].dim == 1)
]


@pytest.mark.parametrize("name", CHEAP)
def test_log_sobolev_implies_poincare_and_neither_exceeds_a_rayleigh_quotient(name: str) -> None:
    """Var(u . x) alpha <= 1 for every unit vector u, with the exact covariance."""
    target = MIXTURES[name]
    lsi, poincare = target.constant("lsi"), target.constant("poincare")
    if poincare is None:
        assert target.dim > 2
        return
    assert target.moments is not None and 0 < poincare * float(torch.linalg.eigvalsh(target.moments[1])[-1]) <= 1 + 1e-9
    assert lsi is None or 0 < lsi <= poincare * (1 + 1e-12)


def test_constants_wait_until_asked_and_travel_and_do_not_touch_the_id() -> None:
    target = GaussianMixture.fab_forty()
    before = target.id
    assert target.constants.get("m") is not None
    again = pickle.loads(pickle.dumps(target))
    assert again == target and again.id == before == GaussianMixture.fab_forty().id
    assert not any(name == "poincare" and not callable(entry) for name, entry in target.constants._entries.items())  # type: ignore[attr-defined]
    assert again.constants["m"] == target.constants["m"]


# Noising.


def test_noising_a_mixture_on_the_line_is_a_convolution() -> None:
    target, t = OTHERS["line"], 0.4
    y = np.linspace(-12, 12, 4001)
    x = np.linspace(-4, 4, 33)
    p = np.exp(-target.potential(torch.as_tensor(y[:, None])).numpy())
    kernel = stats.norm.pdf(x[:, None], math.exp(-t) * y, math.sqrt(1 - math.exp(-2 * t)))
    exact = (kernel * p).sum(1) * (y[1] - y[0])
    ours = np.exp(-target.noised(t).potential(torch.as_tensor(x[:, None])).numpy())
    assert np.abs(ours / exact - 1).max() < 1e-12
    assert np.abs(np.exp(-target.noised(0.41).potential(torch.as_tensor(x[:, None])).numpy()) / exact - 1).max() > 1e-3


@each
def test_noising_is_a_semigroup_that_starts_at_the_target_and_ends_at_the_standard_normal(name: str) -> None:
    target = ALL[name]
    assert target.noised(0.0).id == target.id
    x = points(target, name)[:64]
    one, two = target.noised(0.7), target.noised(0.3).noised(0.4)
    assert torch.allclose(one.potential(x), two.potential(x), rtol=1e-11)
    late = target.noised(40.0).moments
    assert late is not None and torch.allclose(late[1], torch.eye(target.dim, dtype=torch.float64)) and float(late[0].abs().max()) < 1e-12
    assert target.moments is not None and one.moments is not None
    assert torch.allclose(
        one.moments[1], math.exp(-1.4) * target.moments[1] - math.expm1(-1.4) * torch.eye(target.dim, dtype=torch.float64), rtol=1e-12
    )


def test_when_two_modes_become_strongly_log_concave_in_closed_form_and_by_search() -> None:
    """``m(t) = 1/v - e^-2t s^2 / (4 v^2)`` with ``v = 1 + e^-2t (variance - 1)``: positive once ``e^2t > 1 - variance + s^2/4``."""
    for separation, variance in ((6.0, 1.0), (4.0, 0.3)):
        target = GaussianMixture.two_modes(separation, variance=variance)
        closed = 0.5 * math.log(1 - variance + separation**2 / 4)
        low, high = 0.0, 5.0
        for _ in range(60):
            mid = (low + high) / 2
            low, high = (mid, high) if target.noised(mid).constants["m"].value <= 0 else (low, mid)
        assert abs(high - closed) < 1e-12
        after = target.noised(closed + 0.1)
        assert after.constants["lsi"].why.startswith("Bakry-Emery") and extremes(after, adversarial(after))[0] > 0
        assert extremes(target.noised(closed - 0.1), adversarial(target.noised(closed - 0.1)))[0] < 0
    assert math.isclose(0.5 * math.log(9.0), math.log(3.0))  # separation 6, variance 1


# Gaussians.


def test_random_eigenvalues_lie_in_their_range_are_log_uniform_and_turn_every_axis() -> None:
    target = Gaussian.random_eigenvalues(400, 0.1, 10.0, seed=3)
    values = np.linalg.eigvalsh(target.precision.numpy())
    assert values.min() >= 0.1 * (1 - 1e-12) and values.max() <= 10.0 * (1 + 1e-12)
    assert stats.kstest(np.log10(values), stats.uniform(-1, 2).cdf).pvalue > 1e-6
    assert stats.kstest(values, stats.uniform(0.1, 9.9).cdf).pvalue < 1e-6  # uniform ones would be told apart
    first = np.linalg.eigh(target.precision.numpy())[1][0] * 20.0  # entries of a Haar vector times sqrt(d): nearly N(0, 1)
    assert stats.kstest(np.abs(first), stats.halfnorm.cdf).pvalue > 1e-6
    again = Gaussian.random_eigenvalues(5, 1, 4, seed=1)
    assert again.id == Gaussian.random_eigenvalues(5, 1, 4, seed=1).id != Gaussian.random_eigenvalues(5, 1, 4, seed=2).id
    assert np.allclose(Gaussian.random_eigenvalues(3, 2.0, 2.0).precision.numpy(), 2 * np.eye(3))


def test_a_gaussian_splits_along_its_axes_or_its_eigenvectors() -> None:
    for target in (Gaussian.isotropic(3, 2.0), Gaussian([1.0, -2.0], [0.5, 3.0]), Gaussian.ar1(4, 0.7, mean=1.0)):
        assert target.split is not None and (target.split.basis is None) == (
            target.name == "gaussian" and bool((target.cov == torch.diag(torch.diagonal(target.cov))).all())
        )
        total = tensorised(target.split.factors)
        for name in ("m", "M", "lsi", "poincare"):
            assert math.isclose(total[name].value, target.constants[name].value, rel_tol=1e-12)
    assert Gaussian(0.0, 2.0).split is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian.random_eigenvalues(3, 0.0, 1.0), "0 < low <= high"),
        (lambda: Gaussian.random_eigenvalues(3, 2.0, 1.0), "0 < low <= high"),
        (lambda: Gaussian.random_eigenvalues(3, 1.0, math.inf), "0 < low <= high"),
        (lambda: Gaussian.random_eigenvalues(3, 1.0, 2.0, seed=-1), "seed >= 0"),
        (lambda: Gaussian.isotropic(2).noised(-1.0), "time must be a non-negative number, got -1"),
        (lambda: GaussianMixture.two_modes(1.0).noised(math.nan), "time must be a non-negative number, got nan"),
        (lambda: GaussianMixture.log_concave_pair(square=1.0), "square in [0, 1)"),
        (lambda: GaussianMixture.song_ermon(weight=1.0), "weight in (0, 1)"),
        (lambda: GaussianMixture.growing(0), "dim >= 1"),
        (lambda: GaussianMixture.growing(2, variance=-1.0), "positive definite"),
        (lambda: GaussianMixture.nine_modes(spacing=0.0), "spacing must be positive"),
        (lambda: GaussianMixture.circle(modes=1), "modes >= 2"),
        (lambda: GaussianMixture.circle(radius=-1.0), "radius > 0"),
        (lambda: GaussianMixture.fab_forty(seed=-1), "seed must not be negative"),
        (lambda: GaussianMixture.zod_mc(radius=0.0), "radius must be positive"),
    ],
)
def test_bad_parameters_get_one_line(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput) as caught:
        make()
    assert message in str(caught.value) and "\n" not in str(caught.value)
