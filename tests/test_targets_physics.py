"""Targets of physics and statistics: densities by other routes, exact laws of the draws, constants against spectra, planted bugs."""

from __future__ import annotations

import itertools
import math
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import linalg, optimize, special, stats

from mixrate.errors import InvalidInput, Unsupported
from mixrate.samplers.noise import Stream
from mixrate.targets.base import Batch, Target, Values
from mixrate.targets.chain import Chain, reach
from mixrate.targets.dw4 import DW4
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.ginzburg_landau import GinzburgLandau
from mixrate.targets.inverse import positions
from mixrate.targets.lattice import log_sobolev
from mixrate.targets.lennard_jones import LennardJones
from mixrate.targets.log_gaussian_cox import LogGaussianCox
from mixrate.targets.logistic_regression import LogisticRegression
from mixrate.targets.mueller_brown import MuellerBrown
from mixrate.targets.pairs import Pairs
from mixrate.targets.phi4 import Phi4
from mixrate.targets.plane import Plane
from mixrate.targets.plane_gap import generator_gap

TARGETS: dict[str, Target] = {
    "mueller_brown": MuellerBrown(),
    "modified": MuellerBrown.modified(),
    "dw4": DW4(a=0.3),
    "lj13": LennardJones(),
    "lj_pair": LennardJones(particles=3, space=2, depth=2.0, distance=1.3, spring=0.4, pair_weight=2.0),
    "phi4": Phi4(dim=7, field=0.3),
    "phi4_one": Phi4(dim=1),
    "ring": GinzburgLandau(side=5, dimension=1),
    "sheet": GinzburgLandau(side=3, dimension=2, tau=0.7),
    "cube": GinzburgLandau(side=2, dimension=3),
    "cox": LogGaussianCox(side=4),
    "iris": LogisticRegression.dataset("iris"),
}
#: Scales of the points at which scores are compared: the bulk and far out, where each potential is still finite in float64.
FAR = {"mueller_brown": 8.0, "modified": 30.0, "cox": 50.0}
each = pytest.mark.parametrize("name", list(TARGETS))


def points(name: str, scale: float) -> torch.Tensor:
    return scale * Stream("points", name, scale).normal((64, TARGETS[name].dim))


@each
def test_score_is_the_gradient_also_far_out(name: str) -> None:
    target = TARGETS[name]
    for scale in (0.1, 1.0, FAR.get(name, 1e3)):
        x = points(name, scale).requires_grad_(True)
        value = target.potential(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        v, s = target.potential_and_score(x.detach())
        size = gradient.abs().amax(1, keepdim=True)
        assert torch.isfinite(gradient).all() and torch.isfinite(value).all()
        assert float(((s + gradient) / size).abs().max()) < 1e-12
        assert torch.equal(target.score(x.detach()), s) or float(((target.score(x.detach()) - s) / size).abs().max()) < 1e-13
        assert torch.allclose(v, value.detach(), rtol=1e-13, atol=1e-13)


@each
def test_float32_follows_the_input_and_the_hessian_is_the_scores(name: str) -> None:
    target = TARGETS[name]
    x = 0.8 * points(name, 1.0)
    v, s = target.potential_and_score(x.float())
    assert v.dtype == s.dtype == target.potential(x.float()).dtype == torch.float32
    assert torch.allclose(v.double(), target.potential(x), rtol=2e-3, atol=2e-3)
    assert torch.allclose(s.double(), target.score(x), rtol=2e-2, atol=2e-3 * float(s.abs().median()))
    few, h = x[:3], 1e-6
    hessian = target.hessian(few)
    directions = Stream("directions", name).normal(tuple(few.shape))
    change = -(target.score(few + h * directions) - target.score(few - h * directions)) / (2 * h)
    along = torch.einsum("nij,nj->ni", hessian, directions)
    assert float((change - along).abs().max() / along.abs().max()) < 1e-6


@each
def test_a_target_that_has_been_used_goes_into_other_processes(name: str) -> None:
    target = TARGETS[name]
    _ = target.log_normalizer, target.moments, dict(target.constants) if target.dim > 2 else None
    again = pickle.loads(pickle.dumps(target))
    assert again == target and torch.equal(again.potential(points(name, 1.0)), target.potential(points(name, 1.0)))


# Draws by inverse distribution functions


def test_positions_invert_the_distribution_function() -> None:
    """Eight nodes a standard deviation give 1e-9, one law for all draws or one a row; linear interpolation would give 1e-3."""
    x, u = np.linspace(-10.0, 10.0, 161), Stream("u").uniform((4000,)).numpy()
    centre = np.linspace(-1.0, 1.0, 4000)
    step = x[1] - x[0]
    one = x[0] + step * positions(np.exp(-(x**2) / 2), u)
    rows = x[0] + step * positions(np.exp(-((x - centre[:, None]) ** 2) / 2), u)
    assert np.abs(special.ndtr(one) - u).max() < 1e-9
    assert np.abs(special.ndtr(rows - centre) - u).max() < 1e-9
    p = stats.norm.pdf(x)
    linear = np.interp(u, np.cumsum(p) * step - p * step / 2, x)
    assert np.abs(special.ndtr(linear) - u).max() > 1e-5
    ends = x[0] + step * positions(np.exp(-(x**2) / 2), np.array([1e-12, 1 - 1e-12]))
    assert np.abs(np.abs(ends) - 7.03).max() < 0.05


# The plane


@dataclass(frozen=True, eq=False)
class Tilted(Plane):
    """A correlated Gaussian off the origin: everything is known."""

    rho: float = 0.95

    def potential(self, x: Batch) -> Values:
        a, b = (x[:, 0] - 3.0) / 0.5, (x[:, 1] + 20.0) / 2.0
        return (a * a - 2 * self.rho * a * b + b * b) / (2 * (1 - self.rho**2))


@pytest.mark.parametrize("rise", [0.75, 0.37])
def test_a_narrow_ridge_of_any_slope_is_resolved_before_draws_are_made(rise: float) -> None:
    """Fifteen times longer than wide, in a wide cloud that sets the box: a lattice may know Z on meshes that miss the ridge."""
    along = np.array([1.0, rise]) / math.hypot(1.0, rise)
    covs = [0.1**2 * np.eye(2) + (1.5**2 - 0.1**2) * np.outer(along, along), 4.0 * np.eye(2)]
    mixture = GaussianMixture([0.5, 0.5], np.zeros((2, 2)), np.array(covs))

    class Ridge(Plane):
        def potential(self, x: Batch) -> Values:
            return mixture.potential(x)

    x, u = Ridge().sample(500, Stream("ridge")).numpy(), Stream("ridge").uniform((500, 2)).numpy()
    parts = [(math.sqrt(c[0, 0]), c[0, 1] / c[0, 0], math.sqrt(c[1, 1] - c[0, 1] ** 2 / c[0, 0])) for c in covs]
    assert np.abs(sum(special.ndtr(x[:, 0] / s) for s, _, _ in parts) / 2 - u[:, 0]).max() < 1e-8
    weights = np.array([stats.norm.pdf(x[:, 0], 0.0, s) for s, _, _ in parts])
    given = np.array([special.ndtr((x[:, 1] - slope * x[:, 0]) / s) for _, slope, s in parts])
    assert np.abs((weights * given).sum(0) / weights.sum(0) - u[:, 1]).max() < 1e-8


def test_a_gaussian_in_the_plane_by_quadrature_and_its_draws_to_1e_8() -> None:
    target, rho = Tilted(), 0.95
    assert abs(target.log_normalizer - math.log(2 * math.pi * math.sqrt(1 - rho**2))) < 1e-11
    mean, cov = target.moments
    assert torch.allclose(mean, torch.tensor([3.0, -20.0], dtype=torch.float64), atol=1e-10)
    assert torch.allclose(cov, torch.tensor([[0.25, 0.95], [0.95, 4.0]], dtype=torch.float64), atol=1e-10)
    lo, hi = target.extent()
    reach_of = np.sqrt(90.0) * np.array([0.5, 2.0])
    assert (lo <= np.array([3.0, -20.0]) - reach_of).all() and (hi >= np.array([3.0, -20.0]) + reach_of).all() and (hi - lo < 2.4 * reach_of).all()
    # the draws undo the noise: both conditional distribution functions return the uniforms
    x, u = target.sample(3000, Stream("plane")).numpy(), Stream("plane").uniform((3000, 2)).numpy()
    a, b = (x[:, 0] - 3.0) / 0.5, (x[:, 1] + 20.0) / 2.0
    assert np.abs(special.ndtr(a) - u[:, 0]).max() < 1e-8
    assert np.abs(special.ndtr((b - rho * a) / math.sqrt(1 - rho**2)) - u[:, 1]).max() < 1e-8
    # planted: x2 from its marginal, not given x1
    assert np.abs(special.ndtr(b) - u[:, 1]).max() > 0.1
    assert target.sample(5, Stream("plane", dtype=torch.float32)).dtype == torch.float32


def gauss(lo: np.ndarray, hi: np.ndarray, panels: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Nodes and weights of composite Gauss-Legendre rules along both axes, 12 nodes a panel."""
    t, w = np.polynomial.legendre.leggauss(12)
    edges = [np.linspace(a, b, panels + 1) for a, b in zip(lo, hi, strict=True)]
    half = [(e[1] - e[0]) / 2 for e in edges]
    return [(e[:-1, None] + h * (t + 1)).ravel() for e, h in zip(edges, half, strict=True)], [np.tile(h * w, panels) for h in half]


@pytest.mark.parametrize("name", ["mueller_brown", "modified"])
def test_mueller_brown_normaliser_moments_and_draws_by_gauss_legendre(name: str) -> None:
    target = TARGETS[name]
    assert isinstance(target, MuellerBrown)
    lo, hi = target.extent()
    axes, weights = gauss(lo, hi, 32)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    p = np.exp(-target.potential(torch.as_tensor(grid.reshape(-1, 2))).numpy().reshape(grid.shape[:2])) * weights[0][:, None] * weights[1]
    assert abs(math.log(p.sum()) - target.log_normalizer) < 1e-11
    assert abs(math.log(p.sum()) - (target.log_normalizer + 1e-3)) > 1e-4
    p /= p.sum()
    mean = np.array([(p * grid[..., k]).sum() for k in (0, 1)])
    centred = grid - mean
    assert np.abs(mean - target.moments[0].numpy()).max() < 1e-11
    assert np.abs(np.einsum("ij,ijk,ijl->kl", p, centred, centred) - target.moments[1].numpy()).max() < 1e-10
    # exact draws: both distribution functions, by Gauss-Legendre rules up to the draws, return the uniforms
    x, u = target.sample(3000, Stream("mb", name)).numpy(), Stream("mb", name).uniform((3000, 2)).numpy()
    assert (np.abs(x.mean(0) - mean) < 5.7 * np.sqrt(np.diag(target.moments[1].numpy()) / 3000)).all()

    def mass(start: list[float], end: list[float], panels: int = 24) -> float:
        """Of a box, or of a line where x1 does not vary."""
        at, w = gauss(np.array(start), np.array(end), panels)
        first, wide = (np.array([start[0]]), np.ones(1)) if start[0] == end[0] else (at[0], w[0])
        box = np.stack(np.meshgrid(first, at[1], indexing="ij"), axis=-1).reshape(-1, 2)
        return float(wide @ np.exp(-target.log_normalizer - target.potential(torch.as_tensor(box)).numpy()).reshape(len(first), -1) @ w[1])

    for (a, b), (p1, p2) in zip(x[:4].tolist(), u[:4].tolist(), strict=True):
        assert abs(mass([lo[0], lo[1]], [a, hi[1]]) - p1) < 1e-8
        assert abs(mass([a, lo[1]], [a, b]) / mass([a, lo[1]], [a, hi[1]]) - p2) < 1e-8


def test_mueller_brown_has_the_stationary_points_of_1979() -> None:
    unit = MuellerBrown(beta=1.0)
    known = [
        (-146.70, -0.558, 1.442, 0),
        (-108.17, 0.623, 0.028, 0),
        (-80.77, -0.050, 0.467, 0),
        (-40.66, -0.822, 0.624, 1),
        (-72.25, 0.212, 0.293, 1),
    ]
    for energy, x, y, index in known:
        root = optimize.root(lambda z: unit.score(torch.as_tensor(z)[None])[0].numpy(), [x, y], tol=1e-12).x
        at = torch.as_tensor(root)[None]
        assert np.abs(root - [x, y]).max() < 6e-4 and abs(float(unit.potential(at)) - energy) < 6e-3
        assert int((torch.linalg.eigvalsh(unit.hessian(at)) < 0).sum()) == index
    # the variant of ZOD-MC, from its published constants, at the origin: x = -0.7, y = 1.3
    modified = MuellerBrown.modified()
    x, y = -0.7, 1.3
    surface = float(unit.potential(torch.tensor([[x, y]], dtype=torch.float64)))
    expected = 0.1 * (surface + 35.0136 * (x + 0.033923) ** 2 + 59.8399 * (y - 0.465694) ** 2)
    assert abs(float(modified.potential(torch.zeros((1, 2), dtype=torch.float64))) - expected) < 1e-12


@pytest.mark.parametrize("name", ["mueller_brown", "modified"])
def test_mueller_brown_curvature_is_nowhere_below_m_and_reaches_it(name: str) -> None:
    target = TARGETS[name]
    assert isinstance(target, MuellerBrown)
    m = target.constant("m")
    assert m is not None
    draws = Stream("curvature").uniform((20_000, 2)) * torch.tensor([6.0, 6.0], dtype=torch.float64) + torch.tensor([-3.5, -2.5], dtype=torch.float64)
    x = draws * target.scale + target.shift
    lowest = float(torch.linalg.eigvalsh(target.hessian(x))[:, 0].min())
    assert m - 1e-9 * abs(m) <= lowest < 0.99 * m


def crude_gap(target: Target, n: int = 161) -> float:
    """Of the other finite-volume scheme on one mesh over the whole box: right to some per cent."""
    lo, hi = target.extent()
    axes = [np.linspace(a, b, n) for a, b in zip(lo, hi, strict=True)]
    v = target.potential(torch.as_tensor(np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=1))).numpy().reshape(n, n)
    return generator_gap(np.where(v - v.min() < 40.0, v, np.inf), np.array([a[1] - a[0] for a in axes]), "arithmetic")


def test_mueller_brown_gap_is_that_of_another_scheme() -> None:
    warm = MuellerBrown(beta=0.05)
    declared = warm.constant("poincare")
    assert declared is not None and abs(crude_gap(warm) / declared - 1) < 0.03


# Clusters


def energy(target: Pairs, x: np.ndarray) -> float:
    """By loops over both orders of each pair."""
    total = 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            if i != j:
                r = math.dist(x[i], x[j])
                if isinstance(target, DW4):
                    d = r - target.offset
                    total += (target.a * d + target.b * d**2 + target.c * d**4) / target.temperature / 2
                elif isinstance(target, LennardJones):
                    q = target.distance / r
                    total += target.pair_weight * target.depth * (q**12 - 2 * q**6) / 2
    if isinstance(target, LennardJones):
        total += target.spring / 2 * float(((x - x.mean(0)) ** 2).sum())
    return total


@pytest.mark.parametrize("name", ["dw4", "lj13", "lj_pair"])
def test_cluster_energies_coordinates_and_symmetries(name: str) -> None:
    target = TARGETS[name]
    assert isinstance(target, Pairs)
    n, space = target.particles, target.space
    x = Stream("cluster", name).normal((16, n, space)) * 1.5
    y = target.coordinates(x)
    assert y.shape == (16, target.dim)
    centred = x - x.mean(1, keepdim=True)
    assert torch.allclose(target.positions(y), centred, atol=1e-13)
    assert torch.allclose(target.coordinates(target.positions(y)), y, atol=1e-13)
    assert torch.allclose((y * y).sum(1), (centred**2).sum((1, 2)), rtol=1e-13)  # an isometry: volumes agree too
    v = target.potential(y)
    loops = np.array([energy(target, p) for p in x.numpy()])
    assert np.abs(v.numpy() / loops - 1).max() < 1e-11
    # rotations with a reflection, translations and permutations leave V as it is
    q, _ = np.linalg.qr(Stream("rotation").normal((space, space)).numpy())
    moved = (x @ torch.as_tensor(q) + 3.0)[:, np.roll(np.arange(n), 1)]
    assert torch.allclose(target.potential(target.coordinates(moved)), v, rtol=1e-11)


def test_dw4_wells_and_conventions() -> None:
    pair = DW4(particles=2, space=1)
    r = np.linspace(0.5, 8.0, 7501)
    v = pair.potential(torch.as_tensor(r[:, None] / math.sqrt(2))).numpy()  # x = (-r/2, r/2): y = -r / sqrt 2
    inner, outer = r[:3500][v[:3500].argmin()], r[3500:][v[3500:].argmin()]
    assert abs(inner - (4 - math.sqrt(4 / 1.8))) < 1e-3 and abs(outer - (4 + math.sqrt(4 / 1.8))) < 1e-3
    assert abs(v.min() + 16 / 3.6) < 1e-5
    one, two = DW4(temperature=1.0), DW4(temperature=2.0)
    x = Stream("dw4").normal((4, 6))
    assert torch.allclose(two.potential(x), one.potential(x) / 2)


def test_lj13_has_the_icosahedron_at_its_known_energy() -> None:
    golden = (1 + math.sqrt(5)) / 2
    corners = [(0.0, s * 1.0, t * golden) for s in (-1, 1) for t in (-1, 1)]
    ball = np.array([np.zeros(3)] + [np.roll(c, k) for c in corners for k in range(3)]) * 0.5
    free = LennardJones(spring=1e-9)
    start = free.coordinates(torch.as_tensor(ball)[None])[0].numpy()

    def both(z: np.ndarray) -> tuple[float, np.ndarray]:
        v, s = free.potential_and_score(torch.as_tensor(z)[None])
        return float(v), -s[0].numpy()

    found = optimize.minimize(both, start, jac=True, method="BFGS", options={"gtol": 1e-7})
    assert abs(found.fun + 44.326801) < 1e-5
    assert float(torch.linalg.eigvalsh(free.hessian(torch.as_tensor(found.x)[None]))[0, 3]) > 1.0  # but for three rotations
    # both orders: twice the pairs, the same spring
    x = torch.as_tensor(found.x)[None]
    spring = 0.5 * (x * x).sum(1)
    once, twice = LennardJones().potential(x), LennardJones.both_orders().potential(x)
    assert torch.allclose(twice - spring, 2 * (once - spring), rtol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("target", [DW4(), LennardJones()], ids=["dw4", "lj13"])
def test_everything_is_finite_where_particles_meet(target: Pairs, dtype: torch.dtype) -> None:
    x = Stream("contact").normal((3, target.particles, target.space)).to(dtype)
    x[0, 1] = x[0, 0]
    x[1, 1:] = x[1, :1]
    x[2, 1] = x[2, 0] + 1e-12
    y = target.coordinates(x).requires_grad_(True)
    (gradient,) = torch.autograd.grad(target.potential(y).sum(), y)
    v, s = target.potential_and_score(y.detach())
    assert torch.isfinite(v).all() and torch.isfinite(s).all() and torch.isfinite(gradient).all()
    assert torch.isfinite(target.potential_and_score(torch.zeros((1, target.dim), dtype=dtype))[1]).all()


# Chains

ENDS: dict[str, str | tuple[float, float]] = {"free": "free", "fixed": (0.3, -0.5), "periodic": "periodic"}


def gaussian_chain(ends: str | tuple[float, float], n: int, c: float) -> tuple[Chain, float, np.ndarray, np.ndarray]:
    """A chain of quadratic sites and bonds, and its log Z, mean and covariance in closed form."""
    k, tilt = 0.7, 0.2
    chain = Chain(lambda x: k / 2 * x**2 + tilt * x, lambda s: c / 2 * s**2, n, -14.0, 14.0, ends)
    precision, linear, constant = k * np.eye(n), np.full(n, -tilt), 0.0
    edges = [(i, i + 1) for i in range(n - 1)] + ([(n - 1, 0)] if ends == "periodic" else [])
    for i, j in edges:
        step = np.eye(n)[i] - np.eye(n)[j]
        precision += c * np.outer(step, step)
    if not isinstance(ends, str):
        for site, end in ((0, ends[0]), (n - 1, ends[1])):
            precision[site, site] += c
            linear[site] += c * end
            constant += c * end**2 / 2
    cov = np.linalg.inv(precision)
    mean = cov @ linear
    return chain, n / 2 * math.log(2 * math.pi) - np.linalg.slogdet(precision)[1] / 2 + linear @ mean / 2 - constant, mean, cov


@pytest.mark.parametrize("stiffness", [0.5, 2.3, 40.0])
@pytest.mark.parametrize("ends", list(ENDS))
@pytest.mark.parametrize("n", [1, 2, 6])
def test_a_gaussian_chain_by_its_transfer_operator(ends: str, n: int, stiffness: float) -> None:
    chain, log_z, mean, cov = gaussian_chain(ENDS[ends], n, stiffness)
    assert abs(chain.log_normalizer - log_z) < 1e-11 * max(1.0, abs(log_z))
    assert np.abs(chain.mean - mean).max() < 1e-11 and np.abs(chain.cov - cov).max() < 1e-10
    if ends == "periodic":
        with pytest.raises(Unsupported, match="no exact sampler"):
            chain.sample(2, Stream("periodic"))
        return
    # the draws undo the noise: each conditional distribution function returns its uniform
    x, u = chain.sample(1000, Stream("chain")).numpy(), Stream("chain").uniform((1000, n)).numpy()
    z = linalg.solve_triangular(np.linalg.cholesky(cov), (x - mean).T, lower=True).T
    assert np.abs(special.ndtr(z) - u).max() < 1e-8
    # planted: a chain that forgets its right end is another law
    if ends == "fixed" and n > 1:
        other = Chain(chain.site, chain.bond, n, -14.0, 14.0, (0.3, 3.0)).sample(1000, Stream("chain")).numpy()
        assert np.abs(special.ndtr(linalg.solve_triangular(np.linalg.cholesky(cov), (other - mean).T, lower=True).T) - u).max() > 0.1


def test_chains_say_what_they_cannot_do() -> None:
    with pytest.raises(Unsupported, match="mass at the ends"):
        _ = Chain(lambda x: x**2 / 2, lambda s: s**2 / 2, 3, -2.0, 2.0, "free").log_normalizer
    with pytest.raises(Unsupported, match="not resolved"):
        _ = Chain(lambda x: x**2 / 2, lambda s: 1e9 * s**2, 3, -10.0, 10.0, "free").log_normalizer
    with pytest.raises(Unsupported, match="confine"):
        reach(lambda x: 0.0 * x, 45.0)
    lo, hi = reach(lambda x: (x - 3.0) ** 2, 45.0)
    assert lo <= 3 - math.sqrt(45.0) < lo + 0.02 and hi - 0.02 < 3 + math.sqrt(45.0) <= hi


CHAINS: dict[str, Target] = {
    "phi4_one": Phi4(dim=1),
    "phi4_two": Phi4(dim=2, coupling=0.7, field=0.3),
    "phi4_three": Phi4(dim=3, coupling=0.5, field=-0.2, beta=5.0),
    "ring_two": GinzburgLandau(side=2, dimension=1),
    "ring_three": GinzburgLandau(side=3, dimension=1, alpha=1.0),
}


@pytest.mark.parametrize("name", list(CHAINS))
def test_short_chains_against_quadrature_in_all_their_dimensions(name: str) -> None:
    """The whole density on a product mesh: nothing here knows that it is a chain."""
    target = CHAINS[name]
    lo, hi = target.extent()
    n, d = {1: 801, 2: 401, 3: 101}[target.dim], target.dim
    axes = [np.linspace(a, b, n) for a, b in zip(lo, hi, strict=True)]
    nodes = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=1)
    p = np.exp(-target.potential(torch.as_tensor(nodes)).numpy())
    cell = float(np.prod([a[1] - a[0] for a in axes]))
    assert target.log_normalizer is not None and target.moments is not None
    assert abs(math.log(p.sum() * cell) - target.log_normalizer) < 1e-10
    assert abs(math.log(p.sum() * cell) - (target.log_normalizer - 1e-3)) > 1e-4
    p /= p.sum()
    mean = p @ nodes
    assert np.abs(mean - target.moments[0].numpy()).max() < 1e-9
    assert np.abs((nodes - mean).T @ ((nodes - mean) * p[:, None]) - target.moments[1].numpy()).max() < 1e-9
    if "sample" not in target.capabilities:
        return
    x = target.sample(20_000, Stream("short", name)).numpy()
    for k in {0, d - 1}:
        marginal = p.reshape((n,) * d).sum(tuple(j for j in range(d) if j != k))
        at = np.interp(x[:, k], axes[k], np.cumsum(marginal) - marginal / 2)
        assert stats.kstest(at, "uniform").pvalue > 1e-6
    if d > 1:
        product = (x[:, 0] - mean[0]) * (x[:, -1] - mean[-1])
        assert abs(product.mean() - float(target.moments[1][0, -1])) < 5.7 * product.std() / math.sqrt(20_000)


def test_the_phi4_chain_of_the_paper() -> None:
    """N = 100: draws satisfy E[x . grad V] = N, their moments are the declared ones, and two modes share the mass."""
    target = Phi4()
    x = target.sample(1500, Stream("phi4"))
    virial = -(x * target.score(x)).sum(1)
    assert abs(float(virial.mean()) - 100.0) < 5.7 * float(virial.std()) / math.sqrt(1500)
    mean, cov = target.moments
    assert float(mean.abs().max()) < 1e-11
    second = x[:, [0, 49, 98]] ** 2
    assert bool(((second.mean(0) - cov.diagonal()[[0, 49, 98]]).abs() < 5.7 * second.std(0) / math.sqrt(1500)).all())
    assert abs(float((x[:, 50] > 0).double().mean()) - 0.5) < 5.7 * 0.5 / math.sqrt(1500)
    # the energy as the public code writes it, with loops
    for row in x[:2].tolist():
        field = [0.0, *row, 0.0]
        bends = sum((b - a) ** 2 / 2 for a, b in itertools.pairwise(field)) * 0.1 * 100
        wells = sum((1 - a * a) ** 2 / 4 for a in row) / (0.1 * 100)
        assert abs(20 * (bends + wells) - float(target.potential(torch.tensor([row], dtype=torch.float64)))) < 1e-9


def test_ginzburg_landau_is_the_energy_of_the_paper_in_each_dimension() -> None:
    for dimension in (1, 2, 3):
        target = GinzburgLandau(side=3, dimension=dimension, tau=1.7, lam=0.6, alpha=0.4)
        x = Stream("lattice", dimension).normal((2, target.dim))
        for row, value in zip(x.numpy(), target.potential(x).tolist(), strict=True):
            y, total = row.reshape((3,) * dimension), 0.0
            for site in np.ndindex(y.shape):
                total += (1 - 1.7) / 2 * y[site] ** 2 + 1.7 * 0.6 / 4 * y[site] ** 4
                for axis in range(dimension):
                    ahead = tuple((s + (k == axis)) % 3 for k, s in enumerate(site))
                    total += 1.7 * 0.4 / 2 * (y[ahead] - y[site]) ** 2
            assert abs(total - value) < 1e-11
    assert GinzburgLandau().dim == 1000 and GinzburgLandau().log_normalizer is None and GinzburgLandau().moments is None


@pytest.mark.parametrize("name", ["phi4", "phi4_one", "ring", "sheet", "cube", "cox"])
def test_no_hessian_has_an_eigenvalue_below_m_and_one_comes_as_close_as_stated(name: str) -> None:
    target = TARGETS[name]
    m = target.constant("m")
    assert m is not None
    x = points(name, 1.0) * torch.logspace(-2, 1, 64, dtype=torch.float64)[:, None]
    spectra = torch.linalg.eigvalsh(target.hessian(x))
    assert float(spectra.min()) >= m - 1e-9 * max(1.0, abs(m))
    lowest = torch.full((1, target.dim), -60.0 if name == "cox" else 0.0, dtype=torch.float64)
    assert abs(float(torch.linalg.eigvalsh(target.hessian(lowest)).min()) - m) < 1e-10 * max(1.0, abs(m))
    # an m that is too large is caught there
    assert float(torch.linalg.eigvalsh(target.hessian(lowest)).min()) < m + 1e-4 * abs(m)


def test_log_sobolev_bounds_of_lattices_stay_below_the_gaps() -> None:
    """In the plane the spectral gap is known; the bound by sites, the one for all sites at once, and one site alone."""
    for target in (GinzburgLandau(side=2, dimension=1), GinzburgLandau(side=2, dimension=1, alpha=2.0), Phi4(dim=2, coupling=1.5, beta=3.0)):
        lsi, gap = target.constant("lsi"), crude_gap(target)
        assert lsi is not None and 0 < lsi <= gap
        assert lsi > 0.02 * gap  # and is not useless there
    # a convex site: never worse than Bakry-Emery
    assert log_sobolev(0.5, 1.0, 5).value >= 0.5 and log_sobolev(0.5, 1.0, 5, stiffness=0.3).value >= 0.8
    # (x^2 - 1)^2 has k = 4, h = -4: the closed form of the double well
    c = math.sqrt(12.0) - 2.0
    assert abs(log_sobolev(-4.0, 4.0, 1).value - c * math.exp(-((c + 4) ** 2) / 16)) < 1e-15
    assert "Otto" in GinzburgLandau(side=10, dimension=1).constants["lsi"].why


# Log-Gaussian Cox


def test_the_cox_posterior_is_prior_times_likelihood() -> None:
    target = LogGaussianCox(side=4, seed=3)
    x = Stream("cox").normal((12, 16)) + target.mean
    prior = stats.multivariate_normal(np.full(16, math.log(126) - 1.91 / 2), target.covariance.numpy()).logpdf(x.numpy())
    likelihood = stats.poisson(np.exp(x.numpy()) / 16).logpmf(target.counts.numpy()).sum(1)
    off = -target.potential(x).numpy() - prior - likelihood
    assert np.ptp(off) < 1e-10
    # neighbours in a row, 1/4 apart, and across the square
    assert abs(float(target.covariance[0, 1]) - 1.91 * math.exp(-33 / 4)) < 1e-15
    assert abs(float(target.covariance[0, 15]) - 1.91 * math.exp(-33 * math.sqrt(2) * 3 / 4)) < 1e-15
    assert abs(float(target.covariance[3, 4]) - 1.91 * math.exp(-33 * math.sqrt(10) / 4)) < 1e-15
    assert torch.allclose(target.precision @ target.covariance, torch.eye(16, dtype=torch.float64), atol=1e-12)


def test_cox_data_follow_the_model_and_the_seed() -> None:
    first, other = LogGaussianCox(side=4), LogGaussianCox(side=4, seed=1)
    assert torch.equal(first.counts, LogGaussianCox(side=4).counts) and not torch.equal(first.counts, other.counts) and first.id != other.id
    totals = np.array([float(LogGaussianCox(side=4, seed=k).counts.sum()) for k in range(400)])
    assert abs(totals.mean() - 126.0) < 5.7 * totals.std() / 20.0


# Data sets of scikit-learn


@pytest.mark.parametrize(
    ("name", "rows", "dim", "ones", "separated"), [("breast_cancer", 569, 31, 357, True), ("iris", 100, 5, 50, False), ("wine", 130, 14, 71, True)]
)
def test_data_sets_and_whether_they_have_a_posterior_without_a_prior(name: str, rows: int, dim: int, ones: int, separated: bool) -> None:
    target = LogisticRegression.dataset(name, prior_variance=4.0)
    assert target.features.shape == (rows, dim) and int(target.labels.sum()) == ones and target.prior_variance == 4.0
    assert bool((target.features[:, -1] == 1).all())
    features = target.features[:, :-1]
    assert float(features.mean(0).abs().max()) < 1e-12 and float((features.square().mean(0) - 1).abs().max()) < 1e-12
    signed = ((2 * target.labels - 1)[:, None] * target.features).numpy()
    plane = optimize.linprog(np.zeros(dim), A_ub=-signed, b_ub=-np.ones(rows), bounds=(None, None))
    assert (plane.status == 0) == separated
    if separated:  # the likelihood alone rises to 1 along this ray
        assert (signed @ plane.x > 0.99).all()
        far = 1e3 * torch.as_tensor(plane.x)[None]
        assert float(target.potential(far) - (far * far).sum() / 8) < 1e-6
    assert target.constant("m") == 0.25


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MuellerBrown(beta=0.0), "beta must be a positive"),
        (lambda: MuellerBrown(scale=-1.0), "scale must be a positive"),
        (lambda: MuellerBrown(confinement=-1.0), "confinement must be"),
        (lambda: MuellerBrown(shift=(1.0,)), "two numbers, got 1"),
        (lambda: DW4(c=0.0), "c must be a positive"),
        (lambda: DW4(temperature=float("nan")), "temperature must be a positive"),
        (lambda: DW4(particles=1), "particles >= 2"),
        (lambda: LennardJones(spring=0.0), "spring must be a positive"),
        (lambda: LennardJones(space=0), "space >= 1"),
        (lambda: LennardJones(pair_weight=-1.0), "pair_weight must be a positive"),
        (lambda: Phi4(dim=0), "dim must be at least 1"),
        (lambda: Phi4(coupling=0.0), "coupling must be a positive"),
        (lambda: Phi4(field=float("inf")), "field must be a finite"),
        (lambda: GinzburgLandau(side=1), "side must be at least 2"),
        (lambda: GinzburgLandau(dimension=4), "dimension must be 1, 2 or 3"),
        (lambda: GinzburgLandau(tau=-1.0), "tau must be a positive"),
        (lambda: LogGaussianCox(side=0), "side >= 1"),
        (lambda: LogGaussianCox(seed=-1), "seed >= 0"),
        (lambda: LogGaussianCox(variance=0.0), "variance must be a positive"),
        (lambda: LogisticRegression.dataset("digits"), "one of breast_cancer, iris, wine, got 'digits'"),
        (lambda: LogisticRegression.dataset("iris", prior_variance=0.0), "prior_variance"),
    ],
)
def test_bad_parameters_get_one_line(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput) as caught:
        make()
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("cls", [MuellerBrown, DW4, LennardJones, Phi4, GinzburgLandau, LogGaussianCox, LogisticRegression])
def test_examples_can_be_made(cls: type[Target]) -> None:
    for method, parameters in cls.examples:
        target = getattr(cls, method)(**parameters) if method else cls(**parameters)
        x = Stream("example").normal((2, target.dim))
        assert torch.isfinite(target.potential(x)).all()
