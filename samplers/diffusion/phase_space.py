"""Linear forward processes of a position and a momentum, and their perturbation kernels in closed form."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple, final

import torch
from torch import Tensor

from ...errors import InvalidInput, Unsupported
from ...targets.base import Target
from ..base import positive
from .schedule import Constant, Schedule

#: A 2 x 2 matrix on (x, p), row by row.
Matrix = tuple[tuple[float, float], tuple[float, float]]
#: The Taylor series of the variances is used where ``n tau <= 1``, n a bound of the norm of the drift: its k-th term is at
#: most ``2^(k-1) / k!``, 2e-24 at k = 30, and its signs alternate like those of e^-2 at worst, a loss of one digit.
REACH, TERMS = 1.0, 30


class Kernel(NamedTuple):
    """The Gaussian law of u_t = (x_t, p_t) from a given start, per coordinate, in float64.

    transition: R = e^(A tau), shape (..., 2, 2). Mean of u_t: ``R[..., 0] x_0``, plus ``R[..., 1] p_0`` where p_0 is given.
    cov: covariance of (x_t, p_t), shape (..., 2, 2).
    """

    transition: Tensor
    cov: Tensor


class PhaseSpaceSDE(ABC):
    """``du = beta(t) A u dt + sqrt(beta(t)) G dB`` for u = (x, p), the same in every coordinate.

    With C = G G^T, the law ``N(0, S)``, S = diag(1, mass), is stationary: ``A S + S A^T + C = 0``. In the time
    ``tau = int_0^t beta``, with a = -tr(A)/2, N = A + a I (of trace 0) and ``delta^2 = a^2 - det A``, where N^2 = delta^2 I::

        e^(A tau) = c I + s N,    c = e^(-a tau) cosh(delta tau),    s = e^(-a tau) sinh(delta tau) / delta
        Cov(u_t | u_0) = S - e^(A tau) S e^(A tau)^T = (1 - e^(-2 a tau)) S - c s R - s^2 R N^T,    R = N S + S N^T = 2 a S - C

    (cos and sin where delta^2 < 0). At small tau the variances, which cancel, come from their Taylor series
    ``sum_k tau^k / k! D_k``, D_1 = C, D_(k+1) = A D_k + D_k A^T. A start ``p_0 ~ N(0, momentum mass)`` adds
    ``momentum mass r r^T``, r the second column of e^(A tau).

    Relative error of every entry: below 1e-13, or 1e-16 times ``n^2 / |A_xp A_px|`` (frictions far above critical) or ``(n tau)^2``
    (the rounding of the friction does as much) where that is more; n is the norm of A at mass 1. An entry has fewer digits near its zeros.

    Cost: about 200 operations per time.

    Arguments of the concrete classes:
        mass: M > 0, variance of p under the stationary law. The unit of x is its stationary standard deviation.
        momentum: gamma >= 0, variance of p_0 in units of M; 0 starts at rest.
        schedule: beta(t).

    Errors: `InvalidInput` for hyperparameters out of range, and for times that the schedule refuses.

    References: Dockhorn, Vahdat, Kreis, "Score-based generative modeling with critically-damped Langevin diffusion" (2022),
        https://arxiv.org/abs/2112.07068
        Pandey, Mandt, "A complete recipe for diffusion generative models" (2023), https://arxiv.org/abs/2303.01748
    """

    mass: float
    momentum: float
    schedule: Schedule

    @property
    @abstractmethod
    def drift(self) -> Matrix:
        """A, at beta = 1."""

    @property
    @abstractmethod
    def noise_cov(self) -> Matrix:
        """C = G G^T, at beta = 1."""

    @property
    def discriminant(self) -> float:
        """``delta^2``: positive if overdamped, 0 (up to rounding) if critically damped, negative if underdamped."""
        (xx, xp), (px, pp) = self.drift
        return (0.5 * (xx - pp)) ** 2 + xp * px

    @final
    def kernel(self, t: float | Tensor, *, fixed_momentum: bool = False, since: float = 0.0) -> Kernel:
        """The law of u_t given x_0, or given (x_0, p_0) where the momentum is fixed.

        Arguments:
            t: time, a float (answers of shape (2, 2)) or a float64 tensor of shape (...) (answers (..., 2, 2)).
            fixed_momentum: p_0 is given, not drawn.
            since: the time, at most t, at which what is given is given, instead of 0.
        """
        transition, (xx, xp, pp, _) = self._law(t, fixed_momentum, since)
        return Kernel(_matrix(*transition), _matrix(xx, xp, xp, pp))

    @final
    def cholesky(self, t: float | Tensor, *, fixed_momentum: bool = False, since: float = 0.0) -> Tensor:
        """L lower triangular with ``L L^T = cov``, shape (..., 2, 2); ``diag(0, sqrt(cov_pp))`` at t = 0. Arguments: of `kernel`."""
        _, (xx, xp, pp, det) = self._law(t, fixed_momentum, since)
        moved = xx > 0.0
        safe = torch.where(moved, xx, 1.0)
        return _matrix(xx.sqrt(), torch.zeros_like(xx), xp / safe.sqrt(), torch.where(moved, det / safe, pp).sqrt())

    @final
    def ell(self, t: float | Tensor, *, fixed_momentum: bool = False) -> Tensor:
        """``sqrt(cov_xx / det cov) = 1 / sqrt(Var(p_t | x_t))``, shape (...): with ``u_t = mean + L eps`` the score in p is
        ``-ell eps_p`` (hybrid score matching). Arguments: of `kernel`. Errors: `InvalidInput` where cov is singular, as at t = 0."""
        _, (xx, _, _, det) = self._law(t, fixed_momentum)
        if not bool((det > 0.0).all()):
            raise InvalidInput(f"ell needs t > 0, where cov is not singular in float64, got {torch.as_tensor(t).min().item()}")
        return torch.sqrt(xx / det)

    @final
    def noised(self, target: Target, t: float) -> Target:
        """The law of u_t from x_0 ~ target and p_0 ~ N(0, momentum mass I), as a target on (x, p) in twice the dimension.

        A Gaussian part N(mu, Sigma) becomes ``N(r (x) mu, r r^T (x) Sigma + cov (x) I)``, r the first column of e^(A tau).

        Errors: `Unsupported` where the target is no Gaussian and no mixture of Gaussians.
        """
        return _noised(self, target, float(t))

    def _law(self, t: float | Tensor, fixed: bool, since: float = 0.0) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The entries of the transition, and those of the covariance (xx, xp, pp) with its determinant.

        The determinant is that of Q, the covariance at fixed momentum, plus ``momentum mass r^T adj(Q) r``, r the second column
        of the transition: both positive, and of terms of one order, whereas ``cov_xx cov_pp - cov_xp^2`` cancels near t = 0.
        """
        tau = self.schedule.integral(torch.tensor(t, dtype=torch.float64) if isinstance(t, (int, float)) else t)
        if since != 0.0:
            if not 0.0 <= since <= float(torch.as_tensor(t).min()):
                raise InvalidInput(f"since must lie between 0 and t = {float(torch.as_tensor(t).min()):g}, got {since}")
            tau = tau - self.schedule.integral(since)
        (a_xx, a_xp), (a_px, a_pp) = self.drift
        a, k, mass, c_xp = -0.5 * (a_xx + a_pp), 0.5 * (a_xx - a_pp), self.mass, self.noise_cov[0][1]
        c, s = self._waves(tau)
        transition = c + k * s, a_xp * s, a_px * s, c - k * s
        near, near_xx, near_pp = self._series(tau)
        filled, turned = -torch.expm1(-2.0 * a * tau), 2.0 * k * c * s
        far_xx = filled - turned - s * s * (2.0 * k * k - a_xp * c_xp)
        far_pp = mass * (filled + turned) - s * s * (2.0 * k * k * mass - a_px * c_xp)
        xx, pp = torch.where(near, near_xx, far_xx), torch.where(near, near_pp, far_pp)
        xp = c * s * c_xp + k * s * s * (a_xp * mass - a_px)
        det = xx * pp - xp * xp
        if fixed:
            return transition, (xx, xp, pp, det)
        v, (_, r_x, _, r_p) = self.momentum * mass, transition
        det = det + v * (pp * r_x * r_x - 2.0 * xp * r_x * r_p + xx * r_p * r_p)
        return transition, (xx + v * r_x * r_x, xp + v * r_x * r_p, pp + v * r_p * r_p, det)

    def _waves(self, tau: Tensor) -> tuple[Tensor, Tensor]:
        """(c, s) in exponentials of negative numbers. Near delta = 0 neither expm1 nor sin loses a digit of s."""
        (xx, xp), (px, pp) = self.drift
        a, q = -0.5 * (xx + pp), self.discriminant
        if q > 0.0:
            delta = math.sqrt(q)
            slow = torch.exp(-((xx * pp - xp * px) / (a + delta)) * tau)  # a - delta = det A / (a + delta), without cancelling
            return slow * (0.5 + 0.5 * torch.exp(-2.0 * delta * tau)), slow * torch.expm1(-2.0 * delta * tau) / (-2.0 * delta)
        omega, fade = math.sqrt(-q), torch.exp(-a * tau)
        return fade * torch.cos(omega * tau), fade * (torch.sin(omega * tau) / omega if omega > 0.0 else tau)

    def _series(self, tau: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(where the Taylor series holds, its variance of x, its variance of p), in powers of n tau."""
        (a_xx, a_xp), (a_px, a_pp) = self.drift
        n = max(abs(a_xx), abs(a_pp)) + max(abs(a_xp) * self.mass, abs(a_px)) / math.sqrt(self.mass)  # the norm of A in (x, p / sqrt(mass))
        a_xx, a_xp, a_px, a_pp = a_xx / n, a_xp / n, a_px / n, a_pp / n
        (xx, xp), (_, pp) = ((entry / n for entry in row) for row in self.noise_cov)
        terms = []
        for order in range(1, TERMS + 1):
            terms.append((xx / math.factorial(order), pp / math.factorial(order)))
            xx, xp, pp = 2.0 * (a_xx * xx + a_xp * xp), a_px * xx + (a_xx + a_pp) * xp + a_xp * pp, 2.0 * (a_px * xp + a_pp * pp)
        u = (n * tau).clamp(max=REACH)
        var_x, var_p = torch.zeros_like(u), torch.zeros_like(u)
        for d_xx, d_pp in reversed(terms):
            var_x, var_p = (var_x + d_xx) * u, (var_p + d_pp) * u
        return n * tau <= REACH, var_x, var_p


@dataclass(frozen=True)
class CLD(PhaseSpaceSDE):
    """Critically-damped (or any) Langevin diffusion: the noise enters through the momentum alone.

    ``dx = beta p/M dt``, ``dp = -beta x dt - beta Gamma p/M dt + sqrt(2 Gamma beta) dB``. Critical at ``Gamma^2 = 4 M``.
    The defaults are those of the paper, on times [0, 1].

    Arguments: those of `PhaseSpaceSDE`, and
        friction: Gamma > 0, or "critical" for ``2 sqrt(M)``.
    """

    mass: float = 0.25
    friction: float | Literal["critical"] = "critical"
    momentum: float = 0.04
    schedule: Schedule = field(default_factory=lambda: Constant(4.0))

    def __post_init__(self) -> None:
        _check(self)
        if isinstance(self.friction, str) and self.friction != "critical":
            raise InvalidInput(f'friction must be "critical" or a positive finite number, got {self.friction!r}')
        positive(self._friction, "friction")

    @property
    def drift(self) -> Matrix:
        return (0.0, 1.0 / self.mass), (-1.0, -self._friction / self.mass)

    @property
    def noise_cov(self) -> Matrix:
        return (0.0, 0.0), (0.0, 2.0 * self._friction)

    @property
    def _friction(self) -> float:
        return 2.0 * math.sqrt(self.mass) if isinstance(self.friction, str) else self.friction


@dataclass(frozen=True)
class PSLD(PhaseSpaceSDE):
    """Phase-space Langevin diffusion: noise in the position and in the momentum.

    ``dx = beta/2 (p/M - Gamma x) dt + sqrt(beta Gamma) dB_x``, ``dp = beta/2 (-x - nu p) dt + sqrt(beta M nu) dB_p``: that is
    ``du = -(D + Q) grad H dt + sqrt(2 D) dB`` with ``H = x^2/2 + p^2/(2 M)``, ``D = beta/2 diag(Gamma, M nu)``,
    ``Q = beta/2 ((0, -1), (1, 0))``. Critical at ``(Gamma - nu)^2 = 4/M``. The defaults are those of the paper for CIFAR-10.

    Arguments: those of `PhaseSpaceSDE`, and
        friction, nu: Gamma > 0, nu > 0: frictions of the position and of the momentum.
    """

    mass: float = 0.25
    friction: float = 0.01
    nu: float = 4.01
    momentum: float = 0.04
    schedule: Schedule = field(default_factory=lambda: Constant(8.0))

    def __post_init__(self) -> None:
        _check(self)
        positive(self.friction, "friction")
        positive(self.nu, "nu")

    @classmethod
    def critical(cls, mass: float = 0.25, friction: float = 0.01, momentum: float = 0.04, schedule: Schedule | None = None) -> PSLD:
        """Critically damped, with the larger nu of the two: ``nu = Gamma + 2 / sqrt(M)``. Arguments: those of the class."""
        positive(mass, "mass")
        return cls(mass, friction, friction + 2.0 / math.sqrt(mass), momentum, Constant(8.0) if schedule is None else schedule)

    @property
    def drift(self) -> Matrix:
        return (-0.5 * self.friction, 0.5 / self.mass), (-0.5, -0.5 * self.nu)

    @property
    def noise_cov(self) -> Matrix:
        return (self.friction, 0.0), (0.0, self.mass * self.nu)


def _check(sde: PhaseSpaceSDE) -> None:
    """Raise one line unless what all processes have in common is in range."""
    positive(sde.mass, "mass")
    if not (math.isfinite(sde.momentum) and sde.momentum >= 0.0):
        raise InvalidInput(f"momentum must be at least 0 and finite, got {sde.momentum}")
    if not isinstance(sde.schedule, Schedule):
        raise InvalidInput(f"schedule must be a noise schedule such as Constant(4.0), got {sde.schedule!r}")


@lru_cache(maxsize=1024)
def _noised(sde: PhaseSpaceSDE, target: Target, t: float) -> Target:
    from ...targets.gaussian import Gaussian
    from ...targets.gaussian_mixture import GaussianMixture

    transition, cov = sde.kernel(t)
    r = transition[:, 0]
    turned, added = torch.outer(r, r), torch.kron(cov, torch.eye(target.dim, dtype=torch.float64))
    if isinstance(target, Gaussian):
        return Gaussian(torch.kron(r, target.mean), torch.kron(turned, target.cov) + added)
    if isinstance(target, GaussianMixture):
        means = torch.stack([torch.kron(r, mean) for mean in target.means])
        return GaussianMixture(target.weights, means, torch.stack([torch.kron(turned, c) + added for c in target.covs]))
    raise Unsupported(f"{target.name} has no closed form after noising with a momentum, which Gaussians and their mixtures have")


def _matrix(xx: Tensor, xp: Tensor, px: Tensor, pp: Tensor) -> Tensor:
    """Entries of shape (...) as a matrix (..., 2, 2)."""
    return torch.stack((torch.stack((xx, xp), -1), torch.stack((px, pp), -1)), -2)
