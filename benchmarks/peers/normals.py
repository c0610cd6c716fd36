"""Standard normals by the million: ours through `Stream`, torch's and numpy's fastest into memory that is there already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from mixrate.samplers.noise import Stream

torch.set_num_threads(1)


def prepare(task: dict[str, Any], arrays: dict[str, np.ndarray]):  # type: ignore[no-untyped-def]
    fill = generator(task["generator"], tuple(task["shape"]), task["dtype"])

    def run(seed: int) -> tuple[None, None]:
        for call in range(task["calls"]):
            fill(seed * task["calls"] + call)
        return None, None

    return run


def generator(name: str, shape: tuple[int, ...], dtype: str) -> Callable[[int], object]:
    """A function that makes an array of normals; only ours, which is keyed, cares which call it is."""
    if name == "mixrate":
        stream = Stream("bench", dtype=getattr(torch, dtype))
        return lambda call: stream.at(call).normal(shape)
    if name == "torch":
        tensor, source = torch.empty(shape, dtype=getattr(torch, dtype)), torch.Generator().manual_seed(0)
        return lambda call: tensor.normal_(generator=source)
    array, random = np.empty(shape, dtype), np.random.Generator(getattr(np.random, name)(0))
    return lambda call: random.standard_normal(dtype=array.dtype.type, out=array)
