"""The forward process forgets: KL of the noised law from the prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..laws.grid import Grid
from ..laws.normal import Normal
from ..metrics.base import Estimate
from ..metrics.kl import KL
from ..samplers.diffusion.forward import VP
from ..samplers.diffusion.reverse import Reverse
from ..targets.base import Target
from ..targets.gaussian import Gaussian
from ..targets.mesh import Mesh
from .base import Bound, Case
from .sources import bakry_gentil_ledoux
from .verdict import Row

#: Nodes of the mesh on which densities on the line are compared.
NODES = 1201


def divergence(p: Target, q: Target) -> Estimate:
    """``KL(p || q)`` of two targets: in closed form between Gaussians, on a mesh on the line."""
    if p.is_gaussian and q.is_gaussian:
        return KL().between(*(Normal(*(moment.numpy() for moment in law.moments)) for law in (p, q)))  # type: ignore[union-attr]
    ends = [law.extent() for law in (p, q)]
    lo, hi = (float(f(e[i][0] for e in ends)) for i, f in ((0, min), (1, max)))
    mesh = Mesh((lo,), (hi,), NODES)
    return KL().between(Grid.of_target(p, mesh), Grid.of_target(q, mesh))


@dataclass(frozen=True)
class OUKL(Bound):
    """``KL(q_t || N(0, I)) <= exp(-B(t)) KL(q_0 || N(0, I))``, ``B = int_0^t beta``, for the VP process; ``exp(-2t)`` for
    ``dx = -x dt + sqrt(2) dB``: the log-Sobolev inequality of N(0, I), of constant 1.

    Compared at the times of a reverse sampler; the law that the case carries is not looked at.
    """

    id: ClassVar[str] = "ou-kl"
    statement: ClassVar[str] = "KL(q_t | N(0, I)) <= exp(-int beta) KL(q_0 | N(0, I))"
    source: ClassVar = bakry_gentil_ledoux("Theorem 5.2.1")
    instruments: ClassVar[str] = "AGP"
    quantity: ClassVar[str] = "kl of the forward law"
    metric: ClassVar = KL()

    @property
    def instrument(self) -> str:
        """Densities known in closed form."""
        return "Q"

    def hypotheses(self, case: Case) -> list[str]:
        if not isinstance(case.sampler, Reverse) or not isinstance(case.sampler.forward, VP):
            return [f"a sampler of a variance-preserving process (process: vp), got {case.sampler.name}"]
        known = case.target.is_gaussian or (case.dim == 1 and "diffused" in case.target.capabilities)
        return [] if known else ["a Gaussian target, or one on the line with a closed form after noising"]

    def bound(self, case: Case) -> np.ndarray:
        assert isinstance(case.sampler, Reverse)
        start = divergence(case.target, Gaussian.isotropic(case.dim)).upper
        return np.array([case.sampler.forward.scale(t) ** 2 * start for t in case.sampler.times])

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        assert isinstance(case.sampler, Reverse)
        prior, process = Gaussian.isotropic(case.dim), case.sampler.forward
        return [
            Row.of(divergence(process.noised(case.target, t), prior), float(b), k=k, time=t, label=self.quantity)
            for k, (t, b) in enumerate(zip(case.sampler.times, factor * self.bound(case), strict=True), 1)
            if t > 0
        ]
