"""Metropolis kernels leave the target fixed, rejection mass included: on a mesh to rounding, on samples by a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ..laws.grid import Grid
from ..laws.particles import Particles
from ..metrics.base import Estimate
from ..samplers.metropolis import Metropolis
from ..samplers.noise import Stream
from ..targets.base import Batch, Target
from .base import Case, Identity, Source
from .verdict import Row

HASTINGS = Source(
    "Monte Carlo sampling methods using Markov chains and their applications",
    "Hastings",
    1970,
    "section 2.2",
    "https://doi.org/10.1093/biomet/57.1.97",
)


#: False-alarm rate of the test on samples, over the rows of a cell.
FALSE_ALARM = 1e-6


@dataclass(frozen=True)
class MHStationary(Identity):
    """General Metropolis-Hastings: pi is stationary, and on a mesh pi and P are in detailed balance.

    Grid: ``pi P = pi`` and ``pi_i P_ij = pi_j P_ji`` for the kernel on the mesh, assembled from the proposal's density and
    the acceptance, whose diagonal holds the rejection mass.
    Particles: from exact draws, after k of the simulated steps, the largest difference between the distribution functions
    of chain and fresh exact draws (Kolmogorov-Smirnov), of V and of the projections on the diagonal (1, ..., 1) and on the
    first axis. The stated side is 0, the tolerance the critical value t at a false-alarm rate of 1e-6 over the r rows of a
    cell: ``2 exp(-n t^2) = 1e-6 / r`` for two samples of n. Distribution functions that differ by 2.5 t (0.10 at n = 10,000)
    are told apart with probability ``1 - 1e-6``: each sample strays by more than 0.75 t with half of that. This runs what
    the mesh does not: the proposals as drawn, and accept or reject as coded.

    Arguments:
        rejection: off, the rejection mass is left out: the diagonal of the kernel on a mesh is empty, as in the transition
            probability printed in the lecture notes (docs/errata.md, 4), and the simulated chain takes every proposal. A
            negative control.

    References: Wei, Dudley, "Two-sample Dvoretzky-Kiefer-Wolfowitz inequalities" (2012), Theorem 1, for n >= 458,
        https://arxiv.org/abs/1107.5356
    """

    id: ClassVar[str] = "mh-stationary"
    statement: ClassVar[str] = "pi P = pi and pi(x) P(x, y) = pi(y) P(y, x), the rejection mass on the diagonal of P"
    source: ClassVar = HASTINGS
    samplers: ClassVar[tuple[str, ...]] = ("random_walk", "independence", "autoregressive", "hmc")
    instruments: ClassVar[str] = "GP"

    rejection: bool = True

    def hypotheses(self, case: Case) -> list[str]:
        if not isinstance(case.sampler, Metropolis) and (isinstance(case.start, Grid) or not self.rejection):
            return [f"a Metropolis kernel, got {case.sampler.name}"]
        if not isinstance(case.start, Particles):
            return []
        if "sample" not in case.target.capabilities:
            return [f"exact draws of the target, which {case.target.name} does not provide"]
        if case.start.n < 458:
            return [f"at least 458 particles, got {case.start.n}"]
        at_start = self._differences(case, [(0, case.start.x)])
        return [] if all(d <= tolerance for _, _, d, tolerance in at_start) else ["starts at pi (start: target)"]

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        if isinstance(case.start, Particles):
            laws = [(k, law.x) for k, law in zip(case.steps, case.laws, strict=True) if k > 0 and isinstance(law, Particles)]
            if not self.rejection:
                laws = self._without_rejection(case, [k for k, _ in laws])
            return [
                Row.of(Estimate(d, d, d), 0.0, k=k, time=k * case.h, tolerance=tolerance, label=label)
                for k, label, d, tolerance in self._differences(case, laws)
            ]
        assert isinstance(case.start, Grid) and isinstance(case.sampler, Metropolis)
        mesh = case.start.mesh
        kernel, _ = case.sampler.kernel(case.target, mesh)
        if not self.rejection:
            np.fill_diagonal(kernel, 0.0)
        pi = Grid.of_target(case.target, mesh).density * mesh.cell
        moved = float(np.abs(pi @ kernel - pi).sum() / 2)
        flux = pi[:, None] * kernel
        asymmetry = float(np.abs(flux - flux.T).sum() / 2)
        return [
            Row.of(Estimate.within(value, 1e-15), 0.0, k=1, time=case.h, tolerance=1e-12, label=label)
            for value, label in ((moved, "TV(pi P, pi)"), (asymmetry, "flux asymmetry"))
        ]

    @staticmethod
    def _differences(case: Case, laws: list[tuple[int, Batch]]) -> list[tuple[int, str, float, float]]:
        """(step, what, Kolmogorov-Smirnov distance to fresh draws, its critical value) of each sample."""
        from scipy import stats

        seed = case.start.seed  # type: ignore[union-attr]
        found = []
        for k, x in laws:
            fresh = case.target.sample(len(x), Stream(seed, "fresh", case.target.id, k, dtype=x.dtype, device=str(x.device)))
            mine, theirs = _statistics(case.target, x), _statistics(case.target, fresh)
            found += [(k, what, float(stats.ks_2samp(mine[what], theirs[what], method="asymp").statistic), len(x)) for what in mine]
        return [(k, f"KS of {what}", d, float(np.sqrt(np.log(2 * len(found) / FALSE_ALARM) / n))) for k, what, d, n in found]

    @staticmethod
    def _without_rejection(case: Case, steps: list[int]) -> list[tuple[int, Batch]]:
        """The chain that takes every proposal."""
        assert isinstance(case.start, Particles) and isinstance(case.sampler, Metropolis)
        x, laws = case.start.x, []
        stream = Stream(case.start.seed, case.sampler.id, case.target.id, dtype=x.dtype, device=str(x.device))
        for k in range(1, max(steps) + 1):
            x = case.sampler.propose(case.target, x, stream.at(k))
            if k in steps:
                laws.append((k, x))
        return laws


def _statistics(target: Target, x: Batch) -> dict[str, np.ndarray]:
    """Numbers per particle whose laws are compared."""
    found = {"V": target.potential(x), "x_1 + ... + x_d": x.sum(1)} | ({"x_1": x[:, 0]} if x.shape[1] > 1 else {})
    return {what: torch.nan_to_num(values, nan=torch.inf).cpu().numpy() for what, values in found.items()}


@dataclass(frozen=True)
class MALAStationary(MHStationary):
    """The same for MALA."""

    id: ClassVar[str] = "mala-stationary"
    samplers: ClassVar[tuple[str, ...]] = ("mala",)
