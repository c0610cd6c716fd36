"""Contraction of the Langevin diffusion in W2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..metrics.w2 import W2
from .base import Bound, Case, needs
from .sources import chewi


@dataclass(frozen=True)
class LDW2(Bound):
    """``W2(mu_t, pi) <= exp(-m t) W2(mu_0, pi)`` for m-strongly log-concave pi; an equality for a shifted isotropic Gaussian."""

    statement: ClassVar[str] = "W2(mu_t, pi) <= exp(-m t) W2(mu_0, pi)"
    source: ClassVar = chewi("Theorem 1.4.10")
    samplers: ClassVar[tuple[str, ...]] = ("langevin_diffusion",)
    instruments: ClassVar[str] = "AGC"
    metric: ClassVar = W2()

    def hypotheses(self, case: Case) -> list[str]:
        return needs(case, m="strongly log-concave")

    def bound(self, case: Case) -> np.ndarray:
        m, t = case.constant("m"), case.t
        return np.asarray(np.exp(-m * t) * case.initial(self.metric))
