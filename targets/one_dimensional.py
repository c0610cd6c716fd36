"""One-dimensional targets: whatever has no closed form is quadrature to rounding."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import scipy  # its parts are loaded where they are used
import torch
from scipy import special

from .base import Batch, Target
from .mesh import Mesh

if TYPE_CHECKING:
    from ..samplers.noise import Noise

NODES = 4001


class OneDimensional(Target):
    """A smooth potential on the line; normaliser, moments and an inverse-CDF sampler come from quadrature.

    The trapezoid rule on a box that holds all but 1e-19 of the mass converges faster than any power of the spacing.
    """

    @property
    def dim(self) -> int:
        return 1

    @cached_property
    def _quadrature(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Nodes, probabilities at the nodes, log Z."""
        lo, hi = self.extent()
        mesh = Mesh((float(lo[0]),), (float(hi[0]),), NODES)
        logs = -self.potential(torch.as_tensor(mesh.nodes)).numpy()
        log_z = float(special.logsumexp(logs) + np.log(mesh.cell))
        return mesh.axes[0], np.exp(logs - log_z) * mesh.cell, log_z

    @property
    def log_normalizer(self) -> float:
        return self._quadrature[2]

    @cached_property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        x, w, _ = self._quadrature
        mean = float(w @ x)
        return torch.tensor([mean], dtype=torch.float64), torch.tensor([[float(w @ (x - mean) ** 2)]], dtype=torch.float64)

    @cached_property
    def _quantile(self) -> tuple[np.ndarray, np.ndarray]:
        """logit of the distribution function and the node, both strictly increasing."""
        x, w, _ = self._quadrature
        density = scipy.interpolate.make_interp_spline(x, w / (x[1] - x[0]), k=5).antiderivative()
        left, right = density(x), density(x[-1]) - density(x)
        inside = np.flatnonzero((left > 1e-13) & (right > 1e-13))
        logit = np.log(left[inside]) - np.log(right[inside])
        # between deep wells the distribution function is flat to rounding: only nodes where it rises determine the inverse
        rises = np.append(True, logit[1:] > np.maximum.accumulate(logit)[:-1] + 1e-12)
        return logit[rises], x[inside][rises]

    def quantile(self, u: torch.Tensor) -> torch.Tensor:
        """The inverse of the distribution function at each entry of `u`, any shape, entries in (0, 1)."""
        logit, x = self._quantile
        # the distribution function is smooth in logit u, tails included
        spline = scipy.interpolate.make_interp_spline(logit, x, k=3)
        values = spline(np.clip(special.logit(u.double().cpu().numpy()), logit[0], logit[-1]))
        return torch.as_tensor(values).to(u)

    def sample(self, n: int, noise: Noise) -> Batch:
        return self.quantile(noise.uniform((n, 1)))
