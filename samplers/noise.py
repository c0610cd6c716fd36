"""The only source of randomness of a step."""

from __future__ import annotations

import copy
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from ..errors import InvalidInput, Unsupported


class Noise(ABC):
    """Independent standard normals and uniforms of a given shape."""

    @abstractmethod
    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Independent N(0, 1) numbers."""

    @abstractmethod
    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Independent numbers uniform on (0, 1)."""


class Stream(Noise):
    """Counter-based noise (Philox4x32-10, Box-Muller): a number is a function of (key, particle, step, position) alone.

    Row i of what is drawn belongs to particle `first + i`, whatever the block that asks for it; successive draws of one
    stream take successive positions. Tensors are laid out coordinate by coordinate: particles are contiguous in memory.
    On another device the device's own Philox generator is used, keyed by (key, first, step): the same numbers for the same
    block there, and other numbers than here.

    Arguments:
        key: anything printable: seed, cell. Equal keys give equal numbers, on any worker and in any order.
        step: the step's index, below 2^64.
        first: index of the first particle, below 2^32.
        dtype: torch.float64 (53-bit uniforms) or torch.float32.
        device: where it is returned.

    Cost: a normal in float64, a tenth of torch's own generator's and a quarter of numpy's fastest (`make bench-peers`).
    """

    def __init__(self, *key: object, step: int = 0, first: int = 0, dtype: torch.dtype = torch.float64, device: str = "cpu") -> None:
        if dtype not in (torch.float32, torch.float64):
            raise InvalidInput(f"noise is drawn in float32 or float64, got {dtype}")
        self.key, self.step, self.first, self.dtype, self.device = key, step, first, dtype, device
        digest = hashlib.sha256(repr(key).encode()).digest()
        self.words = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")
        self._on_cpu = torch.device(device).type == "cpu"
        self._position = 0
        self._generator: torch.Generator | None = None

    def at(self, step: int) -> Stream:
        """The stream of the same key at another step."""
        other = copy.copy(self)
        other.step, other._position, other._generator = step, 0, None
        return other

    def blocks(self, n: int, size: int) -> Iterator[tuple[slice, Stream]]:
        """Slices of at most `size` of n rows, each with the noise of its particles. All draw alike, and this stream with them."""
        part = self
        for lo in range(0, n, size):
            part = copy.copy(self)
            part.first, part._generator = self.first + lo, None
            yield slice(lo, min(lo + size, n)), part
        self._position = part._position

    def skip(self, positions: int) -> int:
        """The position of the next number; the next but `positions` is drawn next. For compiled code that draws the rest itself."""
        here, self._position = self._position, self._position + positions
        return here

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        from . import philox  # compiled code is loaded where it is used

        return self._fill(shape, torch.randn, philox.normals, philox.counters)

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        from . import philox

        return self._fill(shape, _open_interval, philox.uniforms, lambda dtype, numbers: numbers)

    def _fill(self, shape: tuple[int, ...], on_device: Any, compiled: Any, positions: Callable[[type, int], int]) -> torch.Tensor:
        if not self._on_cpu:
            if self._generator is None:
                place = hashlib.sha256(repr((self.words, self.first, self.step)).encode()).digest()
                self._generator = torch.Generator(self.device).manual_seed(int.from_bytes(place[:8], "little", signed=True))
            drawn: torch.Tensor = on_device(shape, generator=self._generator, dtype=self.dtype, device=self.device)
            return drawn
        n, numbers = shape[0], math.prod(shape[1:])
        dtype = np.float64 if self.dtype == torch.float64 else np.float32
        out = torch.empty((numbers, n), dtype=self.dtype)
        compiled(dtype)(out.numpy(), *self.words, self.first, self._position, self.step)
        self._position += positions(dtype, numbers)
        return out.T if len(shape) == 2 else out.reshape(*shape[1:], n).movedim(-1, 0)


def _open_interval(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, device: str) -> torch.Tensor:
    """Uniform on (0, 1) by a device's generator, which may return 0."""
    u = torch.rand(shape, generator=generator, dtype=dtype, device=device)
    return u.clamp(min=2.0**-54 if dtype == torch.float64 else 2.0**-25)


class Probe(Noise):
    """Deterministic noise that reads a step's affine map off the step itself.

    Row i of the batch receives zeros, except that (with `basis`) the i-th scalar normal that the step asks for is 1.
    `count` is the number of scalar normals asked for so far, per row.

    Arguments:
        given: None, or what every uniform that the step asks for is: its map given them is then read off.

    Errors: a uniform that is not given, or a normal that is not one row per particle, means the step is not affine in its noise.
    """

    def __init__(self, basis: bool, given: float | None = None) -> None:
        self.basis, self.count, self.given = basis, 0, given

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        if len(shape) != 2:
            raise Unsupported(f"the step draws normals of shape {shape}, not one row per particle")
        z = torch.zeros(shape, dtype=torch.float64)
        if self.basis:
            for j in range(shape[1]):
                if self.count + j < shape[0]:
                    z[self.count + j, j] = 1.0
        self.count += shape[1]
        return z

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        if self.given is None:
            raise Unsupported("the step draws uniform numbers (to accept or reject, or for a random time), so it is not affine in its noise")
        return torch.full(shape, self.given, dtype=torch.float64)
