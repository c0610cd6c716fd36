"""Plain Langevin misses the weights of distant modes; annealed Langevin finds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..laws.particles import Particles
from ..metrics.base import Estimate
from ..metrics.mode_weight_error import cell_masses, cells
from ..targets.gaussian_mixture import GaussianMixture
from .base import Case, Identity, Source
from .verdict import Row

#: False-alarm rate of one comparison, as a number of standard errors on either side: 5, 6e-7.
ERRORS = 5.0


@dataclass(frozen=True)
class AnnealedWeights(Identity):
    """The share of each mode after the last step is its weight, to within `tolerance` and 5 standard errors of the sample
    (false alarm 6e-7).

    It is no exact statement: annealed Langevin leaves each level before it has converged, and the tolerance is what is granted
    to that. On modes so far apart that Langevin dynamics crosses between them in no time that one can wait for, plain
    Langevin keeps the shares of its start and fails by far more.

    Arguments:
        tolerance: of each share, in (0, 1).
    """

    id: ClassVar[str] = "annealed-weights"
    statement: ClassVar[str] = "the share of each mode is its weight"
    source: ClassVar = Source(
        "Generative modeling by estimating gradients of the data distribution",
        "Song, Ermon",
        2019,
        "section 3.2.2 and Figure 3",
        "https://arxiv.org/abs/1907.05600",
    )
    instruments: ClassVar[str] = "P"
    quantity: ClassVar[str] = "share of a mode"
    useless: ClassVar[float] = 0.2

    tolerance: float = 0.05

    def hypotheses(self, case: Case) -> list[str]:
        if not isinstance(case.target, GaussianMixture):
            return [f"a mixture of Gaussians, got {case.target.name}"]
        last = case.laws[-1]
        return ["no particle has diverged"] if isinstance(last, Particles) and last.diverged > 0 else []

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        last = case.laws[-1]
        assert isinstance(last, Particles) and isinstance(case.target, GaussianMixture)
        masses, error = cell_masses(case.target, last.seed)
        shares = cells(last.x.double().cpu().numpy(), case.target) / last.n
        arms = ERRORS * np.sqrt(masses * (1 - masses) / last.n) + error
        return [
            Row.of(
                Estimate(float(s), max(0.0, float(s - a)), float(s + a)),
                factor * float(m),
                k=case.steps[-1],
                tolerance=self.tolerance,
                label=f"share of mode {i + 1}",
            )
            for i, (s, m, a) in enumerate(zip(shares, masses, arms, strict=True))
        ]
