"""Implicit score matching is explicit score matching up to minus half the Fisher information."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..errors import InvalidInput
from ..targets.base import Batch
from .base import Case, Identity, Source
from .sm_quadrature import average, networks, on_the_line_or_plane, target_rule
from .verdict import Row

#: Nodes per axis.
NODES = {1: 4001, 2: 401}
#: Relative to the explicit loss and the Fisher information.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class SMISM(Identity):
    """``E_pi [1/2 |s|^2 + tr grad s] - 1/2 E_pi |s - grad log pi|^2 = -1/2 J(pi)`` for every s, ``J(pi) = E_pi |grad log pi|^2``.

    Expanding the square leaves ``-E s.grad log pi = E div s``, an integration by parts: pi s must vanish far out, and pi and s have
    derivatives that are integrable. Checked on random networks, which are no gradients (the statement does not ask for it), and on
    the minimiser ``s = grad log pi`` itself, whose divergence is -tr Hess V: there it reads ``J(pi) = E tr Hess V``. (It would fail
    where V has a kink: the score jumps there. Targets without an M are refused.)

    `factor` multiplies the constant.

    Arguments:
        networks: how many random s (`sm_quadrature.Network`), at least 1.
        norm: the coefficient of |s|^2 in the implicit loss. 1, the half forgotten, is a negative control.
    """

    statement: ClassVar[str] = "E[1/2 |s|^2 + tr grad s] - 1/2 E|s - grad log pi|^2 = -1/2 J(pi) for every s"
    source: ClassVar = Source(
        "Some extensions of score matching",
        "Hyvarinen",
        2007,
        "section 2, which recalls Theorem 1 of Hyvarinen 2005",
        "https://doi.org/10.1016/j.csda.2006.09.003",
    )
    instruments: ClassVar[str] = "AGP"
    quantity: ClassVar[str] = "implicit - explicit"

    networks: int = 8
    norm: float = 0.5

    def __post_init__(self) -> None:
        if self.networks < 1:
            raise InvalidInput(f"networks must be at least 1, got {self.networks}")

    def hypotheses(self, case: Case) -> list[str]:
        return on_the_line_or_plane(case.target)

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        target, d = case.target, case.dim
        nets = networks(self.networks, "sm-ism", d, inputs=d, outputs=d)

        def losses(x: Batch) -> torch.Tensor:
            truth, trace = target.score(x), -torch.diagonal(target.hessian(x), dim1=1, dim2=2).sum(1)
            pairs = [(s(x), torch.diagonal(s.jacobian(x), dim1=1, dim2=2).sum(1)) for s in nets] + [(truth, trace)]
            differences = [self.norm * (s**2).sum(1) + div - 0.5 * ((s - truth) ** 2).sum(1) for s, div in pairs]
            return torch.stack([*differences, (truth**2).sum(1), *(((s - truth) ** 2).sum(1) for s, _ in pairs)], 1)

        found = average(target_rule(target, NODES[d]), losses)
        names = [f"network {i}" for i in range(len(nets))] + ["the score itself"]
        gaps, fisher, sizes = found[: len(names)], found[len(names)], found[len(names) + 1 :]
        slack = 0.5 * (fisher.upper - fisher.value)
        return [
            Row.of(gap, -0.5 * factor * fisher.value, tolerance=TOLERANCE * (size.value + fisher.value) + slack, label=f"{self.quantity}, {name}")
            for gap, size, name in zip(gaps, sizes, names, strict=True)
        ]

    @property
    def instrument(self) -> str:
        """Quadratures over the target: no chain is involved."""
        return "Q"
