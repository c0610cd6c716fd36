"""Nearest-neighbour chains: normaliser, moments and exact draws by the transfer operator."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import Unsupported
from .inverse import positions

if TYPE_CHECKING:
    from ..samplers.noise import Noise

#: Nodes of the quadrature, each half as many again: two that agree are converged.
NODES = (65, 97, 145, 217, 325, 487, 731, 1097)

#: Nodes on the lines that draws are made on, per node of the quadrature.
FINER = 4

#: Bonds weaker than exp(-80) of the strongest are left out of a conditional density: a drift of f by 40 still leaves exp(-40).
REACH = 80.0

#: Entries of the conditional densities held at a time: a few arrays of them fit a cache.
BLOCK = 2**16

Function = Callable[[np.ndarray], np.ndarray]


class Chain:
    """The density ``exp(-sum_i f(x_i) - sum_i g(x_i - x_{i-1})) / Z`` of N numbers, f and g smooth.

    The bonds are i = 2..N with free ends; also x_0 = left and x_{N+1} = right with fixed ends (N + 1 bonds); also x_0 = x_N
    with periodic ones (N bonds, g even).

    With ``(T u)(x) = int exp(-g(x - y)) u(y) dy`` everything is N products with T: messages from the left end and from the
    right end for open chains, ``Z = trace`` of the N-th power of the symmetrised operator for periodic ones. T is a matrix by
    the trapezoid rule on (lo, hi), refined until log Z, means and variances agree to 1e-11 with those of a mesh 1.5
    times coarser: that one has at least 1.1 nodes per standard deviation of a step, and the narrowest that messages can be,
    a step seen from both sides (1 / sqrt 2 of it), is resolved by the finer one. A draw from an open chain goes from site to
    site by inverse distribution functions of the exact conditional densities, on lines with four times the nodes: right to
    1e-8.

    Cost: N products of an n x n matrix with a vector, n about 1.5 (hi - lo) over the narrowest width; N^2 / 2 for the
    covariance of open chains, an n x n spectrum for periodic ones. A draw: N conditional densities of a few hundred nodes.

    Arguments:
        site: f at an array of any shape; a function of a module, or a `functools.partial` of one, goes into other processes.
        bond: g likewise.
        length: N >= 1.
        lo, hi: an interval beyond which no site has mass that counts.
        ends: "free", "periodic", or the pair (left, right).

    Errors: `Unsupported` where the nodes do not resolve the chain, or a marginal does not vanish at lo and hi, and for draws from
        a periodic chain.
    """

    def __init__(self, site: Function, bond: Function, length: int, lo: float, hi: float, ends: str | tuple[float, float]) -> None:
        self.site, self.bond, self.length, self.lo, self.hi, self.ends = site, bond, length, lo, hi, ends

    @property
    def log_normalizer(self) -> float:
        return self._solved[1]

    @property
    def mean(self) -> np.ndarray:
        """Shape (N,)."""
        return self._solved[2]

    @cached_property
    def _solved(self) -> tuple[int, float, np.ndarray, np.ndarray]:
        """Nodes, log Z, means, variances."""
        before: tuple[int, float, np.ndarray, np.ndarray] | None = None
        heavy = False
        for n in NODES:
            log_z, marginals = self._periodic(n)[:2] if self.ends == "periodic" else self._open(n)[:2]
            x = np.linspace(self.lo, self.hi, n)
            mean = marginals @ x
            now = n, log_z, mean, marginals @ x**2 - mean**2
            if before is not None:
                scale = float(now[3].max())
                change = max(abs(log_z - before[1]), np.abs(mean - before[2]).max() / scale**0.5, np.abs(now[3] - before[3]).max() / scale)
                heavy = bool(marginals[:, [0, -1]].max() > 1e-15)
                if change < 1e-11 * max(1.0, abs(log_z)) and not heavy:
                    return now
            before = now
        if heavy:
            raise Unsupported(f"the chain has mass at the ends of ({self.lo:.6g}, {self.hi:.6g})")
        raise Unsupported(f"the chain is not resolved by {NODES[-1]} nodes")

    def _operator(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """exp(-g(x_i - y_j)), shape (len(x), len(y))."""
        return np.exp(-self.bond(x[:, None] - y[None, :]))

    def _open(self, n: int) -> tuple[float, np.ndarray, list[np.ndarray], list[np.ndarray], list[float]]:
        """log Z, marginals (N, n), messages a_i (with the site's own weight) and b_i (without), and the scales of the a_i.

        ``a_i(x) = exp(-f(x)) int exp(-g(x - y)) a_{i-1}(y) dy``, ``b_i(x) = int exp(-g(y - x)) exp(-f(y)) b_{i+1}(y) dy``.
        """
        x = np.linspace(self.lo, self.hi, n)
        t, weight = (x[1] - x[0]) * self._operator(x, x), np.exp(-self.site(x))
        left, right = self._boundary(x)
        a, b, scales = [weight * left], [right], []
        for i in range(self.length):
            scales.append(float(a[i].sum()))
            a[i] = a[i] / scales[i]
            if i + 1 < self.length:
                a.append(weight * (t @ a[i]))
                b.append(t.T @ (weight * b[i]))
                b[-1] /= b[-1].max()
        log_z = float(np.log(scales).sum() + np.log(a[-1] @ right) + np.log(x[1] - x[0]))
        b.reverse()
        marginals = np.array([p * q / (p @ q) for p, q in zip(a, b, strict=True)])
        return log_z, marginals, a, b, scales

    def _boundary(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the ends contribute at the first and at the last site."""
        if isinstance(self.ends, str):
            return np.ones_like(x), np.ones_like(x)
        return np.exp(-self.bond(x - self.ends[0])), np.exp(-self.bond(self.ends[1] - x))

    def _periodic(self, n: int) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
        """log Z, marginals (N, n), eigenvalues over the largest one, and eigenvectors of the symmetrised operator."""
        x = np.linspace(self.lo, self.hi, n)
        root = np.exp(-self.site(x) / 2)
        values, vectors = np.linalg.eigh((x[1] - x[0]) * root[:, None] * self._operator(x, x) * root)
        ratios = values / values[-1]
        powers = ratios**self.length
        marginal = vectors**2 @ powers / powers.sum()
        return float(self.length * np.log(values[-1]) + np.log(powers.sum())), np.tile(marginal, (self.length, 1)), ratios, vectors

    @cached_property
    def cov(self) -> np.ndarray:
        """Covariance of all pairs, shape (N, N)."""
        n = self._solved[0]
        x = np.linspace(self.lo, self.hi, n)
        if self.ends == "periodic":
            _, _, ratios, vectors = self._periodic(n)
            squares = (vectors.T @ ((x - self.mean[0])[:, None] * vectors)) ** 2
            powers = ratios[None, :] ** np.arange(self.length + 1)[:, None]
            lags = np.einsum("ka,ab,kb->k", powers[:-1], squares, powers[:0:-1]) / powers[-1].sum()
            i = np.arange(self.length)
            return lags[np.abs(i[:, None] - i)]
        _, _, a, b, scales = self._open(n)
        t, weight = (x[1] - x[0]) * self._operator(x, x), np.exp(-self.site(x))
        cov = np.empty((self.length, self.length))
        carried = np.empty((n, 0))  # column i: the message a_j of the chain with the factor x_i - E x_i put in
        for j in range(self.length):
            away = x - self.mean[j]
            carried = np.column_stack([weight[:, None] * (t @ carried) / scales[j], away * a[j]])
            cov[j, : j + 1] = cov[: j + 1, j] = (away * b[j]) @ carried / (a[j] @ b[j])
        return cov

    def sample(self, n: int, noise: Noise) -> torch.Tensor:
        """Independent exact draws, shape (n, N)."""
        if self.ends == "periodic":
            raise Unsupported("a periodic chain has no exact sampler here")
        draws = noise.uniform((n, self.length))
        u = draws.double().cpu().numpy()
        coarse, line = np.linspace(self.lo, self.hi, self._solved[0]), self._line
        b = self._open(len(coarse))[3]
        back, ahead = self._operator(coarse, line).T, np.exp(-self.site(coarse))
        left, right = self._boundary(line)
        weight = np.exp(-self.site(line))
        x = np.empty_like(u)
        for i in range(self.length):
            message = weight * (back @ (ahead * b[i + 1]) if i + 1 < self.length else right)
            message /= message.max()
            if i == 0:
                x[:, 0] = self.lo + (line[1] - line[0]) * positions(message * left, u[:, 0])
            else:
                x[:, i] = self._next(message, x[:, i - 1], u[:, i])
        return torch.as_tensor(x).to(draws)

    @cached_property
    def _line(self) -> np.ndarray:
        return np.linspace(self.lo, self.hi, FINER * self._solved[0] + 1)

    def _next(self, message: np.ndarray, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Draws from the density message(y) exp(-g(y - x)), on the nodes within reach of each row's own x."""
        step = self._line[1] - self._line[0]
        size = len(message)
        offsets = np.arange(1 - size, size)
        bonds = self.bond(step * offsets)
        near = offsets[bonds - bonds.min() < REACH]
        width = min(int(near[-1] - near[0]) + 3, size)  # one node more on each side: x lies between nodes
        windows = np.lib.stride_tricks.sliding_window_view(message, width)
        start = np.clip(np.floor((x - self.lo) / step).astype(int) + near[0] - 1, 0, size - width)
        y = np.empty_like(x)
        rows = max(1, BLOCK // width)
        for first in range(0, len(x), rows):
            part = slice(first, first + rows)
            origin = self.lo + step * start[part]
            bond = self.bond((origin - x[part])[:, None] + step * np.arange(width))
            density = windows[start[part]] * np.exp(bonds.min() - bond)
            y[part] = origin + step * positions(density, u[part])
        return y


def spring(step: np.ndarray, stiffness: float) -> np.ndarray:
    """The bond ``stiffness step^2 / 2``."""
    return stiffness / 2 * step**2


def reach(site: Function, depth: float) -> tuple[float, float]:
    """The interval around 0 beyond which f is more than `depth` above its minimum, f growing without bound on both sides."""
    scale = 1.0
    while True:
        x = np.linspace(-scale, scale, 4097)
        inside = np.flatnonzero((f := site(x)) - f.min() < depth)
        if inside[0] > 0 and inside[-1] < len(x) - 1:
            return float(x[inside[0] - 1]), float(x[inside[-1] + 1])
        scale *= 2.0
        if scale > 1e12:
            raise Unsupported("the site potential does not confine")
