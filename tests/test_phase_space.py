"""Perturbation kernels of the linear phase-space processes: against matrix exponentials, quadrature, an integrator in time and
50-digit arithmetic, in the three regimes of damping; and planted bugs.

The reference matrices are written down here from the papers' equations; nothing of the reference comes from the code under test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate, linalg

from mixrate.errors import InvalidInput
from mixrate.samplers.diffusion.phase_space import CLD, PSLD, Kernel, Matrix, PhaseSpaceSDE
from mixrate.samplers.diffusion.schedule import Constant, Linear, Schedule

UNIT = Constant(1.0)

#: Every regime at beta = 1, so that t = tau. "Near": within 1e-7 of critical; "equal": Gamma = nu, no friction in the difference.
REGIMES: dict[str, PhaseSpaceSDE] = {
    "cld critical": CLD(0.25, "critical", 0.04, UNIT),
    "cld critical, at rest": CLD(3.0, "critical", 0.0, UNIT),
    "cld just over": CLD(0.25, 1.0 + 1e-7, 0.04, UNIT),
    "cld just under": CLD(0.25, 1.0 - 1e-7, 0.04, UNIT),
    "cld under": CLD(0.25, 0.3, 0.5, UNIT),
    "cld far under": CLD(2.0, 1e-4, 0.04, UNIT),
    "cld over": CLD(2.0, 20.0, 0.04, UNIT),
    "psld critical": PSLD(0.25, 0.01, 4.01, 0.04, UNIT),
    "psld just over": PSLD(0.25, 0.01, 4.01 + 4e-7, 0.04, UNIT),
    "psld just under": PSLD(0.25, 0.01, 4.01 - 4e-7, 0.04, UNIT),
    "psld under": PSLD(0.25, 1.0, 2.0, 0.3, UNIT),
    "psld equal": PSLD(3.0, 1.5, 1.5, 2.0, UNIT),
    "psld over": PSLD(2.0, 0.1, 5.0, 0.3, UNIT),
    "psld over, in x": PSLD(2.0, 5.0, 0.1, 0.0, UNIT),
}
#: Other speeds, linear ones too. The unbroken ones are what the planted bugs below are made of.
TIMED: dict[str, PhaseSpaceSDE] = {
    "cld": CLD(),
    "cld, linear": CLD(0.5, 3.0, 0.04, Linear(0.1, 12.0)),
    "cld, unbroken": CLD(2.0, 3.0, 0.3, Constant(2.0)),
    "cld, unbroken, linear": CLD(2.0, 3.0, 0.3, Linear(1.0, 2.0)),
    "psld": PSLD(),
    "psld, linear": PSLD(2.0, 0.7, 3.0, 0.3, Linear(5.0, 1.0, 2.0)),
    "psld, unbroken": PSLD(2.0, 0.7, 3.0, 0.3, Constant(2.0)),
    "psld, made critical": PSLD.critical(4.0, 0.5, 0.0, Constant(6.0)),
}


def book(sde: Any, number: Callable[[float], Any] = float) -> tuple[list[list[Any]], list[list[Any]]]:
    """(A, C) at beta = 1 from the equations of the papers, in the arithmetic of `number`."""
    M, half, zero = number(sde.mass), number(0.5), number(0.0)
    if isinstance(sde, CLD):  # dx = p/M dt, dp = -x dt - Gamma p/M dt + sqrt(2 Gamma) dB
        Gamma = number(2.0 * math.sqrt(sde.mass) if sde.friction == "critical" else sde.friction)
        return [[zero, 1 / M], [number(-1.0), -Gamma / M]], [[zero, zero], [zero, 2 * Gamma]]
    # du = -(D + Q) grad H dt + sqrt(2 D) dB, D = diag(Gamma, M nu) / 2, Q = ((0, -1), (1, 0)) / 2, grad H = (x, p/M)
    D = [half * number(sde.friction), half * M * number(sde.nu)]
    return [[-D[0], half / M], [-half, -D[1] / M]], [[2 * D[0], zero], [zero, 2 * D[1]]]


def speed(schedule: Any, t: float) -> float:
    """beta(t) from its definition."""
    return schedule.beta if isinstance(schedule, Constant) else schedule.first + (schedule.last - schedule.first) * t / schedule.horizon


def van_loan(A: np.ndarray, C: np.ndarray, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """(e^(A tau), int_0^tau e^(A s) C e^(A s)^T ds), the second from the exponential of a block matrix over tau / 2^j, whose
    blocks grow otherwise until no digit is left (1e-7 at CLD(0.5, 3.0) and tau = 2.2), and j doublings."""
    j = max(0, math.ceil(math.log2(linalg.norm(A) * tau)))
    h = tau / 2**j
    blocks = linalg.expm(h * np.block([[-A, C], [np.zeros((2, 2)), A.T]]))
    cov = blocks[2:, 2:].T @ blocks[:2, 2:]
    for i in range(j):
        R = linalg.expm(A * h * 2**i)
        cov = cov + R @ cov @ R.T
    return linalg.expm(A * tau), cov


def start(sde: Any, transition: np.ndarray) -> np.ndarray:
    """What p_0 ~ N(0, gamma M) adds to the covariance."""
    return sde.momentum * sde.mass * np.outer(transition[:, 1], transition[:, 1])


def check_kernel(sde: Any) -> None:
    """The kernel is that of the equations: time by quadrature of beta, then the block exponential."""
    A, C = map(np.array, book(sde))
    for t in (1e-3, 0.05, 0.4, 1.0):
        tau = integrate.quad(lambda s: speed(sde.schedule, s), 0.0, t, epsabs=1e-14)[0]
        transition, cov = van_loan(A, C, tau)
        for fixed, expected in ((True, cov), (False, cov + start(sde, transition))):
            kernel = sde.kernel(t, fixed_momentum=fixed)
            np.testing.assert_allclose(kernel.transition, transition, rtol=1e-11, atol=1e-13)
            np.testing.assert_allclose(kernel.cov, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("sde", [*REGIMES.values(), *TIMED.values()], ids=[*REGIMES, *TIMED])
def test_kernels_are_those_of_the_block_exponential(sde: PhaseSpaceSDE) -> None:
    check_kernel(sde)


@pytest.mark.parametrize("sde", REGIMES.values(), ids=REGIMES)
def test_covariances_are_the_integral_of_the_noise(sde: PhaseSpaceSDE) -> None:
    A, C = map(np.array, book(sde))
    for tau in (0.3, 2.0, 7.0):
        cov = integrate.quad_vec(lambda s: linalg.expm(A * s) @ C @ linalg.expm(A * s).T, 0.0, tau, epsabs=1e-11, epsrel=1e-11)[0]
        np.testing.assert_allclose(sde.kernel(tau, fixed_momentum=True).cov, cov, rtol=0, atol=1e-10)


@pytest.mark.parametrize("sde", TIMED.values(), ids=TIMED)
def test_kernels_solve_the_equations_in_time(sde: Any) -> None:
    """Mean and covariance by integrating their equations with beta(t): no change of time, no integral of beta."""
    A, C = map(np.array, book(sde))

    def flow(t: float, y: np.ndarray) -> np.ndarray:
        R, cov = y.reshape(2, 2, 2)
        return speed(sde.schedule, t) * np.concatenate([(A @ R).ravel(), (A @ cov + cov @ A.T + C).ravel()])

    first = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, sde.momentum * sde.mass]]).ravel()
    R, cov = integrate.solve_ivp(flow, (0.0, 0.8), first, method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1].reshape(2, 2, 2)
    kernel = sde.kernel(0.8)
    np.testing.assert_allclose(kernel.transition, R, rtol=0, atol=1e-10)
    np.testing.assert_allclose(kernel.cov, cov, rtol=0, atol=1e-10)


# Digits.

#: Both sides of where the series hands over (n tau = 1), and away from the times at which an entry vanishes.
TAUS = [1e-9, 1e-6, 1e-3, 0.021, 0.11, 0.19, 0.26, 0.49, 1.3, 30.0]


def exact(sde: Any, tau: float) -> dict[str, list[Any]]:
    """Everything in 50 digits: the exponentials of A, and of the linear equations that the covariance solves, which do not grow."""
    mp = mpmath.mp.clone()
    mp.dps = 50
    A, C = book(sde, mp.mpf)
    tau, v = mp.mpf(tau), mp.mpf(sde.momentum) * mp.mpf(sde.mass)
    R = mp.expm(mp.matrix(A) * tau)
    lyapunov = [  # (xx, xp, pp, 1)' for cov' = A cov + cov A^T + C
        [2 * A[0][0], 2 * A[0][1], 0, C[0][0]],
        [A[1][0], A[0][0] + A[1][1], A[0][1], C[0][1]],
        [0, 2 * A[1][0], 2 * A[1][1], C[1][1]],
        [0, 0, 0, 0],
    ]
    xx, xp, pp, _ = mp.expm(mp.matrix(lyapunov) * tau)[:, 3]
    out = {"transition": list(R)}
    for name, r_x, r_p in (("fixed", 0, 0), ("drawn", R[0, 1], R[1, 1])):
        s_xx, s_xp, s_pp = xx + v * r_x**2, xp + v * r_x * r_p, pp + v * r_p**2
        det = s_xx * s_pp - s_xp**2
        out[f"{name} cov"] = [s_xx, s_xp, s_xp, s_pp]
        out[f"{name} ell"] = [mp.sqrt(s_xx / det)]
        out[f"{name} cholesky"] = [mp.sqrt(s_xx), mp.mpf(0), s_xp / mp.sqrt(s_xx), mp.sqrt(det / s_xx)]
    return out


def coded(sde: Any, tau: float) -> dict[str, list[float]]:
    """The same from the code under test."""
    out = {"transition": sde.kernel(tau).transition.ravel().tolist()}
    for name, fixed in (("fixed", True), ("drawn", False)):
        out[f"{name} cov"] = sde.kernel(tau, fixed_momentum=fixed).cov.ravel().tolist()
        out[f"{name} ell"] = [sde.ell(tau, fixed_momentum=fixed).item()]
        out[f"{name} cholesky"] = sde.cholesky(tau, fixed_momentum=fixed).ravel().tolist()
    return out


def check_digits(sde: Any, taus: list[float]) -> None:
    """Relative error of every number below 1e-13: what the docstring states. (Zeros are exact, up to the reference's 50 digits.)"""
    for tau in taus:
        got = coded(sde, tau)
        for what, expected in exact(sde, tau).items():
            for a, b in zip(got[what], expected, strict=True):
                assert abs(a - b) <= 1e-13 * abs(b) + 1e-45, (what, tau, a, float(b))


@pytest.mark.parametrize("sde", REGIMES.values(), ids=REGIMES)
def test_every_entry_is_right_to_thirteen_digits(sde: PhaseSpaceSDE) -> None:
    check_digits(sde, TAUS)


def test_frictions_far_above_critical_lose_what_is_stated() -> None:
    """n^2 / |A_xp A_px| = 200^2 / 1: a relative error of about 4e-12 where the series hands over."""
    sde, tau = CLD(1.0, 200.0, 0.04, UNIT), 0.01
    for what, expected in exact(sde, tau).items():
        for a, b in zip(coded(sde, tau)[what], expected, strict=True):
            assert abs(a - b) <= 2e-11 * abs(b), what


class NaiveDeterminant(CLD):
    def ell(self, t: Any, *, fixed_momentum: bool = False) -> torch.Tensor:
        cov = self.kernel(t, fixed_momentum=fixed_momentum).cov
        return torch.sqrt(cov[0, 0] / (cov[0, 0] * cov[1, 1] - cov[0, 1] ** 2))


class NoSeries(CLD):
    def _series(self, tau: torch.Tensor) -> Any:
        return (torch.tensor(False), *super()._series(tau)[1:])


class SeriesOffBy1e12(CLD):
    def _series(self, tau: torch.Tensor) -> Any:
        near, xx, pp = super()._series(tau)
        return near, xx, pp * (1.0 + 1e-12)


class CriticalIsAssumed(CLD):
    @property
    def discriminant(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    "mutant, taus",
    [
        (NaiveDeterminant(0.25, "critical", 0.04, UNIT), [1e-6]),
        (NoSeries(0.25, "critical", 0.04, UNIT), [1e-3]),
        (SeriesOffBy1e12(0.25, "critical", 0.04, UNIT), [0.11]),
        (CriticalIsAssumed(0.25, 1.0 + 1e-7, 0.04, UNIT), [30.0]),
        (CriticalIsAssumed(0.25, 1.0 - 1e-7, 0.04, UNIT), [30.0]),
    ],
)
def test_lost_digits_are_found(mutant: PhaseSpaceSDE, taus: list[float]) -> None:
    with pytest.raises(AssertionError):
        check_digits(mutant, taus)


# Planted bugs.


class FrictionsSwapped(PSLD):
    @property
    def drift(self) -> Matrix:
        return PSLD(self.mass, self.nu, self.friction).drift

    @property
    def noise_cov(self) -> Matrix:
        return PSLD(self.mass, self.nu, self.friction).noise_cov


class DriftSwapped(PSLD):
    @property
    def drift(self) -> Matrix:
        return PSLD(self.mass, self.nu, self.friction).drift


class MassMissingInTheNoise(PSLD):
    @property
    def noise_cov(self) -> Matrix:
        return (self.friction, 0.0), (0.0, self.nu)


class HalfMissingInTheDrift(PSLD):
    @property
    def drift(self) -> Matrix:
        return (-self.friction, 1.0 / self.mass), (-1.0, -self.nu)


class TwoMissingInTheNoise(CLD):
    @property
    def noise_cov(self) -> Matrix:
        return (0.0, 0.0), (0.0, super().noise_cov[1][1] / 2.0)


class MassMissingInTheFriction(CLD):
    @property
    def drift(self) -> Matrix:
        return (0.0, 1.0 / self.mass), (-1.0, super().drift[1][1] * self.mass)


class NoiseWithoutRootOfBeta(CLD):
    """``G dB`` for ``sqrt(beta) G dB``."""

    @property
    def noise_cov(self) -> Matrix:
        return (0.0, 0.0), (0.0, super().noise_cov[1][1] / self.schedule.rate(0.0))


class NoiseWithBeta(CLD):
    """``beta G dB`` for ``sqrt(beta) G dB``."""

    @property
    def noise_cov(self) -> Matrix:
        return (0.0, 0.0), (0.0, super().noise_cov[1][1] * self.schedule.rate(0.0))


class FrictionAndMassSwapped(CLD):
    @property
    def drift(self) -> Matrix:
        return CLD(float(self.friction), self.mass).drift

    @property
    def noise_cov(self) -> Matrix:
        return CLD(float(self.friction), self.mass).noise_cov


class StartForgotten(CLD):
    def kernel(self, t: Any, *, fixed_momentum: bool = False) -> Kernel:
        return super().kernel(t, fixed_momentum=True)


class StartWithoutMass(CLD):
    def kernel(self, t: Any, *, fixed_momentum: bool = False) -> Kernel:
        return CLD(self.mass, self.friction, self.momentum / self.mass, self.schedule).kernel(t, fixed_momentum=fixed_momentum)


class StartAlways(CLD):
    def kernel(self, t: Any, *, fixed_momentum: bool = False) -> Kernel:
        return super().kernel(t)


class Transposed(CLD):
    def kernel(self, t: Any, *, fixed_momentum: bool = False) -> Kernel:
        kernel = super().kernel(t, fixed_momentum=fixed_momentum)
        return Kernel(kernel.transition.mT, kernel.cov)


class HalfMissingInTheIntegral(Linear):
    def integral(self, t: Any) -> Any:
        return self.first * t + (self.last - self.first) * t * t / self.horizon


class RateForIntegral(Linear):
    def integral(self, t: Any) -> Any:
        return self.rate(t) * t


MUTANTS = [
    FrictionsSwapped(2.0, 0.7, 3.0, 0.3, Constant(2.0)),
    DriftSwapped(2.0, 0.7, 3.0, 0.3, Constant(2.0)),
    MassMissingInTheNoise(2.0, 0.7, 3.0, 0.3, Constant(2.0)),
    HalfMissingInTheDrift(2.0, 0.7, 3.0, 0.3, Constant(2.0)),
    TwoMissingInTheNoise(2.0, 3.0, 0.3, Constant(2.0)),
    MassMissingInTheFriction(2.0, 3.0, 0.3, Constant(2.0)),
    NoiseWithoutRootOfBeta(2.0, 3.0, 0.3, Constant(2.0)),
    NoiseWithBeta(2.0, 3.0, 0.3, Constant(2.0)),
    FrictionAndMassSwapped(2.0, 3.0, 0.3, Constant(2.0)),
    StartForgotten(2.0, 3.0, 0.3, Constant(2.0)),
    StartWithoutMass(2.0, 3.0, 0.3, Constant(2.0)),
    StartAlways(2.0, 3.0, 0.3, Constant(2.0)),
    Transposed(2.0, 3.0, 0.3, Constant(2.0)),
    CLD(2.0, 3.0, 0.3, HalfMissingInTheIntegral(1.0, 2.0)),
    CLD(2.0, 3.0, 0.3, RateForIntegral(1.0, 2.0)),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: type(m.schedule if type(m) is CLD else m).__name__)
def test_planted_bugs_are_found(mutant: PhaseSpaceSDE) -> None:
    with pytest.raises(AssertionError):
        check_kernel(mutant)


# Structure.


@pytest.mark.parametrize("sde", [*REGIMES.values(), *TIMED.values()], ids=[*REGIMES, *TIMED])
def test_the_stationary_law_stays(sde: PhaseSpaceSDE) -> None:
    A, C, S = np.array(sde.drift), np.array(sde.noise_cov), np.diag([1.0, sde.mass])
    np.testing.assert_allclose(A @ S + S @ A.T + C, 0.0, rtol=0, atol=1e-14 * np.abs(A @ S).max())
    kernel = sde.kernel(torch.tensor([1e-5, 0.1, 0.7], dtype=torch.float64), fixed_momentum=True)
    after = kernel.transition @ torch.tensor(S) @ kernel.transition.mT + kernel.cov
    np.testing.assert_allclose(after, np.broadcast_to(S, (3, 2, 2)), rtol=0, atol=1e-14 * max(1.0, sde.mass))


@pytest.mark.parametrize("sde", REGIMES.values(), ids=REGIMES)
def test_kernels_compose(sde: PhaseSpaceSDE) -> None:
    for first, second in ((1e-4, 2e-3), (0.02, 0.9), (0.7, 2.0)):
        now, step, both = sde.kernel(first), sde.kernel(second, fixed_momentum=True), sde.kernel(first + second)
        R = step.transition
        np.testing.assert_allclose(R @ now.transition, both.transition, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(R @ now.cov @ R.T + step.cov, both.cov, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("sde", REGIMES.values(), ids=REGIMES)
def test_the_start_and_the_end(sde: PhaseSpaceSDE) -> None:
    kernel = sde.kernel(0.0)
    assert torch.equal(kernel.transition, torch.eye(2, dtype=torch.float64))
    assert torch.equal(kernel.cov, torch.diag(torch.tensor([0.0, sde.momentum * sde.mass], dtype=torch.float64)))
    assert torch.equal(sde.cholesky(0.0), kernel.cov.sqrt())
    late = sde.kernel(1e8)  # beyond every overflow
    assert torch.equal(late.transition, torch.zeros(2, 2, dtype=torch.float64))
    assert torch.equal(late.cov, torch.diag(torch.tensor([1.0, sde.mass], dtype=torch.float64)))
    assert sde.ell(1e8).item() == pytest.approx(1.0 / math.sqrt(sde.mass), rel=1e-15)


@pytest.mark.parametrize("sde", TIMED.values(), ids=TIMED)
@pytest.mark.parametrize("fixed", [False, True])
def test_a_tensor_of_times_is_its_floats(sde: PhaseSpaceSDE, fixed: bool) -> None:
    t = torch.tensor([[1e-9, 1e-4, 0.01], [0.3, 0.7, 1.0]], dtype=torch.float64)
    kernel, L, ell = sde.kernel(t, fixed_momentum=fixed), sde.cholesky(t, fixed_momentum=fixed), sde.ell(t, fixed_momentum=fixed)
    assert kernel.transition.shape == kernel.cov.shape == L.shape == (2, 3, 2, 2)
    assert ell.shape == t.shape
    assert {x.dtype for x in (*kernel, L, ell)} == {torch.float64}
    for i, j in np.ndindex(2, 3):
        one = sde.kernel(t[i, j].item(), fixed_momentum=fixed)
        np.testing.assert_allclose(kernel.transition[i, j], one.transition, rtol=1e-14, atol=0)  # vector code rounds otherwise
        np.testing.assert_allclose(kernel.cov[i, j], one.cov, rtol=1e-14, atol=0)
        np.testing.assert_allclose(ell[i, j], sde.ell(t[i, j].item(), fixed_momentum=fixed), rtol=1e-14, atol=0)
    assert sde.kernel(t[0, :0]).cov.shape == (0, 2, 2)
    assert sde.kernel(t[0, 0]).cov.shape == (2, 2)


@pytest.mark.parametrize("sde", TIMED.values(), ids=TIMED)
@pytest.mark.parametrize("fixed", [False, True])
def test_cholesky_and_ell(sde: PhaseSpaceSDE, fixed: bool) -> None:
    t = torch.tensor([1e-9, 1e-6, 1e-3, 0.1, 0.5, 1.0], dtype=torch.float64)
    L, ell = sde.cholesky(t, fixed_momentum=fixed), sde.ell(t, fixed_momentum=fixed)
    np.testing.assert_allclose(L @ L.mT, sde.kernel(t, fixed_momentum=fixed).cov, rtol=1e-13, atol=0)
    assert (L[:, 0, 1] == 0.0).all()
    eps = torch.tensor([0.3, -1.7], dtype=torch.float64)
    score = -torch.linalg.solve_triangular(L.mT, eps.expand(6, 2).unsqueeze(2), upper=True)  # -cov^-1 (L eps)
    np.testing.assert_allclose(score[:, 1, 0], -ell * eps[1], rtol=1e-13, atol=0)


def test_regimes_are_told_apart() -> None:
    assert CLD().discriminant == 0.0
    assert CLD(0.25, 0.3).discriminant < -1e-3
    assert CLD(0.25, 3.0).discriminant > 1e-3
    for mass in (0.25, 0.3, 7.0):
        assert CLD(mass, "critical").discriminant == pytest.approx(0.0, abs=1e-15 / mass)
        assert PSLD.critical(mass, 0.01).discriminant == pytest.approx(0.0, abs=1e-15 / mass)
    assert PSLD.critical() == PSLD()
    assert PSLD(0.25, 1.0, 2.0).discriminant < -1e-3
    assert PSLD(0.25, 0.01, 9.0).discriminant > 1e-3


class Correlated(PhaseSpaceSDE):
    """A general process of this kind: noises of x and p that are correlated, ``A S = -C/2 + antisymmetric``."""

    mass, momentum, schedule = 2.0, 0.3, UNIT
    noise_cov = (0.7, 0.4), (0.4, 1.1)
    drift = (-0.35, (0.9 - 0.2) / 2.0), (-0.9 - 0.2, -0.55 / 2.0)


def test_noises_may_be_correlated() -> None:
    sde = Correlated()
    A, C = np.array(sde.drift), np.array(sde.noise_cov)
    for tau in (1e-4, 0.1, 0.5, 2.0, 9.0):
        transition, cov = van_loan(A, C, tau)
        np.testing.assert_allclose(sde.kernel(tau).transition, transition, rtol=1e-11)
        np.testing.assert_allclose(sde.kernel(tau, fixed_momentum=True).cov, cov, rtol=1e-11)
        np.testing.assert_allclose(sde.kernel(tau).cov, cov + start(sde, transition), rtol=1e-11)


# Schedules.


@pytest.mark.parametrize("schedule", [Constant(4.0), Linear(0.1, 20.0), Linear(5.0, 1.0, 2.0)], ids=repr)
def test_schedules_and_their_integrals(schedule: Schedule) -> None:
    t = torch.tensor([0.0, 1e-9, 0.3, 1.0], dtype=torch.float64)
    rate, integral = schedule.rate(t), schedule.integral(t)
    assert rate.dtype == integral.dtype == torch.float64
    for i, s in enumerate(t.tolist()):
        assert isinstance(schedule.rate(s), float) and isinstance(schedule.integral(s), float)
        assert rate[i].item() == schedule.rate(s) == pytest.approx(speed(schedule, s), rel=1e-15)
        assert integral[i].item() == schedule.integral(s)
        assert schedule.integral(s) == pytest.approx(integrate.quad(lambda u: speed(schedule, u), 0.0, s)[0], rel=1e-14)


def test_a_last_step_may_miss_the_horizon_by_its_rounding() -> None:
    assert Linear(1.0, 2.0, 0.3).integral(3 * 0.1) == pytest.approx(0.45, rel=1e-14)


# Bad input.


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Constant(0.0), "beta must be a positive finite number, got 0.0"),
        (lambda: Constant(math.inf), "beta must be a positive finite number, got inf"),
        (lambda: Linear(0.0, 1.0), "first must be a positive finite number, got 0.0"),
        (lambda: Linear(1.0, -2.0), "last must be a positive finite number, got -2.0"),
        (lambda: Linear(1.0, 2.0, 0.0), "horizon must be a positive finite number, got 0.0"),
        (lambda: CLD(0.0), "mass must be a positive finite number, got 0.0"),
        (lambda: CLD(1.0, 0.0), "friction must be a positive finite number, got 0.0"),
        (lambda: CLD(1.0, "critica"), "friction must be \"critical\" or a positive finite number, got 'critica'"),
        (lambda: CLD(momentum=-0.1), "momentum must be at least 0 and finite, got -0.1"),
        (lambda: CLD(momentum=math.nan), "momentum must be at least 0 and finite, got nan"),
        (lambda: CLD(schedule=4.0), "schedule must be a noise schedule such as Constant(4.0), got 4.0"),
        (lambda: PSLD(-1.0), "mass must be a positive finite number, got -1.0"),
        (lambda: PSLD(friction=0.0), "friction must be a positive finite number, got 0.0"),
        (lambda: PSLD(nu=math.inf), "nu must be a positive finite number, got inf"),
        (lambda: PSLD(momentum=-1.0), "momentum must be at least 0 and finite, got -1.0"),
        (lambda: PSLD.critical(mass=0.0), "mass must be a positive finite number, got 0.0"),
        (lambda: Constant(1.0).rate(-0.5), "t must be at least 0, got -0.5"),
        (lambda: Constant(1.0).integral(math.inf), "t must be finite, got inf"),
        (lambda: Linear(1.0, 2.0).rate(1.5), "t must be at most the horizon 1.0, got 1.5"),
        (lambda: Linear(1.0, 2.0, 3.0).integral(torch.tensor([0.1, 3.5], dtype=torch.float64)), "t must be at most the horizon 3.0, got 3.5"),
        (lambda: CLD().kernel(-1e-9), "t must be at least 0, got -1e-09"),
        (lambda: CLD().kernel(torch.tensor([0.1, math.nan], dtype=torch.float64)), "t must be at least 0, got nan"),
        (lambda: CLD().kernel(torch.tensor([0.1])), "t must be a float or a float64 tensor, got a tensor of torch.float32"),
        (lambda: CLD().kernel(np.array([0.1])), "t must be a float or a float64 tensor, got ndarray"),
        (lambda: CLD().ell(0.0), "ell needs t > 0, where cov is not singular in float64, got 0.0"),
        (
            lambda: PSLD().ell(torch.tensor([0.5, 0.0], dtype=torch.float64), fixed_momentum=True),
            "ell needs t > 0, where cov is not singular in float64, got 0.0",
        ),
    ],
)
def test_bad_input_is_one_line(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make()
    assert str(caught.value) == message
