"""A skewed, strongly log-concave density."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import torch

from ..errors import InvalidInput
from .base import Batch, Constant, Constants, Values
from .one_dimensional import OneDimensional
from .spectrum import spectral_gap


@dataclass(frozen=True, eq=False)
class SkewLogistic(OneDimensional):
    """``V(x) = x^2 / 2 + a log(1 + exp(-s x))``: the posterior of a logistic weight under a standard normal prior.

    ``V'' = 1 + a s^2 sigma(s x) sigma(-s x)`` lies in (1, 1 + a s^2 / 4]. A symmetric density cannot show a sign error;
    this one can, and every constant of the strongly convex theory is known.

    Arguments:
        a: strength of the skew, > 0.
        s: its slope, not 0; the sign chooses the side.

    References: Dalalyan, "Theoretical guarantees for approximate sampling from smooth and log-concave densities" (2017),
        the example of binary logistic regression, of which this is one weight, https://arxiv.org/abs/1412.7392

    Versions:
        Dalalyan 2017 (https://arxiv.org/abs/1412.7392): many weights and observations: `logistic_regression` here; with one weight and
            three equal observations of feature 2 it is this density at a = 3, s = 2.
    """

    a: float = 3.0
    s: float = 2.0

    def __post_init__(self) -> None:
        if not self.a > 0 or not abs(self.s) > 0:
            raise InvalidInput(f"skew_logistic needs a > 0 and s != 0, got a={self.a}, s={self.s}")

    def potential(self, x: Batch) -> Values:
        # not torch's softplus: it turns linear at 20, and 2e-9 is then missing from V and not from its score
        return 0.5 * x[:, 0] ** 2 + self.a * torch.logaddexp(-self.s * x[:, 0], x.new_zeros(()))

    def score(self, x: Batch) -> Batch:
        return -x + self.a * self.s * torch.sigmoid(-self.s * x)

    @cached_property
    def constants(self) -> Mapping[str, Constant]:
        return Constants(
            m=Constant(1.0, "exact", "infimum of V'', approached at infinity"),
            M=Constant(1.0 + self.a * self.s**2 / 4, "exact", "V'' at 0"),
            lsi=Constant(1.0, "bound", "Bakry-Emery with m"),
            poincare=partial(spectral_gap, self),
        )
