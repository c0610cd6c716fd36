"""Whole chains as compiled loops: all steps of a block of particles while it lies in the first-level cache.

A driver gets the target's kernel and the sources of noise as functions, so there is one per sampler and precision, whatever
the target. It draws the numbers that the sampler's own `step` would draw, in the same order and from the same counters: the
torch path on the same noise is what it is tested against, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numba import int64, types, uint64

from ..targets.compiled import compiled, log
from ..targets.kernel import block, kernel_type
from . import philox


@dataclass(frozen=True)
class Fused:
    """A sampler's compiled driver.

    Arguments:
        build: from a numpy float type to the compiled driver.
        constants: the sampler's numbers.
    """

    build: Callable[[type], Any]
    constants: tuple[float, ...]

    def run(self, kernel: Any, x: np.ndarray, reach: np.ndarray, key: tuple[int, int], first: int, step: int, steps: int) -> int:
        """Advance the rows of `x` in place; returns how many proposals were accepted (0 where nothing is proposed).

        Arguments:
            kernel: the target's `Kernel`.
            x: positions (n, d), float32 or float64, any strides.
            reach: (n,), raised to the largest |coordinate| that each particle has had.
            key: the stream's two 32-bit words.
            first: index of the first particle in the stream.
            step: the stream's index of the first step.
        """
        dtype: type = x.dtype.type
        f, parameters = kernel.of(dtype)
        constants: np.ndarray = np.asarray(self.constants).astype(dtype)
        sources = philox.normals(dtype), philox.uniforms(dtype)
        position = philox.counters(dtype, x.shape[1])
        return int(self.build(dtype)(f, *sources, parameters, x, reach, constants, *key, first, position, step, steps, block(x.shape[1])))


def _driver(dtype: type, function: Callable[..., Any]) -> Any:
    kind = types.float64 if dtype is np.float64 else types.float32
    noise = types.FunctionType(philox.fill_type(kind))
    arguments = (types.FunctionType(kernel_type(dtype)), noise, noise, kind[::1], types.Array(kind, 2, "A"), kind[::1], kind[::1])
    return compiled(int64(*arguments, *[uint64] * 5, int64, int64))(function)


@cache
def ula(dtype: type) -> Any:
    """``x + h score + sigma z``; constants (h, sigma)."""

    def drive(f, normal, uniform, parameters, x, reach, constants, key0, key1, first, position, step, steps, size):  # type: ignore[no-untyped-def]
        n, d = x.shape
        h, sigma = constants[0], constants[1]
        for lo in range(0, n, size):
            m = min(size, n - lo)
            y, s, z = np.empty((d, m), x.dtype), np.empty((d, m), x.dtype), np.empty((d, m), x.dtype)
            v, far = np.empty(m, x.dtype), reach[lo : lo + m]
            for j in range(d):
                for p in range(m):
                    y[j, p] = x[lo + p, j]
            for k in range(steps):
                f(y, parameters, v, s, 2)
                normal(z, key0, key1, first + uint64(lo), uint64(0), step + uint64(k))
                for j in range(d):
                    for p in range(m):
                        moved = y[j, p] + h * s[j, p] + sigma * z[j, p]
                        y[j, p] = moved
                        far[p] = max(far[p], abs(moved))
            for j in range(d):
                for p in range(m):
                    x[lo + p, j] = y[j, p]
        return 0

    return _driver(dtype, drive)


@cache
def mala(dtype: type) -> Any:
    """Propose ``x + h score + sigma z``, accept or reject; constants (h, sigma)."""

    def drive(f, normal, uniform, parameters, x, reach, constants, key0, key1, first, position, step, steps, size):  # type: ignore[no-untyped-def]
        n, d = x.shape
        h, sigma = constants[0], constants[1]
        zero, half, one, quarter = x.dtype.type(0), x.dtype.type(0.5), x.dtype.type(1), x.dtype.type(0.5) / (sigma * sigma)
        accepted = 0
        for lo in range(0, n, size):
            m = min(size, n - lo)
            x0, s0, x1 = np.empty((d, m), x.dtype), np.empty((d, m), x.dtype), np.empty((d, m), x.dtype)
            s1, z, u = np.empty((d, m), x.dtype), np.empty((d, m), x.dtype), np.empty((1, m), x.dtype)
            v0, v1, ratio, count, far = np.empty(m, x.dtype), np.empty(m, x.dtype), np.empty(m, x.dtype), np.zeros(m, x.dtype), reach[lo : lo + m]
            for j in range(d):
                for p in range(m):
                    x0[j, p] = x[lo + p, j]
            f(x0, parameters, v0, s0, 3)
            for k in range(steps):
                normal(z, key0, key1, first + uint64(lo), uint64(0), step + uint64(k))
                uniform(u, key0, key1, first + uint64(lo), position, step + uint64(k))
                ratio[:] = zero
                for j in range(d):
                    for p in range(m):
                        x1[j, p] = x0[j, p] + h * s0[j, p] + sigma * z[j, p]
                        ratio[p] += half * z[j, p] * z[j, p]  # -log q(y | x)
                f(x1, parameters, v1, s1, 3)
                for j in range(d):
                    for p in range(m):
                        back = x0[j, p] - x1[j, p] - h * s1[j, p]
                        ratio[p] -= quarter * back * back
                for p in range(m):
                    old, new = v0[p], v1[p]
                    take = log(u[0, p]) < old - new + ratio[p]
                    v0[p] = new if take else old
                    ratio[p] = one if take else zero
                    count[p] += ratio[p]
                for j in range(d):
                    for p in range(m):
                        take, old, new, here, there = ratio[p] > half, x0[j, p], x1[j, p], s0[j, p], s1[j, p]
                        kept = new if take else old  # both are read first: a choice between loads would not vectorise
                        x0[j, p] = kept
                        s0[j, p] = there if take else here
                        far[p] = max(far[p], abs(kept))
            for j in range(d):
                for p in range(m):
                    x[lo + p, j] = x0[j, p]
            for p in range(m):
                accepted += int(count[p])
        return accepted

    return _driver(dtype, drive)


@cache
def random_walk(dtype: type) -> Any:
    """Propose ``x + sigma z``, accept or reject; constants (sigma,). No gradient is computed."""

    def drive(f, normal, uniform, parameters, x, reach, constants, key0, key1, first, position, step, steps, size):  # type: ignore[no-untyped-def]
        n, d = x.shape
        sigma, zero, half, one = constants[0], x.dtype.type(0), x.dtype.type(0.5), x.dtype.type(1)
        accepted = 0
        for lo in range(0, n, size):
            m = min(size, n - lo)
            x0, x1, z, none = np.empty((d, m), x.dtype), np.empty((d, m), x.dtype), np.empty((d, m), x.dtype), np.empty((0, 0), x.dtype)
            v0, v1, keep, u = np.empty(m, x.dtype), np.empty(m, x.dtype), np.empty(m, x.dtype), np.empty((1, m), x.dtype)
            count, far = np.zeros(m, x.dtype), reach[lo : lo + m]
            for j in range(d):
                for p in range(m):
                    x0[j, p] = x[lo + p, j]
            f(x0, parameters, v0, none, 1)
            for k in range(steps):
                normal(z, key0, key1, first + uint64(lo), uint64(0), step + uint64(k))
                uniform(u, key0, key1, first + uint64(lo), position, step + uint64(k))
                for j in range(d):
                    for p in range(m):
                        x1[j, p] = x0[j, p] + sigma * z[j, p]
                f(x1, parameters, v1, none, 1)
                for p in range(m):
                    old, new = v0[p], v1[p]
                    take = log(u[0, p]) < old - new
                    v0[p] = new if take else old
                    keep[p] = one if take else zero
                    count[p] += keep[p]
                for j in range(d):
                    for p in range(m):
                        take, old, new = keep[p] > half, x0[j, p], x1[j, p]
                        kept = new if take else old  # both are read first: a choice between loads would not vectorise
                        x0[j, p] = kept
                        far[p] = max(far[p], abs(kept))
            for j in range(d):
                for p in range(m):
                    x[lo + p, j] = x0[j, p]
            for p in range(m):
                accepted += int(count[p])
        return accepted

    return _driver(dtype, drive)
