"""What makes two parameters the same: the bytes that go into an id."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def content(value: Any) -> bytes:
    """The bytes that identify a parameter: numbers by value, arrays by shape and entries, the rest by repr."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        array = np.asarray(value, dtype=float)
        return str(array.shape).encode() + (array + 0.0).tobytes()  # + 0.0 makes -0.0 and 0.0 one value
    return _code(value) if callable(value) else repr(value).encode()


def _code(function: Any) -> bytes:
    """What identifies a function: its name, its code and constants, its defaults and what it closes over. Objects that are
    called are known by their repr, which may hold an address: then they are themselves alone."""
    code = getattr(function, "__code__", None)
    if code is None:
        return repr(function).encode()
    inner = [c for c in code.co_consts if not hasattr(c, "co_code")]
    nested = [_bytes(c) for c in code.co_consts if hasattr(c, "co_code")]
    named = {n: function.__globals__.get(n) for n in code.co_names}
    outer = [content(v) for v in named.values() if isinstance(v, (int, float, torch.Tensor, np.ndarray))]
    closed = [content(cell.cell_contents) for cell in function.__closure__ or ()]
    parts = [function.__qualname__, repr(code.co_names), repr(inner), repr(function.__defaults__)]
    return b"|".join([code.co_code, *(part.encode() for part in parts), *nested, *closed, *outer])


def _bytes(code: Any) -> bytes:
    """A code object with its constants, and those inside it."""
    inner = [_bytes(c) if hasattr(c, "co_code") else repr(c).encode() for c in code.co_consts]
    return b"|".join([code.co_code, repr(code.co_names).encode(), *inner])
