"""Denoising score matching is explicit score matching at the noised density, up to a constant that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import InvalidInput
from ..targets.base import Batch, Target
from .base import Case, Identity, Source
from .sm_quadrature import Network, Rule, average, minus, networks, normal_rule, on_the_line_or_plane, target_rule
from .verdict import Row

#: Nodes per axis: of the target, of the noise, of the noised density. In the plane the product has four axes.
NODES = {1: (801, 129, 1601), 2: (41, 41, 201)}
#: Relative to the larger loss; the networks' rounding.
TOLERANCE = 1e-9


class Convolved:
    """``q_sigma(x) = int pi(x_0) N(x; x_0, sigma^2) dx_0`` on the line, and its score ``E[x_0 - x | x]/sigma^2``, by quadrature."""

    def __init__(self, rule: Rule, sigma: float) -> None:
        self.rule, self.sigma = rule, sigma

    def posterior(self, x: Batch) -> tuple[Tensor, Tensor]:
        """log q_sigma up to a constant, shape (N,), and the score, (N, 1)."""
        logs = self.rule.w.clamp(min=1e-300).log() - 0.5 * ((x - self.rule.x[:, 0]) / self.sigma) ** 2
        return torch.logsumexp(logs, 1), (torch.softmax(logs, 1) @ self.rule.x - x) / self.sigma**2

    def nodes(self, count: int) -> Rule:
        """The rule of q_sigma: the target's box, wider by nine deviations of the noise on either side."""
        lo, hi = float(self.rule.x.min()) - 9.0 * self.sigma, float(self.rule.x.max()) + 9.0 * self.sigma
        i = torch.arange(count)
        x = torch.linspace(lo, hi, count, dtype=torch.float64)[:, None]
        logs = self.posterior(x)[0]
        return Rule(x, torch.exp(logs - logs.max()), (i % 2 == 0).long() + (i % 4 == 0).long())


@dataclass(frozen=True)
class SMDSM(Identity):
    """``J_DSM(s) - J_ESM(s) = 1/2 (d/sigma^2 - J(q))`` for every s, where q is the target noised by sigma, x = x_0 + sigma z::

        J_DSM(s) = 1/2 E |s(x) - grad log N(x; x_0, sigma^2 I)|^2 = 1/2 E |s(x_0 + sigma z) + z/sigma|^2
        J_ESM(s) = 1/2 E_q |s - grad log q|^2,    J(q) = E_q |grad log q|^2

    The score of q is the mean of the kernel's score given x, ``grad log q(x) = E[-z/sigma | x]``, so that
    ``J_DSM - J_ESM = 1/2 E |-z/sigma - grad log q(x)|^2``, which no s enters. As ``E z.grad log q(x) = -sigma J(q)`` it is the constant
    above. J_DSM is a quadrature over (x_0, z), J_ESM and J(q) over x; on the line q and its score come in closed form where
    the target has one after noising, else from a quadrature over x_0; in the plane a closed form is required.

    `factor` multiplies the constant.

    Arguments:
        networks: how many random s (`sm_quadrature.Network`), at least 1.
        sigmas: noise levels, positive.
        power: of sigma in the target -z/sigma^power of J_DSM. 2, as printed in some notes, is a negative control.
        explicit: the coefficient of J_ESM in the place of its 1/2. 1 beside 1/2 in J_DSM is a negative control.
    """

    statement: ClassVar[str] = "J_DSM(s) - J_ESM(s) = 1/2 (d/sigma^2 - J(q_sigma)) for every s"
    source: ClassVar = Source(
        "A connection between score matching and denoising autoencoders",
        "Vincent",
        2011,
        "section 4.2, eq. 11, and the appendix",
        "https://doi.org/10.1162/NECO_a_00142",
    )
    instruments: ClassVar[str] = "AGP"
    quantity: ClassVar[str] = "J_DSM - J_ESM"

    networks: int = 8
    sigmas: tuple[float, ...] = (0.3, 1.0, 3.0)
    power: float = 1.0
    explicit: float = 0.5

    def __post_init__(self) -> None:
        if self.networks < 1:
            raise InvalidInput(f"networks must be at least 1, got {self.networks}")
        if not self.sigmas or not all(0 < s < float("inf") for s in self.sigmas):
            raise InvalidInput(f"sigmas must be positive finite numbers, got {list(self.sigmas)}")

    def hypotheses(self, case: Case) -> list[str]:
        unmet = on_the_line_or_plane(case.target)
        if not unmet and case.dim == 2 and "diffused" not in case.target.capabilities:
            return [f"in d = 2 a closed form after noising, and {case.target.name} has none"]
        return unmet

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        target, d = case.target, case.dim
        n_target, n_noise, n_noised = NODES[d]
        data, noise = target_rule(target, n_target), normal_rule(d, n_noise)
        nets, found = networks(self.networks, "sm-dsm", d, inputs=d, outputs=d), []
        for sigma in self.sigmas:
            rule, score = _noised(target, data, sigma, n_noised)
            j_dsm = average(data.times(noise), self._denoising(nets, sigma, d))
            *j_esm, fisher = average(rule, self._explicit(nets, score))
            constant, slack = 0.5 * (d / sigma**2 - fisher.value), 0.5 * (fisher.upper - fisher.value)
            for i, (a, b) in enumerate(zip(j_dsm, j_esm, strict=True)):
                tolerance = TOLERANCE * max(abs(a.value), abs(b.value)) + slack
                label = f"{self.quantity}, sigma = {sigma:g}, network {i}"
                found.append(Row.of(minus(a, b), factor * constant, x=sigma, tolerance=tolerance, label=label))
        return found

    def _denoising(self, nets: list[Network], sigma: float, d: int) -> Callable[[Batch], Tensor]:
        """The summand of J_DSM at (x_0, z), a column per network."""

        def loss(x: Batch) -> Tensor:
            x0, z = x[:, :d], x[:, d:]
            return torch.stack([0.5 * ((s(x0 + sigma * z) + z / sigma**self.power) ** 2).sum(1) for s in nets], 1)

        return loss

    def _explicit(self, nets: list[Network], score: Callable[[Batch], Batch]) -> Callable[[Batch], Tensor]:
        """The summand of J_ESM at x, a column per network, and that of J(q)."""

        def loss(x: Batch) -> Tensor:
            truth = score(x)
            return torch.stack([*(self.explicit * ((s(x) - truth) ** 2).sum(1) for s in nets), (truth**2).sum(1)], 1)

        return loss

    @property
    def instrument(self) -> str:
        """Quadratures over the target: no chain is involved."""
        return "Q"


def _noised(target: Target, data: Rule, sigma: float, nodes: int) -> tuple[Rule, Callable[[Batch], Batch]]:
    """The rule of q_sigma and its score: in closed form, or by quadrature over the data."""
    if "diffused" in target.capabilities:
        q = target.diffused(1.0, sigma**2)
        return target_rule(q, nodes), q.score
    q_on_line = Convolved(data, sigma)
    return q_on_line.nodes(nodes), lambda x: q_on_line.posterior(x)[1]
