"""The symmetric double well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from .base import Batch, Constant, Constants, Values
from .one_dimensional import OneDimensional
from .spectrum import spectral_gap


@dataclass(frozen=True, eq=False)
class DoubleWell(OneDimensional):
    """``V(x) = (x^2 - 1)^2``: wells at +-1, barrier 1 at 0; ``V'' = 12 x^2 - 4 >= -4``, not smooth at infinity.

    The log-Sobolev constant is bounded by Holley-Stroock with U' = max(V', c x) on the right half: the oscillation of
    U - V is ``(c + 4)^2 / 16``, and ``c exp(-(c + 4)^2 / 16)`` is largest at ``c = sqrt(12) - 2``.

    References: Holley, Stroock, "Logarithmic Sobolev inequalities and stochastic Ising models" (1987),
        https://doi.org/10.1007/BF01011161

    Versions:
        Richter, Berner 2024 (https://arxiv.org/abs/2307.01198): (x^2 - delta)^2 in several coordinates, delta = 2 or 4: `multi_well`
            here; with one coordinate and delta = 1 it is this density.
        Noe, Olsson, Koehler, Wu 2019 (https://doi.org/10.1126/science.aaw1147): a tilted well beside a harmonic coordinate: see `many_well`.
    """

    def potential(self, x: Batch) -> Values:
        return ((x[:, 0] ** 2 - 1.0) ** 2).contiguous()

    def score(self, x: Batch) -> Batch:
        return -4.0 * x * (x * x - 1.0)

    @cached_property
    def constants(self) -> Mapping[str, Constant]:
        c = np.sqrt(12.0) - 2.0
        return Constants(
            m=Constant(-4.0, "exact", "V'' at the barrier"),
            lsi=Constant(float(c * np.exp(-((c + 4) ** 2) / 16)), "bound", "Holley-Stroock, closed form"),
            poincare=partial(spectral_gap, self),
        )
