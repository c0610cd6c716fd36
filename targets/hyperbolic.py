"""The hyperbolic density: a Poincare inequality and no log-Sobolev inequality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import scipy  # its parts are loaded where they are used
import torch

from .base import Batch, Constant, Values
from .one_dimensional import OneDimensional


@dataclass(frozen=True, eq=False)
class Hyperbolic(OneDimensional):
    """``V(x) = sqrt(1 + x^2)``: exponential tails, so a Poincare inequality holds and no log-Sobolev inequality does.

    ``V'' = (1 + x^2)^(-3/2)`` lies in (0, 1]. The spectrum is continuous from 1/4 on, so the Poincare constant is at
    most 1/4; from below it is bounded by the variational formula ``inf_x [V'^2/4 + V''/2 - u''/u]`` with the test
    function ``u = (c + x^2)^(1/4)``, c chosen to maximise it.

    References: M.-F. Chen, "Eigenvalues, Inequalities, and Ergodic Theory" (2005), chapter 1 (variational formula for the
        lower bound of the spectral gap), https://doi.org/10.1007/1-84628-169-4

    Versions:
        Barndorff-Nielsen 1977 (https://doi.org/10.1098/rspa.1977.0041): exp(-alpha sqrt(delta^2 + (x - mu)^2) + beta (x - mu)); here
            alpha = delta = 1, beta = mu = 0.
    """

    def potential(self, x: Batch) -> Values:
        return torch.sqrt(1.0 + x[:, 0] ** 2)

    def score(self, x: Batch) -> Batch:
        return -x / torch.sqrt(1.0 + x * x)

    @cached_property
    def constants(self) -> Mapping[str, Constant]:
        c = _best_shift()
        return {
            "m": Constant(0.0, "exact", "infimum of V'', approached at infinity"),
            "M": Constant(1.0, "exact", "V'' at 0"),
            "poincare": Constant(poincare_lower_bound(c), "bound", f"Chen's variational formula, u = ({c:.3g} + x^2)^(1/4)"),
        }


@cache
def poincare_lower_bound(c: float) -> float:
    """``inf_x [V'^2/4 + V''/2 - u''/u]`` over x >= 0 for u = (c + x^2)^(1/4), less 1e-6 for the mesh it is read from."""
    x = np.linspace(0.0, 60.0, 60001)
    s = 1.0 + x * x
    value = x * x / (4 * s) + 0.5 * s**-1.5 - (0.5 * c - 0.25 * x * x) / (c + x * x) ** 2
    return float(value.min()) - 1e-6  # beyond x = 60 the expression is within 1e-4 of 1/4 and increasing


@cache
def _best_shift() -> float:
    """The c that maximises `poincare_lower_bound`."""
    return float(scipy.optimize.minimize_scalar(lambda c: -poincare_lower_bound(c), bounds=(1.0, 40.0), method="bounded").x)
