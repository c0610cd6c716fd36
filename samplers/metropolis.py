"""Accept or reject: written once for every proposal, with its log ratio and its kernel on a mesh."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, NamedTuple, final

import numpy as np
import torch

from ..errors import Unsupported
from ..targets.base import Batch, Target, Values
from ..targets.mesh import Mesh
from .base import Sampler, Transfer
from .noise import Noise

#: A dense kernel of this many nodes takes 160 MB; three are alive while it is assembled.
MAX_NODES = 4500


class Point(NamedTuple):
    """Positions and what the target says there: computed once, carried until the chain moves on.

    x: shape (N, d). potential: V(x), shape (N,). score: shape (N, d), or (N, 0) where the proposal does not use it.
    """

    x: Batch
    potential: Values
    score: Batch


class Metropolis(Sampler):
    """Metropolis-Hastings with any proposal whose density is known.

    ``y ~ q(. | x)``; ``x' = y`` with probability ``min(1, pi(y) q(x | y) / (pi(x) q(y | x)))``, else ``x' = x``. The
    kernel keeps the rejection mass on its diagonal, without which pi is not stationary.

    A proposal is one file with two methods: `draw` and `log_density`. The target is evaluated once per step, at y.

    Class attributes:
        uses_score: whether the proposal looks at the score; without it no gradient is computed.

    References: Hastings, "Monte Carlo sampling methods using Markov chains and their applications" (1970), eq. 6,
        https://doi.org/10.1093/biomet/57.1.97
    """

    accepts: ClassVar[bool] = True
    uses_score: ClassVar[bool] = False

    # Hooks.

    @abstractmethod
    def draw(self, here: Point, noise: Noise) -> Batch:
        """A proposal for each row of `here`."""

    @abstractmethod
    def log_density(self, here: Point, there: Point) -> Values:
        """log q(there.x | here.x), row by row, normalised in there.x."""

    # The same for every proposal.

    @final
    def evaluate(self, target: Target, x: Batch) -> Point:
        """The positions with what `draw` and the acceptance need there."""
        if self.uses_score:
            return Point(x, *target.potential_and_score(x))
        return Point(x, target.potential(x), x[:, :0])

    @final
    def init(self, target: Target, x: Batch, noise: Noise) -> Point:
        return self.evaluate(target, x)

    @final
    def step(self, target: Target, state: Point, noise: Noise) -> Point:
        there = self.evaluate(target, self.draw(state, noise))
        # a proposal that is not finite has no density: its ratio is NaN, and NaN compares as a rejection
        accept = torch.log(noise.uniform((len(state.x),))) < self.ratio(state, there)
        rows = accept.unsqueeze(1)
        return Point(
            torch.where(rows, there.x, state.x),
            torch.where(accept, there.potential, state.potential),
            torch.where(rows, there.score, state.score) if self.uses_score else state.score,
        )

    @final
    def ratio(self, here: Point, there: Point) -> Values:
        """log of ``pi(y) q(x | y) / (pi(x) q(y | x))`` from x = here.x to y = there.x, row by row."""
        return here.potential - there.potential + self.log_density(there, here) - self.log_density(here, there)

    @final
    def propose(self, target: Target, x: Batch, noise: Noise) -> Batch:
        """A proposal for each row of `x`."""
        return self.draw(self.evaluate(target, x), noise)

    @final
    def log_proposal(self, target: Target, x: Batch, y: Batch) -> Values:
        """log q(y | x), row by row."""
        return self.log_density(self.evaluate(target, x), self.evaluate(target, y))

    @final
    def log_ratio(self, target: Target, x: Batch, y: Batch) -> Values:
        """`ratio` between positions."""
        return self.ratio(self.evaluate(target, x), self.evaluate(target, y))

    @final
    def transfer(self, target: Target, mesh: Mesh) -> Transfer:
        kernel, leave = self.kernel(target, mesh)
        transposed = np.ascontiguousarray(kernel.T)
        return Transfer(lambda p: np.asarray(transposed @ p), leave)

    @final
    def kernel(self, target: Target, mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
        """P[i, j] = probability of moving from node i to the cell of node j, rows summing to 1; and the mass that each
        row would move outside the box (accepted as often as on its edge), which the kernel counts as rejected.

        Errors: `Unsupported` where the mesh is too large for a dense kernel, or too coarse for the proposal.
        """
        size = mesh.n**mesh.dim
        if size > MAX_NODES:
            raise Unsupported(f"a Metropolis kernel is dense: at most {MAX_NODES} nodes in all, got {size}")
        nodes = self.evaluate(target, torch.as_tensor(mesh.nodes))
        v = nodes.potential.numpy()
        log_q = np.empty((size, size))
        for i in range(size):
            here = Point(*(field[i].expand(size, *field.shape[1:]) for field in nodes))
            log_q[i] = self.log_density(here, nodes).numpy()
        proposed = np.exp(log_q).sum(1) * mesh.cell
        matter = v - v.min() < 20.0
        if proposed[matter].max() > 1.001:
            raise Unsupported(f"the proposals of {self.name} fall between the nodes (they sum to {proposed[matter].max():.3g}): use more nodes")
        log_accept = np.minimum(0.0, v[:, None] - v[None, :] + log_q.T - log_q)
        edge = (mesh.nodes <= np.asarray(mesh.lo)).any(1) | (mesh.nodes >= np.asarray(mesh.hi) - 1.5 * mesh.spacing).any(1)
        leave = np.clip(1.0 - proposed, 0.0, 1.0) * np.exp(log_accept[:, edge].max(1))
        kernel = np.exp(log_q + log_accept) * mesh.cell
        np.fill_diagonal(kernel, 0.0)
        stay = 1.0 - kernel.sum(1)
        if stay.min() < -1e-6:
            raise Unsupported(f"the proposals of {self.name} fall between the nodes (a row moves {1 - stay.min():.3g}): use more nodes")
        kernel[np.diag_indices(size)] = np.maximum(stay, 0.0)
        return kernel, leave


def log_normal_density(y: Batch, mean: Batch, variance: float) -> Values:
    """log N(y; mean, variance I), row by row."""
    d, away = y.shape[1], y - mean
    return -(away * away).sum(1) / (2.0 * variance) - 0.5 * d * float(np.log(2.0 * np.pi * variance))
