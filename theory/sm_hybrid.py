"""Hybrid score matching of the velocity: one minimiser with denoising and explicit score matching, and less variance than the former."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidInput
from ..metrics.base import Estimate
from ..samplers.diffusion.phase_space import CLD
from ..targets.base import Batch
from ..targets.gaussian_mixture import GaussianMixture
from .base import Case, Identity, Source
from .phase_mixture import admit_times, coordinates, process
from .sm_quadrature import Network, Rule, average, interval, minus, mixture_rule, networks
from .verdict import Row

#: Nodes per axis: of (x_t, v_t, eps_v), and of (x_t, v_t).
JOINT, MARGINAL = 49, 97
#: Relative to the larger side.
TOLERANCE = 1e-9
#: Before it the marginal and the kernels are all but singular: their spread in x is a thousandth of that in v.
EARLIEST = 1e-3


class Losses:
    """The losses at one time, as quadratures over the variables of their kernels and over u_t = (x_t, v_t).

    Arguments:
        sde, t: the process and the time.
        data: the law of x_0 on the line.
        claimed: ``exact``; ``no_root``, ell^2 for ell; ``no_gamma``, as if v_0 were 0.
    """

    def __init__(self, sde: CLD, t: float, data: GaussianMixture, claimed: str = "exact") -> None:
        self.sde, self.t, self.data, self.claimed = sde, t, data, claimed
        u = sde.noised(data, t)
        assert isinstance(u, GaussianMixture)
        self.u = u
        self.spread = (sde.momentum * sde.mass) ** 0.5
        self.transition = sde.kernel(t).transition
        self.hybrid_factor, self.denoising_factor = sde.cholesky(t), sde.cholesky(t, fixed_momentum=True)
        self.exact = float(sde.ell(t))
        self.ell = {"exact": self.exact, "no_root": self.exact**2, "no_gamma": float(sde.ell(t, fixed_momentum=True))}[claimed]
        self.ell_denoising = float(sde.ell(t, fixed_momentum=True))

    def at_hybrid(self) -> tuple[Rule, float]:
        """(x_t, v_t, eps_v) from (x_0, eps_x, eps_v), and the factor of -eps_v in the score of the kernel given x_0, in v."""
        return self._rule(torch.column_stack((self.transition[:, :1], self.hybrid_factor))), self.ell

    def at_denoising(self) -> tuple[Rule, float]:
        """(x_t, v_t, eps_v) from (x_0, v_0, eps_x, eps_v), and the factor of -eps_v in the score of the kernel given x_0 and v_0."""
        columns = (self.transition[:, :1], self.spread * self.transition[:, 1:], self.denoising_factor)
        return self._rule(torch.column_stack(columns)), self.ell_denoising

    def _rule(self, to_u: Tensor) -> Rule:
        """The law of (x_t, v_t, eps_v), on which alone a loss depends: per component of the data an image of independent normals."""
        last = torch.zeros_like(to_u[:1])
        last[0, -1] = 1.0
        m = torch.cat((to_u, last))
        covs = [m[:, :1] * var * m[:, :1].T + m[:, 1:] @ m[:, 1:].T for var in self.data.covs[:, 0, 0]]
        return mixture_rule(GaussianMixture(self.data.weights, self.data.means * m[:, 0], covs), JOINT)

    def matching(self, s: Network) -> Estimate:
        """``E |s - grad_v log p_t|^2``."""
        return average(mixture_rule(self.u, MARGINAL), lambda u: (s(u)[:, 0] - self.u.score(u)[:, 1]) ** 2)[0]

    def gradient(self, s: Network) -> tuple[Estimate, Estimate]:
        """``|E g|^2`` of the gradient g of a loss, one and the same for all three losses, and ``E |ds/dtheta|^2``."""

        def integrand(u: Batch) -> Tensor:
            slope, miss = s.parameter_gradient(u), s(u) - self.u.score(u)[:, 1:]
            return torch.cat((2.0 * miss * slope, (slope**2).sum(1, keepdim=True)), 1)

        *mean, square = average(mixture_rule(self.u, MARGINAL), integrand)
        error = sum(2 * abs(m.value) * (m.upper - m.value) for m in mean)
        return interval(sum(m.value**2 for m in mean), error), square

    def moments(self, rule: Rule, ell: float, s: Network) -> tuple[Estimate, Estimate, Estimate]:
        """``E l``, ``E l^2`` and ``E |dl/dtheta|^2`` of the loss per draw, ``l = |s + ell eps_v|^2``."""

        def integrand(y: Batch) -> Tensor:
            u = y[:, :2]
            loss = (s(u)[:, 0] + ell * y[:, 2]) ** 2
            return torch.stack((loss, loss**2, 4.0 * loss * (s.parameter_gradient(u) ** 2).sum(1)), 1)

        first, second, gradient = average(rule, integrand, chunk=1 << 14)
        return first, second, gradient


@dataclass(frozen=True)
class SMHybrid(Identity):
    """With ``u_t = (x_t, v_t)`` of CLD from x_0 ~ pi and v_0 ~ N(0, gamma M I), and s any function of u_t::

        SM  = E |s - grad_v log p(u_t)|^2
        HSM = E |s - grad_v log p(u_t | x_0)|^2 = E |s + ell eps_v|^2,          ell  = sqrt(S_xx/(S_xx S_vv - S_xv^2))
        DSM = E |s - grad_v log p(u_t | x_0, v_0)|^2 = E |s + ell_0 eps_v|^2,   ell_0 the same at gamma = 0

        HSM - SM = ell^2 - E |grad_v log p(u_t)|^2,   DSM - HSM = ell_0^2 - ell^2 =: delta >= 0     (d = 1)

    S is the covariance of u_t given x_0, L its Cholesky factor, ``u_t = mean + L eps``, and ``L^-T eps`` ends in ``eps_v/L_vv``,
    ``1/L_vv = ell``. Each conditional score is the conditional mean of the next, ``grad log p(u | x_0) = E[grad log p(u | x_0, v_0) | u,
    x_0]``, so the losses differ by variances that no s enters: one minimiser, grad_v log p(u_t).

    That HSM has less variance is Rao and Blackwell's theorem. Given (u_t, x_0) the target of DSM is that of HSM plus an
    independent N(0, delta), since a Gaussian's conditional variance is a constant. With the losses l per draw and their gradients
    ``g = 2 (s - target) ds/dtheta`` in the parameters of s, ``E[g_DSM | u_t, x_0] = g_HSM``, and::

        tr Cov g_DSM - tr Cov g_HSM = 4 delta E |ds/dtheta|^2,    Var l_DSM - Var l_HSM = 4 delta HSM + 2 delta^2

    (``Cov g_DSM - Cov g_HSM`` is 4 delta E[ds ds^T], positive semidefinite.) All four are checked on random networks by quadratures over
    u_t and over (u_t, eps_v), the image of (x_0, eps_x, eps_v) or of (x_0, v_0, eps_x, eps_v); and ell against a solution of the
    linear system with S.

    `factor` multiplies the right sides.

    Arguments:
        mass, friction, momentum, beta: M, Gamma (critical where it is not given), gamma, beta of `CLD`.
        times: t, at least 0.001.
        networks: how many random s, at least 1.
        claimed: ``exact``; negative controls are ``no_root``, ell^2 in the place of ell in HSM's target, and ``no_gamma``, ell at
            gamma = 0 there.
    """

    statement: ClassVar[str] = (
        "HSM - SM = ell^2 - E|grad_v log p|^2, DSM - HSM = ell_0^2 - ell^2 for every s; tr Cov g falls by 4 (ell_0^2 - ell^2) E|ds/dtheta|^2"
    )
    source: ClassVar = Source(
        "Score-based generative modeling with critically-damped Langevin diffusion",
        "Dockhorn, Vahdat, Kreis",
        2022,
        "section 3.2 and the appendix on hybrid score matching",
        "https://arxiv.org/abs/2112.07068",
    )
    instruments: ClassVar[str] = "AGP"
    quantity: ClassVar[str] = "difference of losses"

    mass: float = 0.25
    friction: float | None = None
    momentum: float = 0.04
    beta: float = 4.0
    times: tuple[float, ...] = (0.02, 0.2, 0.6)
    networks: int = 2
    claimed: str = "exact"

    def __post_init__(self) -> None:
        _ = self.sde
        admit_times(self.times, EARLIEST)
        if self.networks < 1:
            raise InvalidInput(f"networks must be at least 1, got {self.networks}")
        if self.claimed not in ("exact", "no_root", "no_gamma"):
            raise InvalidInput(f"claimed must be exact, no_root or no_gamma, got {self.claimed!r}")

    @property
    def sde(self) -> CLD:
        """The process."""
        return process(self.mass, self.friction, self.momentum, self.beta)

    def hypotheses(self, case: Case) -> list[str]:
        if case.dim != 1 or coordinates(case.target) is None:
            return [f"a Gaussian or a mixture of Gaussians in d = 1, got {case.target.name} in d = {case.dim}"]
        return []

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        parts = coordinates(case.target)
        assert parts is not None
        found = []
        for t in self.times:
            losses = Losses(self.sde, t, parts[0], self.claimed)
            found.append(self._ell(losses, factor))
            for i, s in enumerate(networks(self.networks, "sm-hybrid", inputs=2, outputs=1)):
                found += self._compared(losses, s, factor, i)
        return found

    def _ell(self, losses: Losses, factor: float) -> Row:
        """``|grad_v log p(u_t | x_0)|`` at the unit vector eps_v, from S: ``L^T S^-1 ... = eps``."""
        cov, chol = self.sde.kernel(losses.t).cov.numpy(), losses.hybrid_factor.numpy()
        solved = float(np.linalg.solve(cov, chol @ np.array([0.7, 1.0]))[1])
        error = 1e-15 * float(np.linalg.cond(cov)) * abs(solved)
        return Row.of(interval(solved, error), factor * losses.ell, time=losses.t, tolerance=1e-10 * losses.ell, label=f"ell, t = {losses.t:g}")

    def _compared(self, losses: Losses, s: Network, factor: float, i: int) -> list[Row]:
        delta = losses.ell_denoising**2 - losses.exact**2
        explicit, (_, slope) = losses.matching(s), losses.gradient(s)
        hsm, hsm2, g_hsm = losses.moments(*losses.at_hybrid(), s)
        dsm, dsm2, g_dsm = losses.moments(*losses.at_denoising(), s)
        fisher = average(mixture_rule(losses.u, MARGINAL), lambda u: losses.u.score(u)[:, 1] ** 2)[0]
        var_hsm, var_dsm = _variance(hsm, hsm2), _variance(dsm, dsm2)
        compared = {
            "HSM - SM": (minus(hsm, explicit), losses.exact**2 - fisher.value, hsm.value, fisher.upper - fisher.value),
            "DSM - HSM": (minus(dsm, hsm), delta, dsm.value, 0.0),
            "tr Cov g, DSM - HSM": (minus(g_dsm, g_hsm), 4 * delta * slope.value, g_dsm.value, 4 * delta * (slope.upper - slope.value)),
            "Var l, DSM - HSM": (minus(var_dsm, var_hsm), 4 * delta * hsm.value + 2 * delta**2, dsm2.value, 4 * delta * (hsm.upper - hsm.value)),
        }
        return [
            Row.of(measured, factor * stated, time=losses.t, tolerance=TOLERANCE * abs(scale) + slack, label=f"{what}, t = {losses.t:g}, network {i}")
            for what, (measured, stated, scale, slack) in compared.items()
        ]

    @property
    def instrument(self) -> str:
        """Quadratures over kernels in closed form: no chain is involved."""
        return "Q"


def _variance(first: Estimate, second: Estimate) -> Estimate:
    """``E l^2 - (E l)^2``."""
    square = interval(first.value**2, 2 * abs(first.value) * (first.upper - first.value))
    return minus(second, square)
