"""Log-Sobolev constants of quartic sites on a lattice."""

from __future__ import annotations

import math

from .base import Constant


def log_sobolev(curvature: float, quartic: float, sites: int, stiffness: float = 0.0, coupling: float = 0.0) -> Constant:
    """A lower bound for the log-Sobolev constant of ``V = sum_i (h x_i^2 / 2 + k x_i^4 / 4 + b x_i) + x^T C x / 2``.

    Of one site: let ``U' = c x`` where the site's slope ``h x + k x^3`` is below it and U' that slope beyond, U even. U is
    c-convex for c >= h (the slope grows by ``3 k x^2 + h >= c`` beyond), and the oscillation of the difference is
    ``(c - h)^2 / (4 k)``, whatever the linear term.

    All sites at once: with ``C >= s`` the constant is at least ``(c + s) exp(-sites (c - h)^2 / (4 k))`` (Holley-Stroock), best
    at ``(c + s)(c - h) = 2 k / sites``. Site by site: a site given its neighbours has curvature ``h + C_ii`` and any linear
    term, so with one site's constant r the chain has at least ``r - max_i sum_j |C_ij|`` (Otto, Reznikoff, Theorem 1). The
    larger of the two.

    Arguments:
        curvature, quartic: h, any sign, and k > 0.
        sites: their number.
        stiffness: s, a lower bound for C.
        coupling: ``C_ii = sum_{j != i} |C_ij|``, the same for all sites; 0 leaves the second way out.

    References: Holley, Stroock, "Logarithmic Sobolev inequalities and stochastic Ising models" (1987),
        https://doi.org/10.1007/BF01011161; Otto, Reznikoff, "A new criterion for the logarithmic Sobolev inequality and two
        applications" (2007), Theorem 1, https://doi.org/10.1016/j.jfa.2006.10.002
    """
    at_once = _perturbed(curvature, quartic, sites, stiffness)
    one_by_one = _perturbed(curvature + coupling, quartic, 1, 0.0) - coupling if coupling > 0 else 0.0
    if one_by_one > at_once:
        return Constant(one_by_one, "bound", "Otto-Reznikoff criterion, Holley-Stroock for each site")
    return Constant(at_once, "bound", "Holley-Stroock for all sites at once")


def _perturbed(h: float, k: float, sites: int, s: float) -> float:
    c = (h - s + math.sqrt((h + s) ** 2 + 8 * k / sites)) / 2
    return (c + s) * math.exp(-sites * (c - h) ** 2 / (4 * k))
