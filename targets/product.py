"""Products of densities on the line: whatever is known of the factors is known of the product."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from .base import Batch, Constant, Split, Target
from .functional import tensorised
from .one_dimensional import OneDimensional

if TYPE_CHECKING:
    from ..samplers.noise import Noise


class Product(Target):
    """A density of independent coordinates. `potential` (and `score`) are written for all of them at once, `marginals` says
    what each coordinate is; normaliser, moments, draws and constants follow."""

    @property
    @abstractmethod
    def marginals(self) -> tuple[OneDimensional, ...]:
        """The density of each coordinate, in order; equal ones may be the same object."""

    @property
    def dim(self) -> int:
        return len(self.marginals)

    @property
    def split(self) -> Split:
        return Split(None, self.marginals)

    @property
    def log_normalizer(self) -> float | None:
        parts = [factor.log_normalizer for factor in self.marginals]
        return sum(parts)

    @cached_property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        parts = [factor.moments for factor in self.marginals]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return torch.cat([mean for mean, _ in known]), torch.block_diag(*[cov for _, cov in known])

    @cached_property
    def constants(self) -> Mapping[str, Constant]:
        return tensorised(self.marginals)

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        boxes = [factor.extent() for factor in self.marginals]
        return np.concatenate([lo for lo, _ in boxes]), np.concatenate([hi for _, hi in boxes])

    def sample(self, n: int, noise: Noise) -> Batch:
        u = noise.uniform((n, self.dim))
        x = torch.empty_like(u)
        groups: dict[OneDimensional, list[int]] = {}
        for j, factor in enumerate(self.marginals):
            groups.setdefault(factor, []).append(j)
        for factor, columns in groups.items():
            x[:, columns] = factor.quantile(u[:, columns])
        return x
