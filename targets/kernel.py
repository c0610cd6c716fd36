"""What a compiled potential and score is: a function over a block of particles, and the numbers it needs.

A target may declare a `Kernel` (those here are in `kernels.py`). The particle engine hands it to the compiled samplers, and
`evaluate` runs it on a batch; the target's own torch expression stays what it is tested against.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import int64, types, void

from .base import POTENTIAL, SCORE
from .compiled import compiled


@dataclass(frozen=True, eq=False)
class Kernel:
    """A compiled potential and score.

    Arguments:
        build: from a numpy float type to the compiled function (x, parameters, v, s, want): x and s have a row per
            coordinate and a column per particle; `want` is POTENTIAL, SCORE or BOTH, and what is not wanted is not written.
        parameters: all it needs, in one vector.
    """

    build: Callable[[type], Any]
    parameters: np.ndarray

    def of(self, dtype: type) -> tuple[Any, np.ndarray]:
        """The function and its parameters in one precision."""
        return self.build(dtype), self.parameters.astype(dtype)


def kernel_type(dtype: type) -> Any:
    """Signature of a kernel's function."""
    kind = types.float64 if dtype is np.float64 else types.float32
    return void(kind[:, ::1], kind[::1], kind[::1], kind[:, ::1], int64)


def block(dim: int) -> int:
    """Particles per block: about 6,400 numbers, so that a step's arrays lie in the nearest caches and loops are long."""
    return min(256, max(32, 6400 // dim // 16 * 16))


@cache
def _sweep(dtype: type) -> Any:
    """Compiled: a kernel over any number of particles, block by block."""
    kind = types.float64 if dtype is np.float64 else types.float32
    signature = void(types.FunctionType(kernel_type(dtype)), types.Array(kind, 2, "A"), kind[::1], kind[::1], kind[:, ::1], int64, int64)

    def sweep(f, x, parameters, v, s, want, size):  # type: ignore[no-untyped-def]
        n, d = x.shape
        for lo in range(0, n, size):
            m = min(size, n - lo)
            y, score, value = np.empty((d, m), x.dtype), np.empty((d, m), x.dtype), np.empty(m, x.dtype)
            for j in range(d):
                for p in range(m):
                    y[j, p] = x[lo + p, j]
            f(y, parameters, value, score, want)
            if want & 1:
                v[lo : lo + m] = value
            if want & 2:
                s[:, lo : lo + m] = score

    return compiled(signature)(sweep)


def evaluate(kernel: Kernel, x: torch.Tensor, want: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """(V, score) at each row of `x` by the kernel, or None where it cannot serve: on another device, in another
    precision, or where torch has to differentiate. What is not wanted is empty."""
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64) or (x.requires_grad and torch.is_grad_enabled()):
        return None
    try:
        values = x.detach().numpy()
    except RuntimeError:  # inside a transform of torch.func, whose tensors have no memory to look at
        return None
    dtype = np.float64 if x.dtype == torch.float64 else np.float32
    n, d = x.shape
    v = torch.empty(n if want & POTENTIAL else 0, dtype=x.dtype)
    s = torch.empty((d, n if want & SCORE else 0), dtype=x.dtype)
    f, parameters = kernel.of(dtype)
    _sweep(dtype)(f, values, parameters, v.numpy(), s.numpy(), want, block(d))
    return v, s.T
