"""Densities on a mesh in one and two dimensions, and the one-step operators that carry them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from scipy import fft, special

from ..errors import InvalidInput, Unsupported
from ..samplers.base import Sampler, Stage, Transfer
from ..samplers.noise import Probe
from ..targets.base import Target
from ..targets.mesh import Mesh
from .normal import Normal

#: Up to this many nodes in 1-D the kernel is a dense positive matrix: relative accuracy in the tails, which chi-square
#: and Renyi divergences need. Above it, and in 2-D, a non-uniform FFT: absolute accuracy 1e-14, O(n log n).
DENSE_NODES = 1301

#: A sum over nodes of Gaussians of this deviation, in spacings, is their integral to ``2 exp(-2 pi^2 1.35^2) = 5e-16``; at 0.7 to 1e-4.
WIDE = 1.35

#: Relative accuracy asked of the non-uniform FFT.
NUFFT_EPS = 1e-14


@dataclass(frozen=True, eq=False)
class Grid:
    """A density at the nodes of a mesh, kept as its logarithm; quadrature is the trapezoid rule.

    Arguments:
        mesh: the nodes.
        log_density: shape (n**dim,), -inf where the density is zero to rounding.
        lost: upper estimate of the mass that has left the box since the start (it re-enters on the other side).
        unresolved: relative weight of the highest tenth of frequencies: how far the mesh is from resolving the density.
        relative: rounding error of every node's density, relative to it.
        absolute: rounding error of each node's density, absolute: 0 after positive kernels; shape (n**dim,) or 0.
        joint: where a chain on the line keeps a momentum, the density of (position, momentum), of which this is the position's.
    """

    mesh: Mesh
    log_density: np.ndarray
    lost: float = 0.0
    unresolved: float = 0.0
    relative: float = 1e-15
    absolute: np.ndarray | float = 0.0
    joint: Grid | None = field(default=None, repr=False)

    @property
    def dim(self) -> int:
        """Dimension d, 1 or 2."""
        return self.mesh.dim

    @cached_property
    def density(self) -> np.ndarray:
        """The density at the nodes, shape (n**dim,)."""
        return np.exp(self.log_density)

    @property
    def mass(self) -> float:
        """Integral of the density over the box."""
        return float(self.density.sum() * self.mesh.cell)

    @cached_property
    def moments(self) -> Normal:
        """The Gaussian with the same mean and covariance."""
        w = self.density / self.density.sum()
        mean = w @ self.mesh.nodes
        centred = self.mesh.nodes - mean
        return Normal(mean, (centred * w[:, None]).T @ centred)

    @property
    def error(self) -> float:
        """What the box and the mesh may have cost, on the scale of total variation."""
        return self.lost + self.unresolved + 1e-13

    @cached_property
    def rounding(self) -> np.ndarray:
        """Rounding error of the density at each node, absolute, shape (n**dim,)."""
        return self.relative * self.density + self.absolute

    def interpolate(self, mesh: Mesh) -> Grid:
        """The same law on another mesh of the same box, by zero-padding or cutting its Fourier series."""
        if (mesh.lo, mesh.hi) != (self.mesh.lo, self.mesh.hi):
            raise InvalidInput(f"the two meshes cover different boxes: {self.mesh.lo}..{self.mesh.hi} and {mesh.lo}..{mesh.hi}")
        values = self.density.reshape(self.mesh.shape)
        for axis in range(self.dim):
            series = fft.fftshift(fft.fft(values, axis=axis), axes=axis)
            change = (mesh.n - self.mesh.n) // 2  # both odd
            if change >= 0:
                width = [(change, change) if i == axis else (0, 0) for i in range(self.dim)]
                series = np.pad(series, width)
            else:
                series = np.take(series, range(-change, self.mesh.n + change), axis=axis)
            values = fft.ifft(fft.ifftshift(series, axes=axis), axis=axis).real * (mesh.n / self.mesh.n)
        return replace(self, mesh=mesh, log_density=_log(values.ravel()))

    @classmethod
    def of_target(cls, target: Target, mesh: Mesh, tilt: float = 0.0) -> Grid:
        """The target's density times exp(tilt * sum of x), normalised on the mesh.

        Where the target's normaliser is known, the mass that the mesh misses or invents counts as `unresolved`.
        """
        v = target.potential(torch.as_tensor(mesh.nodes)).numpy()
        law = resolved(cls.normalised(mesh, tilt * mesh.nodes.sum(1) - v))
        known = target.log_normalizer
        missed = 0.0 if known is None else abs(float(np.expm1(special.logsumexp(-v) + np.log(mesh.cell) - known)))
        return replace(law, unresolved=max(law.unresolved, missed))

    @classmethod
    def of_normal(cls, law: Normal, mesh: Mesh) -> Grid:
        """A Gaussian's density; the mass outside the box is counted as lost."""
        z = np.linalg.solve(law.factor, (mesh.nodes - law.mean).T)
        log_density = -0.5 * (z * z).sum(0) - np.log(np.diag(law.factor)).sum() - 0.5 * law.dim * np.log(2 * np.pi)
        lost = float(outside(mesh, law.mean[None, :], np.sqrt(np.diag(law.cov)))[0])
        return resolved(cls(mesh, log_density, lost=lost))

    @classmethod
    def normalised(cls, mesh: Mesh, log_density: np.ndarray) -> Grid:
        """The density proportional to exp(log_density)."""
        return cls(mesh, log_density - special.logsumexp(log_density) - np.log(mesh.cell))


def _log(density: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.maximum(density, 0.0)))


def resolved(law: Grid) -> Grid:
    """The law with `unresolved` measured: the largest |Fourier coefficient| in the top tenth of the band, over the mass."""
    series = np.abs(fft.rfftn(law.density.reshape(law.mesh.shape))) * law.mesh.cell
    n = law.mesh.n
    cut = int(0.45 * n)
    index = np.abs(fft.fftfreq(n, 1 / n))
    last = np.arange(n // 2 + 1)
    high = (last >= cut) if law.dim == 1 else (index[:, None] >= cut) | (last[None, :] >= cut)
    return replace(law, unresolved=max(law.unresolved, float(series[high].max())))


def outside(mesh: Mesh, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Upper estimate of P(N(mean, .) leaves the box) per row of `mean`, from the deviations along the axes."""
    total = np.zeros(len(mean))
    for axis in range(mesh.dim):
        s = max(float(deviation[axis]), 1e-300)  # without noise: in or out
        total += special.ndtr((mesh.lo[axis] - mean[:, axis]) / s) + special.ndtr((mean[:, axis] - mesh.hi[axis]) / s)
    return np.minimum(total, 1.0)


def additive_step(sampler: Sampler, target: Target, mesh: Mesh, stage: Stage | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(T, C): the step, or one `stage` of it, as "move to T(x), then add N(0, C)", read off by probing at every node.

    Errors: `Unsupported` where the displacement by a unit of noise depends on the position, or the state has memory.
    """
    state = sampler.init(target, torch.as_tensor(mesh.nodes), Probe(basis=False))
    if len(state) != 1:
        raise Unsupported(f"{sampler.name} keeps more than a position, and has no law on a grid here")
    move = sampler.step if stage is None else stage
    return read_off(lambda noise: move(target, state, noise).x, f"{sampler.name} on {target.name}")


def read_off(step: Callable[[Probe], torch.Tensor], what: str) -> tuple[np.ndarray, np.ndarray]:
    """(T, C) of a step of fixed states, as a function of its noise; `what` it is, for errors."""
    counter = Probe(basis=False)
    moved = step(counter)
    columns = [np.zeros(moved.shape[1])]
    for j in range(counter.count):
        shift = step(_Unit(j)) - moved
        spread = float((shift - shift[0]).abs().max())
        scale = float(moved.abs().max()) + float(shift[0].abs().max())
        if not spread <= 1e-12 * scale:
            raise Unsupported(f"{what} is not a map plus Gaussian noise: the noise moves nodes differently by {spread:.2g}")
        columns.append(shift[len(shift) // 2].numpy())
    noise = np.stack(columns, axis=1)
    return moved.numpy(), noise @ noise.T


class _Unit(Probe):
    """Noise whose j-th scalar is 1 in every row."""

    def __init__(self, j: int) -> None:
        super().__init__(basis=False)
        self.j = j

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        z = super().normal(shape)
        column = self.j - (self.count - shape[1])
        if 0 <= column < shape[1]:
            z[:, column] = 1.0
        return z


def dense_step(mesh: Mesh, moved: np.ndarray, cov: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """``p'(y_j) = sum_i p(x_i) N(y_j; T(x_i), C) dx`` as a matrix: exact in the tails, O(n^2) a step (1-D)."""
    s = float(np.sqrt(cov[0, 0]))
    z = (mesh.axes[0][:, None] - moved[:, 0][None, :]) / s
    kernel = np.exp(-0.5 * z * z) * (mesh.cell / (s * np.sqrt(2 * np.pi)))
    return lambda density: np.asarray(kernel @ density)


def nufft_step(mesh: Mesh, moved: np.ndarray, cov: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The same step through Fourier space: F(k) = sum_i p(x_i) exp(-i k T(x_i)), times exp(-k C k / 2), back.

    A type-1 non-uniform FFT (Barnett, Magland, af Klinteberg, "A parallel non-uniform fast Fourier transform library
    based on an exponential of semicircle kernel", 2019, https://doi.org/10.1137/18M120885X). Mass mapped outside the
    box re-enters on the other side; `advance` counts it.
    """
    import finufft

    length = np.asarray(mesh.hi) - np.asarray(mesh.lo)
    angle = np.mod((moved - np.asarray(mesh.lo)) * (2 * np.pi / length) + np.pi, 2 * np.pi) - np.pi
    plan = finufft.Plan(1, mesh.shape, eps=NUFFT_EPS, isign=-1, nthreads=1)
    plan.setpts(*(np.ascontiguousarray(angle[:, a]) for a in range(mesh.dim)))
    k = [2 * np.pi * fft.fftfreq(mesh.n, s) for s in mesh.spacing]
    k[-1] = 2 * np.pi * fft.rfftfreq(mesh.n, mesh.spacing[-1])
    kk = np.stack(np.meshgrid(*k, indexing="ij"), axis=-1)
    damping = np.exp(-0.5 * np.einsum("...i,ij,...j->...", kk, cov, kk))
    half = mesh.n // 2 + 1

    def step(density: np.ndarray) -> np.ndarray:
        series = fft.ifftshift(plan.execute(density.astype(complex)).reshape(mesh.shape))[..., :half] * damping
        return np.asarray(fft.irfftn(series, s=mesh.shape)).ravel()

    return step


def grid_step(sampler: Sampler, target: Target, mesh: Mesh, method: str = "auto", stage: Stage | None = None) -> Transfer:
    """One step of `sampler` as an operator on densities: its own `transfer`, or read off its `step`.

    Arguments:
        method: ``auto``, or force ``dense`` or ``nufft`` for steps that are a map plus Gaussian noise.
        stage: one part of the step instead of the whole.

    Errors: `Unsupported` where the step is of neither form, or its noise falls between the nodes.
    """
    sampler.admit(target)
    own = sampler.transfer(target, mesh)
    if own is not None:
        return own
    moved, cov = additive_step(sampler, target, mesh, stage)
    deviation = np.sqrt(np.diag(cov))
    free = sampler.noise_scale == np.inf  # it says itself that the law is what must be resolved
    if not free and (deviation < 0.7 * mesh.spacing).any():
        axis = int(np.argmin(deviation / mesh.spacing))
        needed = 2 * int(np.ceil((mesh.hi[axis] - mesh.lo[axis]) / deviation[axis])) + 1
        raise Unsupported(
            f"the noise of one step ({deviation[axis]:.3g}) falls between the nodes ({mesh.spacing[axis]:.3g} apart): use about {needed} nodes"
        )
    wide = bool((deviation >= WIDE * mesh.spacing).all())
    dense = mesh.dim == 1 and mesh.n <= DENSE_NODES and wide if method == "auto" else method == "dense"
    leave = outside(mesh, moved, deviation)
    if dense:
        return Transfer(dense_step(mesh, moved, cov), leave)
    return Transfer(nufft_step(mesh, moved, cov), leave, lambda p: np.full(p.shape, 4 * NUFFT_EPS * float(np.abs(p).max())))


def advance(law: Grid, stages: Sequence[Transfer], steps: int) -> Grid:
    """The law `steps` steps later, each of them the `stages` in order, with what left the box on the books."""
    density, lost, absolute = law.density, law.lost, law.absolute
    for step in [*stages] * steps:
        if step.leave is not None:
            lost += float(step.leave @ np.abs(density)) * law.mesh.cell
        if step.rounding is not None:
            absolute = absolute + step.rounding(density)
        density = step.operator(density)
    relative = law.relative + 1e-15 * steps
    return resolved(Grid(law.mesh, _log(density), lost=lost, unresolved=law.unresolved, relative=relative, absolute=absolute))
