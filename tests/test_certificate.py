"""Certificates: right targets pass, and every kind of finding fails on a planted fault."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mixrate.errors import Unsupported
from mixrate.samplers.noise import Noise, Stream
from mixrate.samplers.ula import ULA
from mixrate.targets.base import Batch, Constant, Split, Target, Values
from mixrate.targets.double_well import DoubleWell
from mixrate.targets.funnel import Funnel
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.hyperbolic import Hyperbolic
from mixrate.targets.log_gaussian_cox import LogGaussianCox
from mixrate.targets.many_well import ManyWell
from mixrate.targets.multi_well import MultiWell
from mixrate.targets.quartic import Quartic
from mixrate.targets.shells import Shells
from mixrate.targets.skew_logistic import SkewLogistic
from mixrate.targets.student_t import StudentT
from mixrate.targets.user_potential import user_potential
from mixrate.theory.base import Case
from mixrate.theory.certificate import curvature, draws, gradients, inequalities, moments, normaliser, quotients, smoothing
from mixrate.theory.certificate.base import Certificate, Check, Effort, Subject, kolmogorov, two_sample, uniform
from mixrate.theory.certificate.certify import certify, objections
from mixrate.theory.certificate.quadrature import line, line_of, plane_of, radius_of
from mixrate.theory.certificate.reference import Reference
from mixrate.theory.ula_w2 import ULAW2DMM

#: Enough for every planted fault here, and quick.
EFFORT = Effort(draws=10_000, starts=64, climb=60, times=(0.2,), deep=True)

PAIR = GaussianMixture([1.0, 2.0], [[-1.5, 0.5], [1.0, -1.0]], [[[1.0, 0.3], [0.3, 0.5]], [0.4, 0.8]])


@dataclass(frozen=True, eq=False)
class Planted(Target):
    """Another target with one fault."""

    inner: Target
    fault: str

    @property
    def dim(self) -> int:
        return self.inner.dim

    def potential(self, x: Batch) -> Values:
        v = self.inner.potential(x)
        return v.double() if self.fault == "dtype" else v

    def score(self, x: Batch) -> Batch:
        s = self.inner.score(x)
        if self.fault == "score":
            s = s * torch.where(torch.arange(self.dim) == self.dim - 1, 1.0 + 1e-6, 1.0)
        if self.fault == "raises":
            raise RuntimeError("no\nscore")
        return s

    def potential_and_score(self, x: Batch) -> tuple[Values, Batch]:
        if self.fault == "batch":
            return self.inner.potential(x) - x.mean(), self.score(x)
        return self.potential(x), self.score(x)

    @property
    def constants(self) -> Mapping[str, Constant]:
        found = dict(self.inner.constants.items())
        name, _, change = self.fault.partition(" ")
        if name in found:
            found[name] = Constant(found[name].value + float(change), found[name].how, "planted")
        return found

    @property
    def log_normalizer(self) -> float | None:
        exact = self.inner.log_normalizer
        if self.fault == "log Z inf":
            return math.inf
        return exact if exact is None or self.fault != "log Z" else exact + 1e-3

    @property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        found = self.inner.moments
        if found is None or not self.fault.startswith("moments"):
            return found
        return (found[0] + 0.1, found[1]) if self.fault == "moments mean" else (found[0], 1.1 * found[1])

    @property
    def split(self) -> Split | None:
        return self.inner.split if self.fault != "split" else Split(None, (SkewLogistic(), SkewLogistic(2.0)))

    @property
    def is_gaussian(self) -> bool:
        return self.inner.is_gaussian

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        return self.inner.extent()

    def sample(self, n: int, noise: Noise) -> Batch:
        x = self.inner.sample(n, noise)
        if self.fault == "cut draws":  # the top hundredth of the first coordinate is missing
            top = x[:, 0] > x[:, 0].quantile(0.99)
            return torch.where(top.unsqueeze(1), x[torch.argsort(x[:, 0])[: len(x) // 2]].repeat(2, 1)[: len(x)], x)
        if self.fault == "shifted draws":
            return x + 0.1 * x.std(0)
        if self.fault == "wide draws":
            return 1.15 * x
        if self.fault == "joined draws":  # right marginals, wrong joint law: equal coordinates get equal signs
            last = x[:, -1:].abs() * torch.sign(x[:, -3:-2] if self.dim > 2 else x[:, :1])
            return torch.cat([x[:, :-1], last], 1)
        return x

    def diffused(self, scale: float, variance: float) -> Target:
        law = self.inner.diffused(scale, variance)
        if self.fault != "noised":
            return law
        return Gaussian(law.mean, self.inner.diffused(scale**2, 1 - scale**4).cov)  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class RingsWithoutJacobian(Shells):
    """Draws the radius from N(R, width^2), as some public code does: the density of the plane has a factor |x| more."""

    def sample(self, n: int, noise: Noise) -> Batch:
        z = noise.normal((n, 3))
        radii = torch.as_tensor(self.radii, dtype=z.dtype)
        k = torch.multinomial(torch.as_tensor(self.weights, dtype=torch.float64), n, True, generator=torch.Generator().manual_seed(0))
        direction = z[:, 1:] / torch.linalg.vector_norm(z[:, 1:], dim=1, keepdim=True)
        return (radii[k] + self.width * z[:, 0]).unsqueeze(1) * direction


@dataclass(frozen=True, eq=False)
class ClippedFunnel(Funnel):
    """Draws whose log-scale is clipped, as in some public code; the density is not."""

    def sample(self, n: int, noise: Noise) -> Batch:
        z = noise.normal((n, self.dim))
        v = (self.variance**0.5 * z[:, :1]).clamp(-3.0, 3.0)
        return torch.cat([v, torch.exp(v / 2) * z[:, 1:]], 1)


@dataclass(frozen=True, eq=False)
class WrongWeights(GaussianMixture):
    """Draws the components with equal weights."""

    def sample(self, n: int, noise: Noise) -> Batch:
        return GaussianMixture([1.0] * len(self.weights), self.means, self.covs).sample(n, noise)


def findings(target: Target, *checks: Check) -> Certificate:
    return certify(target, effort=EFFORT, checks=checks)


def failed(target: Target, *checks: Check) -> set[str]:
    return {f.what for f in findings(target, *checks).of("failed")}


@pytest.mark.parametrize(
    "target",
    [DoubleWell(), Hyperbolic(), PAIR, GaussianMixture.two_modes(4.0, dim=3, weight=0.3), Funnel(3), Shells.rings([1.0, 2.0], 0.2), StudentT(2, 3.0)],
    ids=lambda t: t.name,
)
def test_right_targets_have_no_failed_and_no_open_finding(target: Target) -> None:
    found = certify(target, effort=EFFORT)
    assert found.word == "certified", [f for f in found.findings if f.word in ("failed", "open")]
    assert found.id == target.id and len(found.findings) >= 9
    assert all(f.seconds >= 0 for f in found.findings)
    assert not objections(target)


@pytest.mark.parametrize(
    ("target", "checks", "what"),
    [
        (Planted(PAIR, "score"), (gradients.score,), {"score"}),
        (Planted(Quartic(), "score"), (gradients.score,), {"score"}),
        (Planted(PAIR, "batch"), (gradients.one_pass,), {"one pass"}),
        (Planted(PAIR, "dtype"), (gradients.precision,), {"float32"}),
        # log Z, by every route
        (Planted(Quartic(), "log Z"), (normaliser.log_normalizer,), {"log Z"}),
        (Planted(PAIR, "log Z"), (normaliser.log_normalizer,), {"log Z"}),
        (Planted(ManyWell(6), "log Z"), (normaliser.log_normalizer,), {"log Z"}),
        (Planted(Shells(5, [2.0], 0.4), "log Z"), (normaliser.log_normalizer,), {"log Z"}),
        (Planted(Gaussian.isotropic(40, 0.3, 1.0), "log Z"), (normaliser.log_normalizer,), {"log Z"}),
        # draws, on the line, in the plane, along the radius, by factors, and in any dimension
        (Planted(SkewLogistic(), "shifted draws"), (draws.distribution,), {"draws"}),
        (Planted(SkewLogistic(), "shifted draws"), (draws.stein,), {"draws: score identity"}),
        (Planted(SkewLogistic(), "cut draws"), (draws.distribution,), {"draws"}),
        (Planted(ManyWell(4), "cut draws"), (draws.distribution,), {"draws"}),
        (Planted(Gaussian.ar1(30, 0.6), "cut draws"), (draws.distribution,), {"draws: coordinates"}),
        (Planted(Gaussian.ar1(30, 0.6), "wide draws"), (draws.distribution,), {"draws: V"}),
        (Planted(SkewLogistic(), "wide draws"), (draws.potential_values,), {"draws: values of V"}),
        (WrongWeights([1.0, 2.0], PAIR.means, PAIR.covs), (draws.distribution,), {"draws: coordinate 1", "draws: coordinate 2", "draws: cells"}),
        (WrongWeights([1.0, 2.0], PAIR.means, PAIR.covs), (draws.ratio,), {"draws: density ratio"}),
        (Planted(Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]]), "joined draws"), (draws.distribution,), {"draws: direction"}),
        (Planted(ManyWell(4), "joined draws"), (draws.distribution,), {"draws: independence"}),
        (RingsWithoutJacobian(2, [1.0], 0.3, [1.0]), (draws.distribution,), {"draws: radius"}),
        (RingsWithoutJacobian(2, [1.0], 0.3, [1.0]), (draws.stein,), {"draws: score identity"}),
        (ClippedFunnel(5), (draws.ratio,), {"draws: density ratio"}),
        (ClippedFunnel(5), (draws.stein,), {"draws: score identity"}),
        (ClippedFunnel(2), (draws.distribution,), {"draws: coordinate 1", "draws: cells"}),
        # moments
        (Planted(SkewLogistic(), "moments mean"), (moments.moments,), {"moments"}),
        (Planted(PAIR, "moments cov"), (moments.moments,), {"moments"}),
        (Planted(Funnel(4, 1.0), "moments mean"), (moments.moments,), {"draws: moments"}),
        (Planted(Funnel(4, 1.0), "moments cov"), (moments.moments,), {"draws: moments"}),
        # m and M: half a percent is found
        (Planted(SkewLogistic(), "m 0.005"), (curvature.curvature,), {"m"}),
        (Planted(SkewLogistic(), "M -0.02"), (curvature.curvature,), {"M"}),
        (Planted(GaussianMixture.two_modes(4.0, dim=3), "m 0.01"), (curvature.curvature,), {"m"}),
        (Planted(ManyWell(60), "m 0.05"), (curvature.curvature,), {"m"}),
        (Planted(Gaussian.ill_conditioned(8, 20.0, rotation=1), "m 1e-6"), (curvature.curvature,), {"m"}),
        # Poincare and log-Sobolev
        (Planted(SkewLogistic(), "poincare 0.01"), (inequalities.constants,), {"poincare"}),
        (Planted(SkewLogistic(), "poincare -0.05"), (inequalities.constants,), {"poincare"}),
        (Planted(GaussianMixture.two_modes(4.0, dim=2), "poincare 0.01"), (inequalities.constants,), {"poincare"}),
        (Planted(Gaussian.isotropic(3), "poincare 0.2"), (inequalities.poincare,), {"poincare"}),
        (Planted(DoubleWell(), "lsi 0.6"), (inequalities.constants,), {"lsi"}),
        (Planted(Gaussian.isotropic(2), "lsi 0.05"), (inequalities.log_sobolev,), {"lsi"}),
    ],
    ids=lambda v: f"{v.name}-{v.fault}" if isinstance(v, Planted) else v.name if isinstance(v, Target) else "",
)
def test_planted_faults_are_found(target: Target, checks: tuple[Check, ...], what: set[str]) -> None:
    """And the same target without the fault passes the same check."""
    assert what <= failed(target, *checks)
    right = target.inner if isinstance(target, Planted) else type(target).__mro__[1](*(getattr(target, f.name) for f in dataclasses.fields(target)))  # type: ignore[arg-type]
    assert not failed(right, *checks)


def test_a_wrong_noised_law_and_a_wrong_split_are_found() -> None:
    right = Gaussian([0.5, -0.2], [[0.3, 0.1], [0.1, 2.0]])
    assert not failed(right, smoothing.smoothing)
    assert failed(Planted(right, "noised"), smoothing.smoothing) >= {"draws: density ratio at t = 0.2"}
    wrong = findings(Planted(PAIR, "split"), normaliser.log_normalizer)
    assert wrong.word == "failed" and "not the sum" in wrong.findings[0].note


def test_an_exact_constant_that_is_never_met_is_open_and_a_bound_is_not() -> None:
    low = Planted(SkewLogistic(), "m -1.0")
    assert [f.word for f in findings(low, curvature.curvature).findings] == ["open", "certified"]
    assert findings(low, curvature.curvature).word == "open"


@pytest.mark.parametrize(
    "target",
    [
        LogGaussianCox(4),  # its Hessian overflows far out
        Gaussian.isotropic(3, 1e-6, mean=1e4),
        Gaussian.ill_conditioned(100, 1e4, rotation=3),
        StudentT(3, 1.0, 1e3),  # no mean
        GaussianMixture.two_modes(0.5, dim=2, variance=1e-4, weight=0.01),
        Gaussian.ill_conditioned(30, 1e10, rotation=1),
        SkewLogistic(10.0, 100.0),  # its gap is not known: the other constants are
        GaussianMixture([1.0, 1000.0], [[0.0], [50.0]], 1.0),
        Shells(30, [1.0, 5.0], 0.1),
    ],
    ids=lambda t: t.name,
)
def test_right_targets_with_extreme_parameters_may_enter_a_theorem_check(target: Target) -> None:
    assert objections(target) == ()


def test_kinks_infinite_normalisers_and_improper_densities_are_not_certified() -> None:
    kink = user_potential(lambda x: x.abs().sum(1), 2, m=0.0, M=1.0)
    assert failed(kink, curvature.curvature) == {"M"}
    assert failed(Planted(Quartic(), "log Z inf"), normaliser.log_normalizer) == {"log Z"}
    assert certify(user_potential(lambda x: 0.0 * x.sum(1), 1), effort=EFFORT).word == "open"


@pytest.mark.parametrize(
    ("target", "check"),
    [
        (SkewLogistic(100.0, -5.0), inequalities.poincare),  # its mode lies at one end of its box
        (StudentT(1, 0.3), normaliser.log_normalizer),  # tails like |x|^-1.3
        (MultiWell(1, 1, 6.0), draws.distribution),  # a distribution function that is flat between the wells
    ],
    ids=lambda v: v.name if isinstance(v, Target) else "",
)
def test_lopsided_heavy_and_deep_targets_are_certified(target: Target, check: Check) -> None:
    found = findings(target, check)
    assert found.word == "certified" and found.findings


def test_code_that_raises_is_a_finding_of_one_line() -> None:
    found = findings(Planted(PAIR, "raises"), gradients.score)
    assert found.word == "failed" and found.findings[0].note == "RuntimeError: no score"


def test_no_theorem_is_checked_on_a_target_that_fails() -> None:
    """The statement would hold or fail for the wrong reason: the unmet hypothesis says what is wrong with the density."""
    theorem, sampler = ULAW2DMM(), ULA(0.05)
    right, wrong = Gaussian.isotropic(2), Planted(Gaussian.isotropic(2), "m 0.1")
    assert theorem.unmet(Case(right, sampler, (0,), [_start(right)])) == []
    (reason,) = theorem.unmet(Case(wrong, sampler, (0,), [_start(right)]))
    assert reason.startswith("the target passes its certificate; it fails in m: a point with a smaller curvature was found (declared 1.1, found 1")


def _start(target: Target):  # type: ignore[no-untyped-def]
    from mixrate.laws.normal import Normal

    return Normal(np.zeros(target.dim), np.eye(target.dim))


# The instruments.


def test_line_quadrature_meets_closed_forms_with_kinks_and_heavy_tails() -> None:
    kink = line(lambda x: -np.abs(x - 0.3), 0.1, 1.7)
    assert abs(kink.log_z - math.log(2)) < 1e-12 and kink.error < 1e-11
    cauchy = line(lambda x: -np.log1p(x * x), 0.4, 2.0)
    assert abs(cauchy.log_z - math.log(math.pi)) < 1e-11
    x = np.linspace(-30, 30, 401)
    assert np.abs(cauchy.cdf(x) - (0.5 + np.arctan(x) / np.pi)).max() < 2e-5
    far = line_of(GaussianMixture([1.0, 3.0], [[-40.0], [60.0]], 0.01))
    assert abs(far.log_z) < 1e-10 and abs(float(far.cdf(np.array([0.0]))[0]) - 0.25) < 1e-10
    needles = line_of(GaussianMixture([1.0, 3.0], [[-50.0], [50.0]], 1e-6))
    assert abs(needles.log_z) < 1e-9 and abs(float(needles.cdf(np.array([0.0]))[0]) - 0.25) < 1e-9
    with pytest.raises(Unsupported, match="no finite mass"):
        line(lambda x: -0.5 * ((x - 1e4) / 1e-3) ** 2, 0.0, 1.0)


def test_radial_and_plane_quadrature_meet_closed_forms() -> None:
    ball = Gaussian.isotropic(7, 0.5)
    assert ball.log_normalizer is not None and abs(radius_of(ball).log_z - ball.log_normalizer) < 1e-12
    plane = plane_of(PAIR, (0.0, 0.0), (1.0, 1.0))
    assert abs(plane.log_z) < 1e-9 and PAIR.moments is not None
    assert np.abs(plane.moments[0] - PAIR.moments[0].numpy()).max() < 1e-8
    assert np.abs(plane.moments[1] - PAIR.moments[1].numpy()).max() < 1e-8


def test_the_reference_is_normalised_and_contains_the_funnel() -> None:
    """Its mean of p/q over its own draws is Z, whatever it was fitted to; on the funnel the ratio is nearly constant."""
    funnel = Funnel(4, 1.0)
    x = funnel.sample(8000, Stream("reference")).numpy()
    fitted = Reference.fitted(x)
    y = fitted.sample(8000, Stream("of it"))
    ratio = np.exp(-funnel.potential(torch.as_tensor(y)).numpy() - funnel.log_normalizer - fitted.log_density(y))
    assert abs(ratio.mean() - 1.0) < 5 * ratio.std() / 8000**0.5 and ratio.std() < 0.2
    wide = Reference.fitted(x[:, :1], widened=3.0)
    grid = np.linspace(-40, 40, 20001)
    assert abs(np.trapezoid(np.exp(wide.log_density(grid[:, None])), grid) - 1.0) < 1e-10


def test_bridge_and_annealing_find_known_normalisers() -> None:
    funnel = Funnel(6, 2.0)
    found, error = normaliser.bridge(funnel, funnel.sample(20_000, Stream("bridge")), Stream("other side"))
    assert funnel.log_normalizer is not None and abs(found - funnel.log_normalizer) < error < 0.05

    @dataclass(frozen=True, eq=False)
    class NoDraws(Planted):
        """The same density, its sampler forgotten."""

        sample = Target.sample
        split = None  # type: ignore[assignment]

    hidden = NoDraws(Gaussian.ar1(5, 0.6), "")
    assert "sample" not in hidden.capabilities
    (finding,) = findings(hidden, normaliser.log_normalizer).findings
    assert finding.how == "annealed importance sampling" and finding.word == "certified"
    assert abs(finding.found - finding.declared) < finding.error < 0.1


def test_p_values_are_uniform_enough_under_the_null_and_tiny_off_it() -> None:
    u = Stream("null").uniform((400, 500)).numpy()
    p = np.array([kolmogorov(row) for row in u])
    assert kolmogorov(p) > 1e-6 and abs((p < 0.05).mean() - 0.05) < 0.045
    assert kolmogorov(u[0] ** 1.5) < 1e-6
    q = np.array([uniform(row) for row in u])
    assert (q < 0.05).mean() < 0.1 and uniform(u.ravel()[u.ravel() < 0.99]) < 1e-6 < kolmogorov(u.ravel()[u.ravel() < 0.99][:20_000])
    both = np.array([two_sample(a, b) for a, b in zip(u[::2], u[1::2], strict=True)])
    assert (both < 0.05).mean() < 0.1
    assert two_sample(u[0], u[1] + 0.3) < 1e-6


def test_the_quotient_is_an_upper_bound_that_gaussians_attain() -> None:
    subject = Subject(Gaussian.ill_conditioned(6, 9.0), EFFORT)
    above, error = quotients.quotient(subject)
    assert abs(above - 1.0) < error < 0.2
    two = Subject(GaussianMixture.two_modes(4.0, dim=3), EFFORT)
    above, error = quotients.quotient(two)
    gap = two.target.constant("poincare")
    assert gap is not None and gap < above + error and above < 1.6 * gap
