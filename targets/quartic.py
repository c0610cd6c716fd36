"""The quartic well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from .base import Batch, Constant, Constants, Values
from .one_dimensional import OneDimensional
from .spectrum import spectral_gap


@dataclass(frozen=True, eq=False)
class Quartic(OneDimensional):
    """``V(x) = x^4 / 4``: convex, flat at the bottom, steeper than any quadratic: the gradient is not Lipschitz.

    The log-Sobolev constant is bounded by Holley-Stroock with U' = max(x^3, c x) on the right half: the oscillation of
    U - V is ``c^2 / 4``, and ``c exp(-c^2 / 4)`` is largest at ``c = sqrt(2)``.

    References: Holley, Stroock, "Logarithmic Sobolev inequalities and stochastic Ising models" (1987),
        https://doi.org/10.1007/BF01011161

    Versions:
        Roberts, Tweedie 1996 (https://doi.org/10.2307/3318418): the class exp(-gamma |x|^beta); here beta = 4, gamma = 1/4, where
            their unadjusted chain is transient at every step size.
    """

    def potential(self, x: Batch) -> Values:
        return x[:, 0] ** 4 / 4.0

    def score(self, x: Batch) -> Batch:
        return -(x**3)

    @cached_property
    def constants(self) -> Mapping[str, Constant]:
        return Constants(
            m=Constant(0.0, "exact", "V'' = 3 x^2 at the bottom"),
            lsi=Constant(float(np.sqrt(2.0) * np.exp(-0.5)), "bound", "Holley-Stroock, closed form"),
            poincare=partial(spectral_gap, self),
        )
