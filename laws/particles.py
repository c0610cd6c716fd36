"""Samples: what remains where no exact law exists."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from threadpoolctl import threadpool_limits

from ..errors import Diverged, InvalidInput, Unsupported
from ..samplers.base import Sampler
from ..samplers.noise import Stream
from ..targets.base import Batch, Target, Values
from . import memory
from .normal import Normal

if TYPE_CHECKING:
    from ..samplers.fused import Fused
    from ..targets.kernel import Kernel

#: Particles beyond this distance from the origin count as diverged.
RADIUS = 1e8

#: Numbers per array in a block that goes through torch: half the second-level cache; a smaller one costs more calls than it saves.
BLOCK_NUMBERS = 65536

#: Particles per block where the whole chain is compiled, which cuts it into smaller ones of its own.
FUSED_BLOCK = 2048

#: Arrays of all positions that are alive in a step where all particles are one block: 21 in d = 1, 12 in d = 20, as measured.
WHOLE = 22

#: Told how many particle-steps were done since the last call.
Progress = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Particles:
    """A sample of a law.

    Arguments:
        x: positions, shape (N, d); diverged particles are frozen where they were first seen outside.
        seed: key of the noise; the same seed gives the same particles.
        diverged: fraction of the particles that are not finite or farther than 1e8 from the origin.
        first_diverged: first step at which one was seen, or None.
        steps: steps taken so far.
        acceptance: fraction of the proposals since `simulate` began that were accepted; None without proposals.
        momentum: of a chain that keeps one, shape (N, d); a chain that starts without draws its own.
        log_weights: of a sampler that weighs its particles, shape (N,): the mean of their exponentials estimates the integral of exp(-V),
            or of the density that the particles have got to. The positions are counted without them.
    """

    x: Batch
    seed: int = 0
    diverged: float = 0.0
    first_diverged: int | None = None
    steps: int = 0
    acceptance: float | None = None
    momentum: Batch | None = field(default=None, repr=False)
    log_weights: Values | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.x.ndim != 2 or self.x.shape[0] == 0:
            raise InvalidInput(f"particles need shape (N, d) with N >= 1, got {tuple(self.x.shape)}")
        if self.log_weights is not None and self.log_weights.shape != self.x.shape[:1]:
            raise InvalidInput(f"log_weights must have shape ({self.n},), one per particle, got {tuple(self.log_weights.shape)}")

    @property
    def dim(self) -> int:
        """Dimension d."""
        return int(self.x.shape[1])

    @property
    def n(self) -> int:
        """Number of particles."""
        return int(self.x.shape[0])

    def to(self, dtype: str, device: str) -> Particles:
        """The same sample in another precision (``float64`` or ``float32``) and on another device.

        Errors: `InvalidInput` where the device is not there.
        """
        admit_device(device)
        wanted = {"float64": torch.float64, "float32": torch.float32}[dtype]
        momentum, log_weights = (None if t is None else t.to(device, wanted) for t in (self.momentum, self.log_weights))
        return replace(self, x=self.x.to(device, wanted), momentum=momentum, log_weights=log_weights)

    @classmethod
    def of_normal(cls, law: Normal, n: int, seed: int = 0) -> Particles:
        """`n` draws of a Gaussian."""
        if n < 1:
            raise InvalidInput(f"n must be at least 1, got {n}")
        z = Stream(seed, "start").normal((n, law.dim))
        return cls(torch.as_tensor(law.mean) + z @ torch.as_tensor(law.factor).T, seed)

    @classmethod
    def of_target(cls, target: Target, n: int, seed: int = 0, key: str = "start") -> Particles:
        """`n` exact draws of the target; draws of different keys are independent."""
        if n < 1:
            raise InvalidInput(f"n must be at least 1, got {n}")
        return cls(target.sample(n, Stream(seed, key)), seed)


def simulate(
    start: Particles,
    sampler: Sampler,
    target: Target,
    checkpoints: Sequence[int],
    progress: Progress | None = None,
    key: tuple[object, ...] | None = None,
    compiled: bool = True,
) -> list[Particles]:
    """The particles at each checkpoint (steps after `start`, increasing).

    A block of particles goes through all steps up to a checkpoint before the next block: its state never leaves the cache.
    Blocks are shared out to as many threads as torch is set to use. Where sampler and target both have compiled code, the
    whole chain runs there; elsewhere `step` is called on (N, d) tensors whose memory runs along the particles. The noise is
    a function of (seed, sampler, target, particle, step): neither the blocks nor the threads change a number. Particles that see
    each other (`Sampler.interacts`) are one block.

    A particle that leaves the ball of radius 1e8 or stops being finite is frozen and counted, never averaged away.

    Arguments:
        progress: told how many particle-steps were done since the last call, from any thread.
        key: what keys the noise beside the seed; by default the sampler and the target. Two samplers that are given one key
            are driven by the same numbers, particle by particle.
        compiled: off, every step runs through torch: the reference that the compiled chains are tested against.

    Errors: `InvalidInput` where the recorded positions would take more than 80 % of the machine's memory; `Diverged` where
        particles of the start have diverged before: they cannot be taken up again; `Unsupported` where particles that see each
        other are to be.
    """
    sampler.admit(target)
    if sampler.interacts and start.steps > 0:
        raise Unsupported(f"{sampler.name} weighs particles against each other from the start on: they are not taken up after {start.steps} steps")
    if start.diverged > 0:
        raise Diverged(f"{start.diverged:.2%} of the particles that are to go on have diverged", start.first_diverged or 0, start.diverged)
    ks, x = list(checkpoints), start.x
    if x.dtype not in (torch.float32, torch.float64):
        raise InvalidInput(f"particles are float32 or float64, got {x.dtype}")
    admit_memory(start.n, start.dim if sampler.momentum is None else 2 * start.dim, len(ks), x.element_size(), sampler.interacts)
    # compiled code speaks for the class that declares it, not for one that changes its step or its potential
    own = "fused" in vars(type(sampler)) and "kernel" in vars(type(target))
    fast = (sampler.fused, target.kernel) if compiled and own and x.device.type == "cpu" else (None, None)
    chain = _Chain(start, sampler, target, ks, *fast, progress, (sampler.id, target.id) if key is None else key)
    one = sampler.interacts or x.device.type != "cpu"
    size = start.n if one else FUSED_BLOCK if chain.compiled else max(64, BLOCK_NUMBERS // start.dim // 64 * 64)
    firsts = range(0, start.n, size)
    threads = min(torch.get_num_threads(), len(firsts)) if x.device.type == "cpu" else 1
    if threads > 1:
        try:
            # one thread per block: those of the linear algebra library beside them would only wait for each other
            with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                ends = list(pool.map(lambda lo: chain.run(lo, min(lo + size, start.n)), firsts))
        finally:
            torch.set_num_threads(threads)  # the setting of the workers is also that of threads to come
    else:
        ends = [chain.run(lo, min(lo + size, start.n)) for lo in firsts]
    return [chain.law(i, [end[i] for end in ends]) for i in range(len(ks))]


def admit_memory(n: int, dim: int, recorded: int, size: int = 8, interacts: bool = False) -> None:
    """Raise one line where the positions at `recorded` steps, of `size` bytes a number, would take more than 80 % of memory."""
    memory.admit(positions_bytes(n, dim, recorded, size, interacts), f"{n} particles in d = {dim} at {recorded} recorded steps")


def positions_bytes(n: int, dim: int, recorded: int, size: int = 8, interacts: bool = False) -> int:
    """Memory of the positions at the recorded steps and at the current one; the rest is a few megabytes of blocks. Particles that see
    each other are one block, and come with weights."""
    return size * n * ((dim + 1) * recorded + WHOLE * dim if interacts else dim * (recorded + 1))


def admit_device(device: str) -> None:
    """Raise one line where the device is not there."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InvalidInput(f"device must be one that torch finds on this machine, got {device}: there is no CUDA device")


class _Mark(NamedTuple):
    """What one block has to say at a checkpoint: particles gone, first step at which one was, proposals accepted, and weights."""

    gone: int
    first: int | None
    accepted: int
    log_weights: Values | None = None


@dataclass(eq=False)
class _Chain:
    """What the blocks of one simulation share; `out` is where they leave their positions."""

    start: Particles
    sampler: Sampler
    target: Target
    checkpoints: list[int]
    fused: Fused | None
    kernel: Kernel | None
    progress: Progress | None
    key: tuple[object, ...]

    def __post_init__(self) -> None:
        x = self.start.x
        self.out, self.momenta = (
            [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in self.checkpoints if wanted]
            for wanted in (True, self.sampler.momentum is not None)
        )
        self.stream = Stream(self.start.seed, *self.key, dtype=x.dtype, device=str(x.device))

    @property
    def compiled(self) -> bool:
        return self.fused is not None and self.kernel is not None

    def law(self, i: int, marks: list[_Mark]) -> Particles:
        """The i-th checkpoint, from what all blocks have to say of it."""
        k, n = self.checkpoints[i], self.start.n
        rate = sum(m.accepted for m in marks) / (n * k) if k and self.sampler.accepts else None
        seen = min((m.first for m in marks if m.first is not None), default=None)
        momentum = self.momenta[i] if self.momenta else None
        weights = [m.log_weights for m in marks if m.log_weights is not None]
        gone = sum(m.gone for m in marks) / n
        return Particles(self.out[i], self.start.seed, gone, seen, self.start.steps + k, rate, momentum, torch.cat(weights) if weights else None)

    def run(self, lo: int, hi: int) -> list[_Mark]:
        """All steps of the particles from `lo` to `hi`."""
        x = self.start.x[lo:hi]
        marks = self._compiled(x.clone(), lo, hi) if self.compiled and bool(_inside(x).all()) else []
        done = self.checkpoints[len(marks) - 1] if marks else 0
        x = self.out[len(marks) - 1][lo:hi] if marks else x
        return marks + self._by_steps(x, lo, hi, done, marks)

    def _report(self, particles: int, steps: int) -> None:
        if self.progress:
            self.progress(particles * steps)

    def _compiled(self, x: Batch, lo: int, hi: int) -> list[_Mark]:
        """The checkpoints up to which the block can be run compiled: all, unless a particle goes astray on the way."""
        assert self.fused is not None and self.kernel is not None
        marks: list[_Mark] = []
        x, reach = x.contiguous(), torch.zeros(len(x), dtype=x.dtype)
        done = accepted = 0
        for i, k in enumerate(self.checkpoints):
            step = self.start.steps + done + 1
            accepted += self.fused.run(self.kernel, x.numpy(), reach.numpy(), self.stream.words, lo, step, k - done)
            if not bool((reach < RADIUS).all()) or not bool(torch.isfinite(x).all()):
                return marks
            self._report(hi - lo, k - done)
            done = k
            self.out[i][lo:hi] = x
            marks.append(_Mark(0, self.start.first_diverged, accepted))
        return marks

    def _by_steps(self, x: Batch, lo: int, hi: int, done: int, before: list[_Mark]) -> list[_Mark]:
        """The remaining checkpoints through `Sampler.step`, with every step's divergences seen."""
        rest = self.checkpoints[len(before) :]
        if not rest:
            return []
        stream, origin = copy.copy(self.stream), self.start.steps
        stream.first = lo
        x = x.T.contiguous().T  # along the particles in memory
        # step 0 of the stream belongs to init, so step i of the chain draws from counter i + 1
        state = self.sampler.init(self.target, x, stream.at(origin))
        if self.momenta and self.start.momentum is not None:
            state = self.sampler.place(self.target, x, self.start.momentum[lo:hi].T.contiguous().T)
        alive, first, accepted = _inside(x), self.start.first_diverged, before[-1].accepted if before else 0
        marks: list[_Mark] = []
        lost = not bool(alive.all())
        for i, k in enumerate(rest, len(before)):
            for step in range(origin + done + 1, origin + k + 1):
                new = self.sampler.at(step - 1).step(self.target, state, stream.at(step))
                if self.sampler.accepts:
                    accepted += int((new.x[:, 0] != state.x[:, 0]).sum())
                inside = _inside(new.x)
                if lost or not bool(inside.all()):
                    lost = True
                    if first is None and bool((alive & ~inside).any()):
                        first = step
                    alive = alive & inside
                    # a frozen particle keeps every field of the state it had
                    held = zip(new, state, strict=True)
                    new = type(new)(*(torch.where(alive.reshape(-1, *[1] * (n.ndim - 1)), n, o) for n, o in held))
                state = new
            self._report(hi - lo, k - done)
            done = k
            self.out[i][lo:hi] = state.x
            if self.momenta:
                self.momenta[i][lo:hi] = state.p
            marks.append(_Mark(int((~alive).sum()), first, accepted, getattr(state, "log_weights", None)))
        return marks


def _inside(x: Batch) -> torch.Tensor:
    """Rows within the ball; NaN and infinity compare as outside."""
    return x.abs().amax(1) < RADIUS
