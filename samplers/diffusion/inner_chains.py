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

#: Points per block: with 128 chains each, 16 particles, as many as the noise is computed for at once.
POINTS = 2048


def serves(target: Target, x: Batch, noise: Noise) -> bool:
    """Whether the loop can be used: compiled code speaks for the class that declares it, and for counter-based noise."""
    return isinstance(noise, Stream) and x.device.type == "cpu" and "kernel" in vars(type(target)) and target.kernel is not None


def run(target: Target, x: Batch, y: Batch, scale: float, variance: float, step_size: float, steps: int, noise: Stream) -> Batch:
    """The points y (chains n, d), laid out as in `Posterior`, after `steps` Langevin steps; the noise is that of `ULA.step`, number by number."""
    assert target.kernel is not None
    dtype: type = np.float64 if x.dtype == torch.float64 else np.float32
    f, parameters = target.kernel.of(dtype)
    n, d = x.shape
    out = y.T.contiguous().clone()
    numbers = d * len(y) // n
    stride = philox.counters(dtype, numbers)
    position = noise.skip(stride * steps)
    constants: np.ndarray = np.array([step_size, (2.0 * step_size) ** 0.5, scale, scale / variance], dtype)
    size = max(1, POINTS * n // len(y))
    where = (*noise.words, noise.first, position, stride, noise.step)
    _chains(dtype)(f, philox.normals(dtype), parameters, x.T.contiguous().numpy(), out.numpy(), constants, *where, steps, size)
    return out.T


@cache
def _chains(dtype: type) -> Any:
    """``y + h (score + (a/v) (x - a y)) + sigma z``; constants (h, sigma, a, a/v)."""
    kind = types.float64 if dtype is np.float64 else types.float32
    functions = types.FunctionType(kernel_type(dtype)), types.FunctionType(philox.fill_type(kind))
    signature = void(*functions, kind[::1], kind[:, ::1], kind[:, ::1], kind[::1], *[uint64] * 6, int64, int64)

    def chains(f, normal, parameters, x, y, constants, key0, key1, first, position, stride, step, steps, size):  # type: ignore[no-untyped-def]
        d, n = x.shape
        count = y.shape[1] // n
        h, sigma, keep, pull = constants[0], constants[1], x.dtype.type(1) - constants[0] * constants[2] * constants[3], constants[0] * constants[3]
        for lo in range(0, n, size):
            m = min(size, n - lo)
            w = count * m
            u, s, fixed, v = np.empty((d, w), x.dtype), np.empty((d, w), x.dtype), np.empty((d, w), x.dtype), np.empty(w, x.dtype)
            drawn = np.empty((d * count, m), x.dtype)
            z = drawn.reshape((d, w))
            for j in range(d):
                for c in range(count):
                    for p in range(m):
                        u[j, c * m + p] = y[j, c * n + lo + p]
                        fixed[j, c * m + p] = pull * x[j, lo + p]
            for k in range(steps):
                f(u, parameters, v, s, 2)
                normal(drawn, key0, key1, first + uint64(lo), position + uint64(k) * stride, step)
                for j in range(d):
                    for i in range(w):
                        u[j, i] = keep * u[j, i] + fixed[j, i] + h * s[j, i] + sigma * z[j, i]
            for j in range(d):
                for c in range(count):
                    for p in range(m):
                        y[j, c * n + lo + p] = u[j, c * m + p]

    return compiled(signature)(chains)
