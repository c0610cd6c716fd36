"""Optimal scaling on isotropic Gaussians without sampling error: acceptance and expected squared jump as integrals.

Stationary chain on N(0, I_d), one step. In each case the log ratio is a quadratic form in Gaussian coordinates, which the
symmetry of the target reduces to one or two dimensions; the inner integral over a chi-square variable is closed form:

``E min(1, e^(A - B w)) = F_k(A/B) + e^A (1 + 2 B)^(-k/2) [1 - F_k((1 + 2 B) A/B)]``, w ~ chi2_k, B > 0, F_k its distribution
function (the two terms swap sides where B < 0); with a factor w inside, k becomes k + 2 and the whole is times k.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy  # its parts are loaded where they are used
from scipy import special


def _chi2_nodes(k: int, n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights for the density of chi2_k, all but 1e-14 of it at either end."""
    u, w = np.polynomial.legendre.leggauss(n)
    lo, hi = 2 * float(special.gammaincinv(k / 2, 1e-14)), 2 * float(special.gammainccinv(k / 2, 1e-14))
    x = 0.5 * (hi - lo) * u + 0.5 * (hi + lo)
    return x, 0.5 * (hi - lo) * w * np.exp((k / 2 - 1) * np.log(x / 2) - x / 2 - special.gammaln(k / 2)) / 2


def _below_one(a: np.ndarray, b: float, k: int) -> np.ndarray:
    """``E min(1, e^(a - b w))``, w ~ chi2_k, b not 0, 1 + 2 b > 0."""
    at = np.maximum(a / b, 0.0)
    if b > 0:
        certain, rest = special.gammainc(k / 2, at / 2), special.gammaincc(k / 2, at * (0.5 + b))
    else:
        certain, rest = special.gammaincc(k / 2, at / 2), special.gammainc(k / 2, at * (0.5 + b))
    with np.errstate(divide="ignore"):
        return np.asarray(certain + np.exp(a - 0.5 * k * np.log1p(2 * b) + np.log(rest)))


def random_walk(variance: float, d: int) -> tuple[float, float]:
    """(acceptance, jump) of random-walk Metropolis: given |z|^2 = s the acceptance is ``2 Phi(-sigma sqrt(s) / 2)``."""
    s, w = _chi2_nodes(d)
    a = 2 * special.ndtr(-np.sqrt(variance * s) / 2)
    return float(w @ a), float(w @ (a * variance * s))


def mala(h: float, d: int) -> tuple[float, float]:
    """(acceptance, jump) of MALA: ``log ratio = h (|x|^2 - |y|^2) / 4``, in (|x|^2, x.z/|x|, the rest of |z|^2)."""
    s, ws = _chi2_nodes(d)
    g, wg = np.polynomial.hermite_e.hermegauss(80)
    x, z, w = s[:, None], g[None, :], ws[:, None] * wg[None, :] / np.sqrt(2 * np.pi)
    cross, b = np.sqrt(2 * h * x) * z, 0.5 * h * h
    a = h / 4 * (x * (1 - (1 - h) ** 2) - 2 * (1 - h) * cross - 2 * h * z * z)
    inner, weighted = _below_one(a, b, d - 1), (d - 1) * _below_one(a, b, d + 1)
    jump = inner * (h * h * x - 2 * h * cross + 2 * h * z * z) + 2 * h * weighted
    return float((w * inner).sum()), float((w * jump).sum())


def hmc(eps: float, d: int, leapfrog_steps: float) -> tuple[float, float]:
    """(acceptance, jump) of HMC: L leapfrog steps are a 2 x 2 matrix P in each (x_i, p_i), and the energy error the
    quadratic form of ``(P^T P - I)/2``, whose two eigenvectors carry independent chi2_d variables."""
    k = 1 - eps**2 / 4
    angle = leapfrog_steps * np.arccos(1 - eps**2 / 2)
    c, s = np.cos(angle), np.sin(angle)
    p = np.array([[c, s / np.sqrt(k)], [-np.sqrt(k) * s, c]])
    rates, basis = np.linalg.eigh(0.5 * (p.T @ p - np.eye(2)))
    q = (basis.T @ (p[0] - np.array([1.0, 0.0]))) ** 2
    u, w = _chi2_nodes(d)
    a = _below_one(-rates[0] * u, float(rates[1]), d)
    return float(w @ a), float(q[0] * (w @ (u * a)) + q[1] * d * (w @ _below_one(-rates[0] * u, float(rates[1]), d + 2)))


def best(curve: Callable[[float], tuple[float, float]], near: float) -> tuple[float, float]:
    """(step, acceptance) where the jump is largest, within a factor 20 of `near`."""
    bounds = np.log(near) - 3.0, np.log(near) + 3.0
    found = scipy.optimize.minimize_scalar(lambda u: -curve(float(np.exp(u)))[1], bounds=bounds, method="bounded", options={"xatol": 1e-9})
    step = float(np.exp(found.x))
    return step, curve(step)[0]


def limit_acceptance(power: float) -> float:
    """The acceptance that is best as d tends to infinity, where it is ``2 Phi(-s)`` and the jump ``s^power 2 Phi(-s)``.

    power: 2 (random walk: s ~ sigma), 2/3 (MALA: s ~ h^(3/2)), 1/2 (HMC at a fixed trajectory: s ~ eps^2, gain ~ eps).
    """
    s = scipy.optimize.minimize_scalar(lambda s: -power * np.log(s) - special.log_ndtr(-s), bounds=(1e-3, 5.0), method="bounded").x
    return float(2 * special.ndtr(-s))
