"""Every target: score against autograd, normaliser and moments against quadrature, exact sampler, constants."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from mixrate.errors import InvalidInput
from mixrate.samplers.noise import Stream
from mixrate.targets.base import Target
from mixrate.targets.double_well import DoubleWell
from mixrate.targets.functional import holley_stroock
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.hyperbolic import Hyperbolic, poincare_lower_bound
from mixrate.targets.logistic_regression import LogisticRegression
from mixrate.targets.mesh import Mesh
from mixrate.targets.quartic import Quartic
from mixrate.targets.skew_logistic import SkewLogistic
from mixrate.targets.spectrum import finite_volume, gap_of_density, spectrum

TARGETS: dict[str, Target] = {
    "gaussian": Gaussian([0.3, -1.0], [[1.0, 0.4], [0.4, 0.7]]),
    "ill": Gaussian.ill_conditioned(6, 30.0, rotation=2, mean=0.5),
    "ar1": Gaussian.ar1(5, 0.8, mean=-1.0),
    "mixture": GaussianMixture([1.0, 2.0, 3.0], [[0.0, 1.0], [2.0, -1.0], [-2.0, 0.0]], [[[1.0, 0.3], [0.3, 0.5]], [0.4, 0.2], 0.7]),
    "modes": GaussianMixture.two_modes(5.0, weight=0.3),
    "double_well": DoubleWell(),
    "quartic": Quartic(),
    "skew": SkewLogistic(),
    "skew_left": SkewLogistic(a=1.5, s=-3.0),
    "hyperbolic": Hyperbolic(),
    "posterior": LogisticRegression.generated(4, 60, seed=5, prior_variance=2.0),
}
LINE = [name for name, t in TARGETS.items() if t.dim == 1]
DRAWN = [name for name, t in TARGETS.items() if "sample" in t.capabilities]
each = pytest.mark.parametrize("name", list(TARGETS))
each_line = pytest.mark.parametrize("name", LINE)


@each
def test_score_is_the_gradient_and_one_pass_agrees(name: str) -> None:
    target = TARGETS[name]
    x = (3.0 * Stream("score", name).normal((64, target.dim))).requires_grad_(True)
    (gradient,) = torch.autograd.grad(target.potential(x).sum(), x)
    v, s = target.potential_and_score(x.detach())
    scale = 1.0 + gradient.abs().max()
    assert float((target.score(x.detach()) + gradient).abs().max() / scale) < 1e-13
    assert float((s + gradient).abs().max() / scale) < 1e-13
    assert torch.allclose(v, target.potential(x.detach()), rtol=1e-13, atol=1e-13)


@each
def test_float32_follows_the_input(name: str) -> None:
    x = Stream("f32", name).normal((8, TARGETS[name].dim))
    v, s = TARGETS[name].potential_and_score(x.float())
    assert v.dtype == s.dtype == torch.float32
    assert torch.allclose(v.double(), TARGETS[name].potential(x), rtol=1e-3, atol=1e-3)


@each_line
def test_normaliser_and_moments_match_adaptive_quadrature(name: str) -> None:
    target = TARGETS[name]
    lo, hi = (float(e[0]) for e in target.extent())
    top = float(target.potential(torch.linspace(lo, hi, 4001, dtype=torch.float64)[:, None]).min())

    def density(x: float) -> float:
        return math.exp(top - float(target.potential(torch.tensor([[x]], dtype=torch.float64))))

    points = np.linspace(lo, hi, 41)
    total = [sum(integrate.quad(lambda x, p=p: x**p * density(x), a, b)[0] for a, b in itertools.pairwise(points)) for p in (0, 1, 2)]
    assert target.log_normalizer is not None and target.moments is not None
    assert abs(np.log(total[0]) - top - target.log_normalizer) < 1e-10
    mean = total[1] / total[0]
    assert abs(mean - float(target.moments[0][0])) < 1e-10
    assert abs(total[2] / total[0] - mean**2 - float(target.moments[1][0, 0])) < 1e-9


def test_a_plane_mixture_is_normalised() -> None:
    target = TARGETS["mixture"]
    mesh = Mesh(tuple(target.extent()[0]), tuple(target.extent()[1]), 201)
    density = np.exp(-target.potential(torch.as_tensor(mesh.nodes)).numpy())
    assert abs(density.sum() * mesh.cell - 1.0) < 1e-12
    assert target.moments is not None
    mean = density @ mesh.nodes * mesh.cell
    assert np.abs(mean - target.moments[0].numpy()).max() < 1e-12
    centred = mesh.nodes - mean
    assert np.abs((centred * density[:, None]).T @ centred * mesh.cell - target.moments[1].numpy()).max() < 1e-11


@pytest.mark.parametrize("name", DRAWN)
def test_exact_draws_follow_the_density(name: str) -> None:
    """Kolmogorov-Smirnov on two projections' exact ranks: 20,000 draws, false alarm 1e-6 a test."""
    target = TARGETS[name]
    x = target.sample(20_000, Stream("draws", name))
    assert x.shape == (20_000, target.dim)
    if target.dim == 1:
        lo, hi = (float(e[0]) for e in target.extent())
        grid = np.linspace(lo, hi, 20_001)
        density = np.exp(-target.potential(torch.as_tensor(grid[:, None])).numpy())
        cdf = integrate.cumulative_simpson(density, x=grid, initial=0.0)
        u = np.interp(x[:, 0].numpy(), grid, cdf / cdf[-1])
        assert stats.kstest(u, "uniform").pvalue > 1e-6
        return
    assert target.moments is not None
    mean, cov = (m.numpy() for m in target.moments)
    # 5.7 standard errors: two-sided 1e-8 a coordinate
    assert (np.abs(x.numpy().mean(0) - mean) < 5.7 * np.sqrt(np.diag(cov) / 20_000)).all()
    if target.is_gaussian:
        z = np.linalg.solve(np.linalg.cholesky(cov), (x.numpy() - mean).T)
        assert stats.kstest((z**2).sum(0), stats.chi2(target.dim).cdf).pvalue > 1e-6
    else:
        u = x.numpy() @ np.array([0.6, 0.8])
        w, m, s = (
            target.weights.numpy(),
            target.means.numpy() @ [0.6, 0.8],
            np.sqrt(np.einsum("i,kij,j->k", [0.6, 0.8], target.covs.numpy(), [0.6, 0.8])),
        )  # type: ignore[attr-defined]
        assert stats.kstest(u, lambda t: (w * stats.norm.cdf(t[:, None], m, s)).sum(1)).pvalue > 1e-6


@pytest.mark.parametrize("name", ["gaussian", "ar1", "mixture", "modes"])
def test_restricted_gaussian_draws_have_the_exact_mean_of_the_density(name: str) -> None:
    """exp(-V(x) - |x-y|^2/2v) by importance weights over exact draws would be noisy; its score identity is not:
    E[(x - y)/v - score(x)] = 0 under the restricted density, at 5.7 standard errors."""
    target, v = TARGETS[name], 0.3
    y = Stream("rg", name).normal((1, target.dim)).expand(40_000, -1)
    x = target.restricted_gaussian(y, v, Stream("rg draws", name))
    field = (x - y) / v - target.score(x)
    error = field.std(0) / 200.0
    assert bool((field.mean(0).abs() < 5.7 * error).all())
    # and a second identity, which a wrong variance would break: E[(x - c) field] = 1 per coordinate, c any constant
    product = (x - y) * field
    assert bool(((product.mean(0) - 1.0).abs() < 5.7 * product.std(0) / 200.0).all())


@each_line
def test_smoothness_constants_bound_the_second_derivative(name: str) -> None:
    target = TARGETS[name]
    lo, hi = (float(e[0]) for e in target.extent())
    x = torch.linspace(lo, hi, 20_001, dtype=torch.float64)[:, None]
    h = 1e-4
    curvature = -(target.score(x + h) - target.score(x - h))[:, 0] / (2 * h)
    m, big = target.constant("m"), target.constant("M")
    assert m is not None and float(curvature.min()) >= m - 1e-5
    if big is not None:
        assert float(curvature.abs().max()) <= big + 1e-5


@each_line
def test_poincare_constant_matches_an_independent_finite_volume_generator(name: str) -> None:
    """Second order in the spacing: Richardson from two meshes meets the spectral value."""
    target = TARGETS[name]
    lo, hi = (float(e[0]) for e in target.extent())
    gaps = []
    for n in (1001, 2001):
        mesh = Mesh((lo,), (hi,), n)
        gaps.append(gap_of_density(-target.potential(torch.as_tensor(mesh.nodes)).numpy(), mesh.cell))
    best = gaps[1] + (gaps[1] - gaps[0]) / ((2001 / 1001) ** 2 - 1)
    declared = target.constant("poincare")
    assert declared is not None
    if name == "hyperbolic":  # continuous spectrum from 1/4 on: a finite box lies above, and falls as it grows
        assert declared < best and declared <= 0.25
    else:
        assert abs(best - declared) < 2e-6 * max(declared, 1e-3)


def test_hyperbolic_gap_falls_towards_its_bound_as_the_box_grows() -> None:
    target = TARGETS["hyperbolic"]
    gaps = [float(spectrum(target, Mesh((-r,), (r,), n)).rates[1]) for r, n in ((25.0, 401), (50.0, 601), (100.0, 1201))]
    assert gaps[0] > gaps[1] > gaps[2] > poincare_lower_bound(20.0) > 0.2


def test_two_modes_gap_has_a_closed_form_limit_and_finite_volume_is_reversible() -> None:
    one = GaussianMixture.two_modes(0.0)  # N(0, 1)
    assert abs(one.constant("poincare") - 1.0) < 1e-9  # type: ignore[operator]
    mesh = Mesh((-6.0,), (6.0,), 301)
    logs = -TARGETS["skew"].potential(torch.as_tensor(mesh.nodes)).numpy()
    diagonal, off = finite_volume(logs, mesh.cell)
    root = np.exp(logs / 2)
    image = diagonal * root
    image[:-1] += off * root[1:]
    image[1:] += off * root[:-1]
    assert np.abs(image).max() < 1e-11 * np.abs(diagonal * root).max()


@each_line
def test_log_sobolev_bounds_do_not_exceed_the_poincare_constant(name: str) -> None:
    """LSI(alpha) implies PI(alpha): a declared lower bound above the gap would be wrong."""
    lsi, poincare = TARGETS[name].constant("lsi"), TARGETS[name].constant("poincare")
    assert poincare is not None
    assert lsi is None or lsi <= poincare + 1e-12


def test_ids_name_the_density_not_the_spelling() -> None:
    assert Gaussian.isotropic(3).id == Gaussian([0, 0, 0], 1.0).id == Gaussian([0.0, -0.0, 0.0], [1, 1, 1]).id
    assert Gaussian.isotropic(3).id != Gaussian.isotropic(3, variance=1.0 + 1e-12).id
    assert GaussianMixture([1, 1], [[-1], [1]], 1.0).id == GaussianMixture.two_modes(2.0).id
    assert SkewLogistic(3.0).id != SkewLogistic(3.5).id


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]]), "positive definite, its smallest eigenvalue is -1"),
        (lambda: Gaussian([0.0, 0.0], [[1.0, 0.2], [0.3, 1.0]]), "symmetric"),
        (lambda: Gaussian([0.0, 0.0], [[1.0]]), "2 x 2"),
        (lambda: Gaussian([float("nan")], 1.0), "finite"),
        (lambda: Gaussian.ill_conditioned(3, 0.5), "condition"),
        (lambda: Gaussian.ar1(3, 1.0), "rho"),
        (lambda: Gaussian.isotropic(0), "dim"),
        (lambda: GaussianMixture([1.0, -1.0], [[0.0], [1.0]], 1.0), "weights"),
        (lambda: GaussianMixture([1.0, 1.0], [[0.0]], 1.0), "means"),
        (lambda: GaussianMixture([1.0, 1.0], [[0.0], [1.0]], [1.0, -1.0]), "positive definite"),
        (lambda: GaussianMixture([1.0, 1.0], [[0.0], [1.0]], [1.0, 1.0, 1.0]), "covs"),
        (lambda: GaussianMixture.two_modes(-1.0), "separation"),
        (lambda: SkewLogistic(a=-1.0), "a > 0"),
        (lambda: LogisticRegression([[1.0, 2.0]], [1, 0]), "1 numbers, one per row"),
        (lambda: LogisticRegression([[1.0], [2.0]], [1, 0.5]), "0 or 1"),
        (lambda: LogisticRegression([1.0, 2.0], [1, 0]), "finite matrix"),
        (lambda: LogisticRegression([[float("inf")]], [1]), "finite matrix"),
        (lambda: LogisticRegression([[1.0], [2.0, 3.0]], [1, 0]), "arrays of numbers"),
        (lambda: LogisticRegression([[1.0]], [1], prior_variance=0.0), "prior_variance"),
        (lambda: LogisticRegression.generated(0, 5), "dim >= 1"),
        (lambda: LogisticRegression.generated(2, 5, prior_variance=-1.0), "prior_variance"),
        (lambda: Mesh((0.0,), (1.0,), 10), "odd"),
        (lambda: Mesh((1.0,), (0.0,), 11), "lo < hi"),
    ],
)
def test_bad_parameters_get_one_line(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput) as caught:
        make()
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("target", [DoubleWell(), Quartic()], ids=lambda t: t.name)
def test_the_searched_holley_stroock_bound_meets_the_closed_form_from_below(target: Target) -> None:
    closed, found = target.constant("lsi"), holley_stroock(target, 0.0).value
    assert closed is not None
    assert closed * (1 - 1e-3) < found < closed


def log_posterior(target: LogisticRegression, x: np.ndarray) -> np.ndarray:
    """Prior times likelihood, term by term from scipy: how the density is defined, and not how it is coded."""
    z, y = x @ target.features.numpy().T, target.labels.numpy()
    likelihood = np.where(y == 1, special.log_expit(z), special.log_expit(-z)).sum(1)
    return likelihood + stats.norm(0.0, target.prior_variance**0.5).logpdf(x).sum(1)


def posteriors() -> dict[str, LogisticRegression]:
    """The target and the bugs that could be made in it."""
    right = LogisticRegression.generated(4, 60, seed=5, prior_variance=2.0)
    return {
        "right": right,
        "labels flipped": LogisticRegression(right.features, 1 - right.labels, 2.0),
        "standard deviation for variance": LogisticRegression(right.features, right.labels, 2.0**0.5),
        "a row lost": LogisticRegression(right.features[:-1], right.labels[:-1], 2.0),
    }


@pytest.mark.parametrize("bug", list(posteriors()))
def test_the_logistic_posterior_is_prior_times_likelihood(bug: str) -> None:
    """Up to a constant, also where the linear predictor reaches 1e4; each planted bug is off by more than 1e-3."""
    target = TARGETS["posterior"]
    assert isinstance(target, LogisticRegression)
    x = Stream("posterior").normal((32, 4))
    x[-4:] *= 1e4
    assert float((x @ target.features.T).abs().max()) > 1e4
    exact = log_posterior(target, x.numpy())
    coded = -posteriors()[bug].potential(x).numpy()
    off = np.abs((coded - coded[0]) - (exact - exact[0])) / (1 + np.abs(exact))
    assert off.max() < 1e-13 if bug == "right" else off.max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_the_logistic_posterior_in_either_layout_and_far_out(dtype: torch.dtype, layout: str) -> None:
    """Far out the potential is a sum of margins: nothing overflows, and both paths and layouts agree to rounding."""
    target = TARGETS["posterior"]
    scale = torch.tensor([1.0, 30.0, 1e3, 1e4], dtype=torch.float64).repeat(8)
    exact = scale[:, None] * Stream("far").normal((32, 4))
    x = exact.to(dtype) if layout == "rows" else exact.T.contiguous().to(dtype).T
    v, s = target.potential_and_score(x)
    assert torch.isfinite(v).all() and torch.isfinite(s).all()
    value, score = target.potential_and_score(exact)
    tolerance = 1e-13 if dtype == torch.float64 else 1e-5
    assert torch.allclose(v.double(), value, rtol=tolerance) and torch.allclose(target.potential(x).double(), value, rtol=tolerance)
    reach = score.abs().amax(1, keepdim=True)
    assert float(((s.double() - score) / reach).abs().max()) < 10 * tolerance
    assert float(((target.score(x).double() - score) / reach).abs().max()) < 10 * tolerance


def test_spectra_of_the_logistic_hessian_lie_between_m_and_M_and_reach_both() -> None:
    """By differentiating the score: nothing here knows the weights of the closed form."""
    target = TARGETS["posterior"]
    m, big = target.constant("m"), target.constant("M")
    assert m is not None and big is not None and m == 0.5

    def spectrum_at(x: torch.Tensor) -> torch.Tensor:
        jacobian = torch.autograd.functional.jacobian(lambda y: -target.score(y[None])[0], x)
        assert torch.allclose(jacobian, jacobian.T, atol=1e-12)
        return torch.linalg.eigvalsh(jacobian)

    draws = Stream("hessian").normal((64, 4)) * torch.logspace(-2, 2, 64, dtype=torch.float64)[:, None]
    found = torch.stack([spectrum_at(x) for x in draws])
    assert float(found.min()) >= m - 1e-12 and float(found.max()) <= big + 1e-12
    assert abs(float(spectrum_at(torch.zeros(4, dtype=torch.float64))[-1]) - big) < 1e-12 * big
    assert abs(float(spectrum_at(1e4 * draws[0] / draws[0].norm())[0]) - m) < 1e-12
    # a halved Gram matrix, or a prior left out, would be seen
    assert float(found.max()) > 0.5 * (big + m) and float(found.min()) < 2 * m
    assert target.constant("lsi") == target.constant("poincare") == m


def test_generated_posteriors_are_functions_of_their_arguments() -> None:
    first, again = LogisticRegression.generated(3, 50, seed=1), LogisticRegression.generated(3, 50, seed=1)
    assert first.id == again.id != LogisticRegression.generated(3, 50, seed=2).id
    assert first.features.shape == (50, 3) and set(first.labels.tolist()) == {0.0, 1.0}
    # the labels follow the weights: at the fit, the likelihood beats that of no weights by more than chance would
    many = LogisticRegression.generated(2, 20_000, seed=3, prior_variance=4.0)
    x = torch.zeros((1, 2), dtype=torch.float64)
    for _ in range(50):
        x = x + many.score(x) / many.constant("M")
    assert float(many.potential(torch.zeros_like(x)) - many.potential(x)) > 100.0
