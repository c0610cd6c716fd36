"""Pairs of chains: an upper bound on a distance to the target, at any dimension and with no transport to solve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy import special

from ..errors import InvalidInput, Unsupported
from ..samplers.base import Sampler
from ..samplers.metropolis import Metropolis
from ..samplers.noise import Noise, Stream
from ..targets.base import Batch, Target, Values
from .normal import Normal
from .particles import BLOCK_NUMBERS, RADIUS, Particles, admit_memory

Coupling = Literal["synchronous", "reflection"]

#: Steps after which pairs that have not met are given up.
HORIZON = 10_000


@dataclass(frozen=True, eq=False)
class Coupled:
    """N pairs (X_k, Y_k) of chains.

    Lag 0: X is the chain under study; Y starts from exact draws of the target and moves by a sampler that leaves it
    invariant, so ``Y_k ~ pi`` at every k and ``W2(mu_k, pi)^2 <= E|X_k - Y_k|^2``, ``TV(mu_k, pi) <= P(X_k != Y_k)``.

    Lag L > 0: X and Y both start from the start law, X runs L steps ahead and meets Y at
    ``tau = min {k >= L : X_k = Y_(k-L)}``, after which they move as one; `meeting` holds tau. No draw of the target is
    needed: ``TV(mu_k, pi) <= sum over j >= 1 of TV(mu_(k+jL), mu_(k+(j-1)L)) <= E max(0, ceil((tau - L - k) / L))``,
    since the j-th term is at most ``P(tau > k + j L)``.

    Arguments:
        x, y: positions, shape (N, d); with a lag both have the law mu_k.
        seed: key of the noise.
        coupling: ``synchronous``: both chains draw the same numbers. ``reflection``: the normals of Y are those of X
            reflected across the line between the means of the two moves, or the two moves coincide, as often as any
            coupling lets them (the reflection-maximal coupling); the uniform of accept or reject is common.
        lag: L >= 0.
        horizon: with a lag, steps after which pairs that have not met are given up; their tau is inf.
        meeting: tau, shape (N,), with a lag only.
        origin: the law of X_0 where it is a Gaussian, or None.
        diverged: fraction of the pairs of which one is not finite or farther than 1e8 from the origin.
        first_diverged: first step at which one was seen, or None.
        steps: steps taken so far.

    References: Biswas, Jacob, Vanetti, "Estimating convergence of Markov chains with L-lag couplings" (2019),
        Theorem 2.5, https://arxiv.org/abs/1905.09971
        Jacob, O'Leary, Atchade, "Unbiased Markov chain Monte Carlo methods with couplings" (2020), for Metropolis chains
        that meet, https://doi.org/10.1111/rssb.12336
        Bou-Rabee, Eberle, Zimmer, "Coupling and convergence for Hamiltonian Monte Carlo" (2020), for the reflection-maximal
        coupling, https://arxiv.org/abs/1805.00452
    """

    x: Batch
    y: Batch
    seed: int = 0
    coupling: Coupling = "synchronous"
    lag: int = 0
    horizon: int = HORIZON
    meeting: Values | None = field(default=None, repr=False)
    origin: Normal | None = field(default=None, repr=False)
    diverged: float = 0.0
    first_diverged: int | None = None
    steps: int = 0

    def __post_init__(self) -> None:
        if self.x.ndim != 2 or self.x.shape[0] == 0 or self.x.shape != self.y.shape:
            raise InvalidInput(f"pairs need two batches of one shape (N, d) with N >= 1, got {tuple(self.x.shape)} and {tuple(self.y.shape)}")
        if self.coupling not in ("synchronous", "reflection"):
            raise InvalidInput(f"coupling must be synchronous or reflection, got {self.coupling!r}")
        if self.lag < 0 or self.horizon < 1:
            raise InvalidInput(f"lag must be at least 0 and horizon at least 1, got {self.lag} and {self.horizon}")
        if self.lag and self.meeting is None:  # nothing is known yet
            object.__setattr__(self, "meeting", torch.full((self.n,), torch.inf, dtype=torch.float64))

    @property
    def dim(self) -> int:
        """Dimension d."""
        return int(self.x.shape[1])

    @property
    def n(self) -> int:
        """Number of pairs."""
        return int(self.x.shape[0])

    @property
    def sample(self) -> Particles:
        """The chain under study, as a sample of its law."""
        return Particles(self.x, self.seed, self.diverged, self.first_diverged, self.steps)

    @property
    def distances(self) -> Values:
        """``|X - Y|`` of each pair."""
        return torch.linalg.vector_norm(self.x - self.y, dim=1)

    @property
    def excess(self) -> Values:
        """Per pair, the number whose mean bounds TV."""
        return self.excess_at(self.steps)

    def excess_at(self, k: int) -> Values:
        """With a lag, ``max(0, ceil((tau - L - k) / L))`` at any step k; else ``1 if X != Y`` now."""
        if self.lag == 0:
            return (self.x != self.y).any(1).to(torch.float64)
        assert self.meeting is not None
        return torch.ceil((self.meeting - self.lag - k) / self.lag).clamp(min=0.0)

    @classmethod
    def starting(
        cls,
        start: Normal | Literal["target"],
        target: Target,
        n: int,
        seed: int = 0,
        coupling: Coupling = "synchronous",
        lag: int = 0,
        horizon: int = HORIZON,
    ) -> Coupled:
        """`n` pairs whose X has the law `start`; at lag 0 Y has the law of the target, else that of the start.

        At lag 0 a Gaussian start is coupled with a Gaussian target by the optimal map, on the line by quantiles (where
        the target inverts its distribution function), elsewhere by common normals; a start at the target has X = Y.

        Errors: `Unsupported` at lag 0 where the target has no exact sampler.
        """
        if n < 1:
            raise InvalidInput(f"n must be at least 1, got {n}")
        origin = start if isinstance(start, Normal) else None
        if lag > 0:  # independent: chains that start together and stick would seem to have met
            x, y = (_draw(start, target, n, Stream(seed, "pairs", key)) for key in ("first", "second"))
            return cls(x, y, seed, coupling, lag, horizon, origin=origin)
        if start == "target":
            x = target.sample(n, Stream(seed, "pairs"))
            return cls(x, x, seed, coupling, lag, horizon)
        assert isinstance(start, Normal)
        y = target.sample(n, Stream(seed, "pairs"))
        return cls(_coupled_draws(start, target, y, Stream(seed, "pairs")), y, seed, coupling, lag, horizon, origin=origin)


def _draw(start: Normal | str, target: Target, n: int, noise: Noise) -> Batch:
    if not isinstance(start, Normal):
        return target.sample(n, noise)
    return torch.as_tensor(start.mean) + noise.normal((n, start.dim)) @ torch.as_tensor(_root(start.cov)).T


def _coupled_draws(start: Normal, target: Target, y: Batch, noise: Noise) -> Batch:
    """Draws of `start`, coupled with the draws `y` of the target that came out of the same numbers as `noise` holds."""
    mean = torch.as_tensor(start.mean)
    if target.is_gaussian and target.moments is not None:
        # the optimal map from the target: x = mean + B (y - m), B = S^-1/2 (S^1/2 C S^1/2)^1/2 S^-1/2; it takes a singular C
        m, s = (moment.numpy() for moment in target.moments)
        root = _root(s)
        inverse = np.linalg.inv(root)
        b = inverse @ _root(root @ start.cov @ root) @ inverse
        return mean + (y - torch.as_tensor(m)) @ torch.as_tensor(b).T
    if start.dim == 1:
        z = torch.as_tensor(special.ndtri(noise.uniform((len(y), 1)).double().numpy()))
        return mean + z * float(np.sqrt(start.cov[0, 0]))
    return mean + noise.normal(tuple(y.shape)) @ torch.as_tensor(_root(start.cov)).T


def _root(cov: np.ndarray) -> np.ndarray:
    """The symmetric square root."""
    values, basis = np.linalg.eigh((cov + cov.T) / 2)
    return np.asarray((basis * np.sqrt(np.maximum(values, 0.0))) @ basis.T)


def check_coupling(sampler: Sampler, target: Target, coupling: Coupling, lag: int) -> None:
    """Raise one line where these chains cannot be coupled so, before any is run."""
    if sampler.scheduled:
        raise Unsupported(f"{sampler.name} follows a schedule and leaves no law invariant, so that its pairs bound nothing")
    partner = sampler.partner()
    if lag > 0 and partner is not sampler:
        raise Unsupported(f"a lag bounds the distance to the chain's own stationary law, and {sampler.name} is biased: use lag 0")
    if lag == 0 and "sample" not in target.capabilities:
        raise Unsupported(f"pairs at lag 0 need exact draws of the target, which {target.name} does not provide; use a lag")
    if coupling == "reflection":
        x = Stream("coupling check").normal((4, target.dim))
        one, other = (_scale(_mover(s, target), x, s) for s in (sampler, partner))
        if abs(one - other) > 1e-12 * one:
            raise Unsupported(f"reflection needs two moves of one scale, got {one:.6g} and {other:.6g}")


def simulate_pairs(start: Coupled, sampler: Sampler, target: Target, checkpoints: list[int]) -> list[Coupled]:
    """The pairs at each checkpoint (steps after `start`, increasing), block by block.

    A pair of which one leaves the ball of radius 1e8 or stops being finite is frozen and counted, never averaged away.

    Errors: `Unsupported` where the two chains cannot be coupled so, with the reason.
    """
    check_coupling(sampler, target, start.coupling, start.lag)
    sampler.partner().admit(target)
    if start.steps and sampler.momentum is not None:
        raise Unsupported("pairs that keep a momentum are followed from their start only")
    if start.lag and start.steps:
        raise Unsupported("pairs with a lag are followed from their start only: their meeting times look ahead")
    admit_memory(2 * start.n, start.dim, len(checkpoints), start.x.element_size())
    size = max(64, BLOCK_NUMBERS // start.dim)
    blocks = [_Block(start, sampler, target, lo, min(lo + size, start.n)).run(checkpoints) for lo in range(0, start.n, size)]
    laws = []
    for i, k in enumerate(checkpoints):
        marks = [records[i] for records, _ in blocks]
        gone = sum(int((~m.alive).sum()) for m in marks)
        first = [m.first for m in marks if m.first is not None]
        meeting = torch.cat([tau for _, tau in blocks]) if start.lag else None
        laws.append(
            replace(
                start,
                x=torch.cat([m.x for m in marks]),
                y=torch.cat([m.y for m in marks]),
                meeting=meeting,
                diverged=gone / start.n,
                first_diverged=min(first) if first else start.first_diverged,
                steps=start.steps + k,
            )
        )
    return laws


class _Mark(NamedTuple):
    """What one block has to say at a checkpoint: positions, pairs not diverged, first step at which one was."""

    x: Batch
    y: Batch
    alive: torch.Tensor
    first: int | None


class _Block:
    """One block of pairs on its way."""

    def __init__(self, start: Coupled, sampler: Sampler, target: Target, lo: int, hi: int) -> None:
        self.law, self.sampler, self.partner, self.target = start, sampler, sampler.partner(), target
        x, y = start.x[lo:hi], start.y[lo:hi]
        self.stream = Stream(start.seed, "pairs", sampler.id, target.id, first=lo, dtype=x.dtype, device=str(x.device))
        noise = self.stream.at(start.steps)
        self.x, self.y = sampler.init(target, x, noise), self.partner.init(target, y, noise)
        self.alive, self.first = _inside(x) & _inside(y), start.first_diverged
        # met pairs move as one from then on; with two different kernels they may part again
        self.faithful = self.partner is sampler
        self.met = (x == y).all(1) if not start.lag else torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.move = _mover(sampler, target), _mover(self.partner, target)
        # of the first rows of all, so that blocks do not change a number
        self.scale = _scale(self.move[0], start.x[:4], sampler) if start.coupling == "reflection" else 0.0

    def run(self, checkpoints: list[int]) -> tuple[list[_Mark], Values]:
        """What stands at each checkpoint, and the meeting times."""
        lag, last, wanted = self.law.lag, checkpoints[-1], set(checkpoints)
        out: list[_Mark] = []
        leading: dict[int, Batch] = {}  # positions of X at the checkpoints: with a lag X is there first
        for i in range(lag):
            if i in wanted:
                leading[i] = self.x.x
            self.x = self._keep(self.sampler.step(self.target, self.x, self._noise("ahead", i + 1)), self.x, self.alive)
        tau = torch.full((len(self.alive),), torch.inf, dtype=torch.float64)
        k = 0
        while True:
            if lag:
                self.met = (self.x.x == self.y.x).all(1) & self.alive
                tau = torch.where(self.met.cpu() & torch.isinf(tau), float(lag + k), tau)
                if lag + k in wanted:
                    leading[lag + k] = self.x.x
            if k in wanted:
                out.append(_Mark(leading[k] if lag else self.x.x, self.y.x, self.alive, self.first))
            if k >= last and (not lag or bool((self.met | ~self.alive).all()) or lag + k >= self.law.horizon):
                return out, tau
            k += 1
            self._step(self.law.steps + k)

    def _noise(self, key: str, step: int) -> Stream:
        s = self.stream
        return Stream(*s.key, key, step=step, first=s.first, dtype=s.dtype, device=s.device)

    def _step(self, k: int) -> None:
        """Both chains, one step on."""
        one: Noise
        other: Noise
        if self.law.coupling == "synchronous":
            one, other = self.stream.at(k), self.stream.at(k)
            coincide = torch.zeros_like(self.met)
        else:
            one, other, coincide = self._reflected(k)
        x, y = self.sampler.step(self.target, self.x, one), self.partner.step(self.target, self.y, other)
        # moves that coincide do so up to rounding, and both were taken where both chains moved: make them equal
        together = coincide & (x.x != self.x.x).any(1) & (y.x != self.y.x).any(1)
        if self.faithful:
            together = together | (self.x.x == self.y.x).all(1)
            y = self._keep(x, y, together)
        elif bool(together.any()):
            y = self.partner.init(self.target, torch.where(together.unsqueeze(1), x.x, y.x), other)
        still = self.alive & _inside(x.x) & _inside(y.x)
        if self.first is None and bool((self.alive & ~still).any()):
            self.first = k
        self.alive = still
        self.x, self.y = self._keep(x, self.x, still), self._keep(y, self.y, still)

    @staticmethod
    def _keep(new: Any, old: Any, rows: torch.Tensor) -> Any:
        """The new state in `rows`, the old one elsewhere."""
        return type(new)(*(torch.where(rows.unsqueeze(1) if n.ndim == 2 else rows, n, o) for n, o in zip(new, old, strict=True)))

    def _reflected(self, k: int) -> tuple[Noise, Noise, torch.Tensor]:
        """The noise of X, that of Y, and where the two moves coincide: the reflection-maximal coupling of
        ``N(a, s^2 I)`` and ``N(b, s^2 I)``.

        With ``z = (a - b)/s`` and xi the normal of X, Y takes ``xi + z`` (the same point) with probability
        ``min(1, phi(xi + z) / phi(xi))``, else xi reflected along z.
        """
        x, y, stream = self.x.x, self.y.x, self.stream.at(k)
        xi = stream.normal(tuple(x.shape))
        zero = torch.zeros_like(xi)
        z = (self.move[0](x, _Given(zero)) - self.move[1](y, _Given(zero))) / self.scale
        square, along = (z**2).sum(1), (xi * z).sum(1)
        coincide = torch.log(self._noise("maximal", k).uniform((len(x),))) <= -(along + 0.5 * square)
        back = 2.0 * (along / square.clamp(min=torch.finfo(z.dtype).tiny)).unsqueeze(1) * z
        eta = torch.where(coincide.unsqueeze(1), xi + z, xi - back)
        common = stream.uniform((len(x),))
        return _Given(xi, common), _Given(eta, common), coincide


class _Given(Noise):
    """Noise that hands out one normal, and at most one uniform, that were drawn before."""

    def __init__(self, normal: Batch, uniform: Values | None = None) -> None:
        self._normal: Batch | None = normal
        self._uniform = uniform

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        given, self._normal = self._normal, None
        if given is None or tuple(given.shape) != shape:
            raise Unsupported("reflection needs a step that draws one normal per coordinate")
        return given

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        given, self._uniform = self._uniform, None
        if given is None or tuple(given.shape) != shape:
            raise Unsupported("reflection needs a step that is a mean plus a Gaussian, then accepted or rejected at most once")
        return given


Move = Callable[[Batch, Noise], Batch]


def _mover(sampler: Sampler, target: Target) -> Move:
    """The move before it is accepted or rejected."""
    if isinstance(sampler, Metropolis):
        return lambda x, noise: sampler.propose(target, x, noise)
    return lambda x, noise: sampler.step(target, sampler.init(target, x, noise), noise).x


def _scale(move: Move, x: Batch, sampler: Sampler) -> float:
    """s where the move is ``mean(x) + s xi``.

    Errors: `Unsupported` where it is anything else.
    """
    mean = move(x, _Given(torch.zeros_like(x)))
    xi = Stream("scale", dtype=x.dtype, device=str(x.device)).normal(tuple(x.shape))
    spread = move(x, _Given(xi)) - mean
    s = float((spread * xi).sum() / (xi**2).sum())
    if not (s > 0 and float((spread - s * xi).abs().max()) <= 1e-5 * s):
        raise Unsupported(f"reflection needs a move that is a mean plus one multiple of a normal, and that of {sampler.name} is not")
    return s


def _inside(x: Batch) -> torch.Tensor:
    return torch.isfinite(x).all(1) & (x.abs().amax(1) < RADIUS)
