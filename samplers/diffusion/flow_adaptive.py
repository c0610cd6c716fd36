"""The probability flow by an adaptive Runge-Kutta method: the reference for the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ...errors import InvalidInput, MixrateError
from ...targets.base import Batch, Target
from ..noise import Noise
from .reverse import Reverse


@dataclass(frozen=True)
class FlowAdaptive(Reverse):
    """``dx/dt = f(t) x - g(t)^2 S(x, t)/2`` between the recorded times, by scipy's DOP853 with an error control over the whole
    batch. What is left is the tolerance.

    Cost: scores as the tolerance needs them, some hundreds; the declared 1 per step is a lower bound.

    Arguments: those of `Reverse`; `tolerance`, relative and absolute, in (0, 1).

    Errors: `MixrateError` where the solver gives up.

    References: Hairer, Norsett, Wanner, "Solving Ordinary Differential Equations I" (1993), section II.10,
        https://doi.org/10.1007/978-3-540-78862-1
    """

    bias_order: ClassVar[float | None] = 8.0
    score_evaluations: ClassVar[float] = 1.0

    tolerance: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.tolerance < 1:
            raise InvalidInput(f"tolerance must be in (0, 1), got {self.tolerance}")

    def move(self, target: Target, x: Batch, t: float, s: float, noise: Noise) -> Batch:
        from scipy.integrate import solve_ivp  # loaded where it is used

        shape = tuple(x.shape)

        def slope(u: float, flat: np.ndarray) -> np.ndarray:
            y = torch.as_tensor(flat.reshape(shape))
            return np.asarray((self.forward.drift(u) * y - 0.5 * self.forward.noise(u) * self.look(target, u, y)).numpy()).ravel()

        found = solve_ivp(slope, (t, s), x.double().numpy().ravel(), method="DOP853", rtol=self.tolerance, atol=self.tolerance)
        if not found.success:
            raise MixrateError(f"the probability flow was not solved between the times {t:g} and {s:g}: {found.message}")
        return torch.as_tensor(found.y[:, -1].reshape(shape)).to(x)
