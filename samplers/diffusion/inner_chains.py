"""Langevin chains on many posteriors at once, as a compiled loop: all steps of a few particles' chains while they lie in the cache."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import int64, types, uint64, void

from ...targets.base import Batch, Target
from ...targets.compiled import compiled
from ...targets.kernel import kernel_type
from .. import philox
from ..noise import Noise, Stream

#: Particles per block, and points: long loops over neighbours in memory, and arrays that stay in the nearest caches.
PARTICLES, POINTS = 64, 512


def serves(target: Target, x: Batch, noise: Noise) -> bool:
    """Whether the loop can be used: compiled code speaks for the class that declares it, and for counter-based noise."""
    return isinstance(noise, Stream) and x.device.type == "cpu" and "kernel" in vars(type(target)) and target.kernel is not None


def run(target: Target, x: Batch, y: Batch, scale: float, variance: float, step_size: float, steps: int, noise: Stream) -> Batch:
    """The points y (chains n, d), laid out as in `Posterior`, after `steps` Langevin steps; the noise is that of `ULA.step`, number by number."""
    assert target.kernel is not None
    dtype: type = np.float64 if x.dtype == torch.float64 else np.float32
    f, parameters = target.kernel.of(dtype)
    n, d = x.shape
    start = y.T.contiguous()
    out = torch.empty_like(start)
    numbers = d * len(y) // n
    stride = philox.counters(dtype, numbers)
    position = noise.skip(stride * steps)
    constants: np.ndarray = np.array([step_size, (2.0 * step_size) ** 0.5, scale, scale / variance], dtype)
    sizes = blocks(dtype, n, len(y) // n)
    where = (*noise.words, noise.first, position, stride, noise.step)
    _chains(dtype)(f, philox.normals(dtype), parameters, x.T.contiguous().numpy(), start.numpy(), out.numpy(), constants, *where, steps, *sizes)
    return out.T


def blocks(dtype: type, n: int, count: int) -> tuple[int, int, int]:
    """Particles per block, chains per block, and the normals of one counter. A particle's numbers run through the chains of its first
    coordinate, then of its second: where whole counters make up a coordinate, some of the chains can have theirs alone."""
    per = 2 if dtype is np.float64 else 4
    if count % per:
        return max(1, min(n, POINTS // count)), count, per
    particles = min(n, PARTICLES)
    return particles, min(count, max(per, POINTS // particles // per * per)), per


@cache
def _chains(dtype: type) -> Any:
    """``y + h (score + (a/v) (x - a y)) + sigma z``; constants (h, sigma, a, a/v)."""
    kind = types.float64 if dtype is np.float64 else types.float32
    functions = types.FunctionType(kernel_type(dtype)), types.FunctionType(philox.fill_type(kind))
    signature = void(*functions, kind[::1], *[kind[:, ::1]] * 3, kind[::1], *[uint64] * 6, *[int64] * 4)

    def chains(f, normal, parameters, x, y, out, constants, key0, key1, first, position, stride, step, steps, size, some, per):  # type: ignore[no-untyped-def]
        d, n = x.shape
        count = y.shape[1] // n
        calls = d if count % per == 0 else 1
        h, sigma, keep, pull = constants[0], constants[1], x.dtype.type(1) - constants[0] * constants[2] * constants[3], constants[0] * constants[3]
        for lo in range(0, n, size):
            m = min(size, n - lo)
            for c0 in range(0, count, some):
                part = min(some, count - c0)
                w, rows = part * m, d * part // calls
                u, s, fixed, v = np.empty((d, w), x.dtype), np.empty((d, w), x.dtype), np.empty((d, w), x.dtype), np.empty(w, x.dtype)
                drawn = np.empty((d * part, m), x.dtype)
                z = drawn.reshape((d, w))
                for j in range(d):
                    for c in range(part):
                        for p in range(m):
                            u[j, c * m + p] = y[j, (c0 + c) * n + lo + p]
                            fixed[j, c * m + p] = pull * x[j, lo + p]
                for k in range(steps):
                    f(u, parameters, v, s, 2)
                    for j in range(calls):
                        here = position + uint64(k) * stride + uint64((j * count + c0) // per)
                        normal(drawn[j * rows : (j + 1) * rows], key0, key1, first + uint64(lo), here, step)
                    for j in range(d):
                        for i in range(w):
                            u[j, i] = keep * u[j, i] + fixed[j, i] + h * s[j, i] + sigma * z[j, i]
                for j in range(d):
                    for c in range(part):
                        for p in range(m):
                            out[j, (c0 + c) * n + lo + p] = u[j, c * m + p]

    return compiled(signature)(chains)
