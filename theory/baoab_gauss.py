"""BAOAB on Gaussians: exact positions, and how far off its momenta are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..laws.normal import Normal
from ..metrics.base import Estimate
from ..samplers.baoab import BAOAB
from .base import Case, Identity
from .sources import leimkuhler_matthews
from .verdict import Row


@dataclass(frozen=True)
class BAOABGauss(Identity):
    """On N(mu, P^-1) the stationary positions of BAOAB have mean mu and covariance ``P^-1`` at every stable h, and its momenta
    covariance ``M_p (I - h^2 P/(4 M_p))``, M_p the mass: compared with the law found from the step by a Lyapunov equation,
    relative to the covariances. `factor` multiplies the stated covariances.
    """

    statement: ClassVar[str] = "BAOAB on a Gaussian: Cov x = P^(-1) exactly, Cov p = mass (I - h^2 P/(4 mass))"
    source: ClassVar = leimkuhler_matthews("section 4, the harmonic case")
    samplers: ClassVar[tuple[str, ...]] = ("baoab",)
    instruments: ClassVar[str] = "A"
    quantity: ClassVar[str] = "relative error"

    def hypotheses(self, case: Case) -> list[str]:
        return [] if case.target.is_gaussian else ["the target is Gaussian"]

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        assert case.target.moments is not None and isinstance(case.sampler, BAOAB)
        mean, cov = (moment.numpy() for moment in case.target.moments)
        d, mass = case.dim, case.sampler.mass
        law = case.stationary
        assert isinstance(law, Normal) and law.joint is not None
        whole = law.joint
        momenta = mass * (np.eye(d) - case.h**2 * np.linalg.inv(cov) / (4 * mass))
        off = {
            "positions": np.linalg.norm(whole.cov[:d, :d] - factor * cov) / np.linalg.norm(cov),
            "momenta": np.linalg.norm(whole.cov[d:, d:] - factor * momenta) / np.linalg.norm(momenta),
            "mean": np.linalg.norm(whole.mean[:d] - mean) / np.sqrt(np.trace(cov)),
        }
        return [Row.of(Estimate.within(float(e), 1e-13), 0.0, tolerance=1e-12, label=f"relative error of {what}") for what, e in off.items()]
