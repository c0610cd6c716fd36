"""The proximal sampler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special

from ..errors import InvalidInput, Unsupported
from ..targets.base import Batch, Target, Values
from ..targets.mesh import Mesh
from .base import Sampler, State, Transfer, positive
from .diffusion.estimators import lowest_potential
from .noise import Noise

#: Rejection rounds before a draw is given up; the acceptance is at least ((1 - M h) / (1 + M h))^(d/2) per round.
ROUNDS = 10_000
#: Fixed-point steps to the minimiser: each halves the distance at least, and 2^-60 is below rounding.
FIXED_POINT = 60
#: How far y may lie from x on a grid, in units of sqrt(h): beyond it are 2e-17 of the normal.
REACH = 8.5


@dataclass(frozen=True)
class Proximal(Sampler):
    """Gibbs on ``exp(-V(x) - |x - y|^2 / (2 h))``: ``y = x + sqrt(h) xi``, then ``x' ~ exp(-V(.) - |. - y|^2 / (2 h))``.

    The second draw (the restricted Gaussian oracle) is exact: in closed form where the target has one, else by
    rejection from a Gaussian at the minimiser, which needs ``M h <= 1/2``. The target is invariant at every h.

    With `rounds` = K it is by bounded rejection, which needs no constants of the target and no scores:

        z_1, ..., z_K ~ N(y, h I),  accepted with probability ``exp(lowest - V(z_k))`` each;
        x' = the first that is accepted; x' = x where none is.

    With ``r = exp(lowest - V)`` and ``a(y) = int N(z; y, h I) r(z) dz`` the density of a move from x to x' is

        ``r(x') int N(y; x, h I) N(x'; y, h I) (1 - (1 - a(y))^K) / a(y) dy``,

    and r(x) times it is symmetric in (x, x'): detailed balance, so the target is invariant at every h and K, and under any
    lower bound. A bound too low makes moves rare and no more. (To stay at y would bias every step.)

    Cost: closed form, one d x d solve per call, which counts as one potential; by rejection, 60 scores and one potential for the
        minimiser, and at most ((1 + M h) / (1 - M h))^(d/2) potentials in expectation until a particle's draw is accepted, an
        equality where Hess V = M I; by bounded rejection, K potentials, an upper bound: a block ends when all of it is decided.

    Arguments:
        step_size: h > 0, in units of time.
        rounds: K >= 1; None: the second draw is exact.
        lowest: with `rounds`, a lower bound of V, in the units of V; None: that of `lowest_potential`, of mixtures and where m > 0.

    Errors: `InvalidInput` where a value is out of its range, where h is too large for an exact draw by rejection, and where
        V is below `lowest` at a proposal; `Unsupported` where no lower bound of V is given or known.

    References: Chen, Chewi, Salim, Wibisono, "Improved analysis for a proximal algorithm for sampling" (2022),
        https://arxiv.org/abs/2202.06386; Lee, Shen, Tian, "Structured logconcave sampling with a restricted Gaussian
        oracle" (2021), https://arxiv.org/abs/2010.03106
    """

    step_size: float
    rounds: int | None = None
    lowest: float | None = None

    def __post_init__(self) -> None:
        positive(self.step_size, "step_size")
        if self.rounds is not None and (isinstance(self.rounds, bool) or not (isinstance(self.rounds, int) and self.rounds >= 1)):
            raise InvalidInput(f"rounds must be a whole number of at least 1, got {self.rounds!r}")
        if self.lowest is not None and self.rounds is None:
            raise InvalidInput(f"lowest must not be set where rounds is not, got {self.lowest!r}")
        if self.lowest is not None and (isinstance(self.lowest, bool) or not (isinstance(self.lowest, (int, float)) and np.isfinite(self.lowest))):
            raise InvalidInput(f"lowest must be a finite number, got {self.lowest!r}")

    @property
    def accepts(self) -> bool:  # type: ignore[override]  # it depends on a hyperparameter
        """With `rounds`, a step may leave a particle where it is: the acceptance is the share of steps that moved."""
        return self.rounds is not None

    @property
    def time_step(self) -> float:
        return self.step_size

    @property
    def noise_scale(self) -> float:
        return self.step_size**0.5

    def check(self, target: Target) -> None:
        if self.rounds is not None:
            self.bound(target)

    def bound(self, target: Target) -> float:
        """The lower bound of V that bounded rejection uses."""
        return lowest_potential(target) if self.lowest is None else self.lowest

    def evaluations(self, target: Target) -> tuple[float, float]:
        """Expected (scores, potentials) per particle and step, as under Cost; NaN where no particle can be moved by rejection."""
        if self.rounds is not None:
            return 0.0, float(self.rounds)
        if "restricted_gaussian" in target.capabilities:
            return 0.0, 1.0
        big, h = target.constant("M"), self.step_size
        if big is None or big * h > 0.5:
            return np.nan, np.nan
        return float(FIXED_POINT), ((1 + big * h) / (1 - big * h)) ** (target.dim / 2) + 1

    def step(self, target: Target, state: State, noise: Noise) -> State:
        x, h = state.x, self.step_size
        y = x + h**0.5 * noise.normal(tuple(x.shape))
        if self.rounds is not None:
            return State(self.bounded(target, x, y, noise))
        if "restricted_gaussian" in target.capabilities:
            return State(target.restricted_gaussian(y, h, noise))
        return State(_by_rejection(target, y, h, noise))

    def bounded(self, target: Target, x: Batch, y: Batch, noise: Noise) -> Batch:
        """The second draw by bounded rejection: the first accepted proposal of each row of `y`, or the row of `x`."""
        h, lowest, rounds = self.step_size, self.bound(target), self.rounds or 0

        def propose() -> tuple[Batch, Values]:
            z = y + h**0.5 * noise.normal(tuple(y.shape))
            return z, _excess(target.potential(z), lowest)

        return _first_accepted(propose, x, rounds, noise)[0]

    def transfer(self, target: Target, mesh: Mesh) -> Transfer:
        if mesh.dim != 1:
            raise Unsupported("the proximal sampler's grid kernel is dense: one dimension only")
        x, h = mesh.axes[0], self.step_size
        if np.sqrt(h) < 0.7 * mesh.spacing[0]:
            raise Unsupported(f"sqrt(h) = {np.sqrt(h):.3g} falls between the nodes ({mesh.spacing[0]:.3g} apart): use more nodes")
        if self.rounds is not None:
            kernel, leave = self.kernel(target, mesh)
            transposed = np.ascontiguousarray(kernel.T)
            return Transfer(lambda p: np.asarray(transposed @ p), leave)
        log_kernel = -((x[:, None] - x[None, :]) ** 2) / (2 * h)
        forward = np.exp(log_kernel) * (mesh.cell / np.sqrt(2 * np.pi * h))
        v = target.potential(torch.as_tensor(mesh.nodes)).numpy()
        joint = log_kernel - v[:, None]  # column y: density of x' given y, up to its normaliser
        backward = np.exp(joint - special.logsumexp(joint, axis=0, keepdims=True))
        leave = special.ndtr((mesh.lo[0] - x) / np.sqrt(h)) + special.ndtr((x - mesh.hi[0]) / np.sqrt(h))
        return Transfer(lambda p: np.asarray(backward @ (forward @ p)), leave)

    def kernel(self, target: Target, mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
        """P[i, j] of bounded rejection: probability of moving from node i to the cell of node j of a 1-D mesh, rows summing to 1, the
        mass that stays on the diagonal; and the mass that would leave the box, where r is taken to be at most what it is on the edge."""
        x, h, rounds = mesh.axes[0], self.step_size, self.rounds or 0
        r = np.exp(-_excess(target.potential(torch.as_tensor(mesh.nodes)), self.bound(target)).numpy())
        # y is not bound to the box; nodes sqrt(h)/8 apart resolve what is as wide as a normal
        apart = mesh.spacing[0] * max(1, int(np.sqrt(h) / (8 * mesh.spacing[0])))
        out = REACH * np.sqrt(h) / apart
        y = mesh.lo[0] + apart * np.arange(-np.ceil(out), np.ceil((mesh.hi[0] - mesh.lo[0]) / apart + out) + 1)
        normal = np.exp(-((y[:, None] - x) ** 2) / (2 * h))
        per_x, per_y = (_lattice_sum(spacing / np.sqrt(h)) for spacing in (mesh.spacing[0], apart))
        accepted = np.minimum(normal @ r / per_x, 1.0)  # a(y)
        some = np.maximum(accepted, np.finfo(float).tiny)
        with np.errstate(divide="ignore"):
            share = -np.expm1(rounds * np.log1p(-some)) / some
        kernel = ((normal.T * (share / (per_x * per_y))) @ normal) * r
        kernel[np.diag_indices(len(x))] += np.maximum(1.0 - kernel.sum(1), 0.0)
        return kernel, np.full(len(x), min(1.0, rounds * max(r[0], r[-1])))


def _lattice_sum(spacing: float) -> float:
    """``sum_k exp(-(k spacing)^2 / 2)``: divided by it, the values of a normal at nodes add up to 1 and not more, on a coarse mesh too."""
    k = np.arange(1, np.ceil(REACH / spacing) + 1)
    return float(1 + 2 * np.exp(-((k * spacing) ** 2) / 2).sum())


def _by_rejection(target: Target, y: Batch, h: float, noise: Noise) -> Batch:
    big = target.constant("M")
    if big is None or big * h > 0.5:
        raise InvalidInput(f"step_size must be at most 1/(2 M) for an exact draw by rejection on {target.name} (M = {big}), got {h}")
    mode = y
    for _ in range(FIXED_POINT):  # x <- y + h score(x) contracts by M h <= 1/2 to the minimiser of V(x) + |x - y|^2 / (2 h)
        mode = y + h * target.score(mode)

    def energy(x: Batch) -> torch.Tensor:
        return target.potential(x) + ((x - y) ** 2).sum(1) / (2 * h)

    curvature = 1.0 / h - big  # the energy is at least this convex, so the envelope below is one
    lowest = energy(mode)

    def propose() -> tuple[Batch, Values]:
        z = mode + noise.normal(tuple(y.shape)) / curvature**0.5
        return z, energy(z) - lowest - 0.5 * curvature * ((z - mode) ** 2).sum(1)

    x, open_ = _first_accepted(propose, mode.clone(), ROUNDS, noise)
    if bool(open_.any()):
        raise Unsupported(
            f"{int(open_.sum())} restricted Gaussian draws on {target.name} were not accepted in {ROUNDS} rounds: use a smaller step_size"
        )
    return x


def _first_accepted(propose: Callable[[], tuple[Batch, Values]], x: Batch, rounds: int, noise: Noise) -> tuple[Batch, torch.Tensor]:
    """The first of at most `rounds` proposals per row that is accepted, z with probability ``exp(-excess)``, else the row of `x`;
    and which rows have none. All rows are proposed for until all are decided.

    Arguments:
        propose: makes (z, excess), shapes (n, d) and (n,).
    """
    open_ = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for _ in range(rounds):
        z, excess = propose()
        accept = open_ & (torch.log(noise.uniform((len(x),))) < -excess)
        x = torch.where(accept.unsqueeze(1), z, x)
        open_ = open_ & ~accept
        if not bool(open_.any()):
            break
    return x, open_


def _excess(v: Values, lowest: float) -> Values:
    """V - lowest. A bound above V would be no probability and bias every draw: it is refused where it is met."""
    excess = v - lowest
    if bool((excess < -1e-6 * (1 + abs(lowest))).any()):
        raise InvalidInput(f"lowest must be at most the potential everywhere, got {lowest:.6g} where it is {float(v.min()):.6g}")
    return excess
