"""Loops compiled for the processor: how they are cached, and the functions in them that vectorise.

A loop over particles becomes SIMD code only if all it calls does; the exponential and the logarithm of the C library do
not. Those here are polynomials, inlined, correct to about one unit in the last place.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

#: NaN and infinity keep their meaning (a proposal that is not finite must compare as a rejection), and sums their order (the
#: exponential reduces its argument in two steps).
FLAGS = {"contract", "nsz", "arcp"}

#: The place of the cache is a setting of all of numba: one thread at a time borrows it.
_LOCK = threading.Lock()


def compiled(signature: Any = None, flags: set[str] = FLAGS) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function for one signature (or for whatever it is called with), without the interpreter's lock.

    The machine code is kept next to the sources, in a folder named by a hash of all files that hold compiled code: an
    inlined helper in another file may change, and the cache of numba itself looks at the caller's file only.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        with _LOCK:
            config: Any = numba.config
            before, config.CACHE_DIR = config.CACHE_DIR, str(_cache_folder())
            try:
                return numba.njit(signature, cache=True, nogil=True, error_model="numpy", fastmath=flags)(function)
            finally:
                config.CACHE_DIR = before

    return decorate


@cache
def _cache_folder() -> Path:
    """`__pycache__/kernels-HASH` beside this file where that can be written, else in the user's cache."""
    here = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for folder in (here, here.parent / "samplers", here.parent / "metrics"):
        for file in sorted(folder.glob("*.py")):
            source = file.read_bytes()
            if b"compiled" in source:
                digest.update(file.name.encode() + source)
    name = f"kernels-{digest.hexdigest()[:12]}"
    beside = here / "__pycache__"
    try:
        beside.mkdir(exist_ok=True)
        writable = os.access(beside, os.W_OK)
    except OSError:
        writable = False
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mixrate"
    folder = (beside if writable else home) / name
    if not folder.exists():  # code of other sources can serve nobody here
        for old in folder.parent.glob("kernels-*"):
            shutil.rmtree(old, ignore_errors=True)
    return folder


def _cast(source: Any, result: Any) -> Any:
    """The same bits as another type."""

    @intrinsic
    def cast(context: Any, x: Any) -> Any:
        def generate(target: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], target.get_value_type(result))

        return result(source), generate

    return cast


bits64, float64_of = _cast(types.float64, types.int64), _cast(types.int64, types.float64)
bits32, float32_of = _cast(types.float32, types.int32), _cast(types.int32, types.float32)

_INLINE: dict[str, Any] = {"inline": "always", "jit_options": {"fastmath": FLAGS, "error_model": "numpy"}}
_i64, _f32, _i32 = np.int64, np.float32, np.int32


def exp(x: Any) -> Any:
    """e^x, in compiled code only. Below the smallest normal number: that number (1e-308, 1e-38), never a subnormal.

    ``x = n log 2 + r``, ``|r| <= log(2)/2``, ``e^r = 1 + r + r^2 P(r)`` with P of degree 9 (4 in single precision), from
    Chebyshev interpolation.
    """
    return np.exp(x)


def log(x: Any) -> Any:
    """log x for positive normal x, in compiled code only.

    ``x = 2^n m``, m in [sqrt(1/2), sqrt(2)), ``s = (m - 1)/(m + 1)``, ``log m = 2 s (1 + s^2 P(s^2))``, P of degree 6 (2).
    """
    return np.log(x)


@overload(exp, **_INLINE)
def _exp(x: Any) -> Any:
    return _exp32 if x == types.float32 else _exp64


def _exp64(x: Any) -> Any:
    x = min(max(x, -708.0), 709.0)
    n = np.floor(x * 1.4426950408889634 + 0.5)
    r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10  # log 2 in two parts, the first exact times n
    p = 2.5100375832561233664e-8
    p = p * r + 2.7620075879983366586e-7
    p = p * r + 2.7557268480310025526e-6
    p = p * r + 2.4801521322368693266e-5
    p = p * r + 1.9841269863040545271e-4
    p = p * r + 1.3888888917196719077e-3
    p = p * r + 8.3333333333300644495e-3
    p = p * r + 4.1666666666624161903e-2
    p = p * r + 1.6666666666666667452e-1
    p = p * r + 5.0000000000000010211e-1
    return (1.0 + (r + r * r * p)) * float64_of((_i64(n) + _i64(1023)) << _i64(52))


def _exp32(x: Any) -> Any:
    x = min(max(x, _f32(-87.0)), _f32(88.0))
    n = np.floor(x * _f32(1.4426950408889634) + _f32(0.5))
    r = (x - n * _f32(0.693359375)) + n * _f32(2.12194440e-4)
    p = _f32(1.3926176119935578884e-3)
    p = p * r + _f32(8.3631730745137109028e-3)
    p = p * r + _f32(4.1666554662050533982e-2)
    p = p * r + _f32(1.666657702559798819e-1)
    p = p * r + _f32(0.5)
    return (_f32(1.0) + (r + r * r * p)) * float32_of((_i32(n) + _i32(127)) << _i32(23))


@overload(log, **_INLINE)
def _log(x: Any) -> Any:
    return _log32 if x == types.float32 else _log64


def _log64(x: Any) -> Any:
    i = bits64(x) - _i64(0x3FE6A09E667F3BCD)  # the bits of sqrt(1/2)
    n = float(i >> _i64(52))
    f = float64_of((i & _i64(0x000FFFFFFFFFFFFF)) + _i64(0x3FE6A09E667F3BCD)) - 1.0
    s = f / (2.0 + f)
    z = s * s
    p = 7.3082248425217029302e-2
    p = p * z + 7.6658608002780206343e-2
    p = p * z + 9.0914445626308610401e-2
    p = p * z + 1.1111105567397539928e-1
    p = p * z + 1.4285714312987742461e-1
    p = p * z + 1.9999999999949752245e-1
    p = p * z + 3.3333333333333348431e-1
    # f - s f = 2 s, but exact where f is small
    return n * 6.93147180369123816490e-01 + (f - s * (f - 2.0 * z * p) + n * 1.90821492927058770002e-10)


def _log32(x: Any) -> Any:
    i = bits32(x) - _i32(0x3F3504F3)
    n = _f32(i >> _i32(23))
    f = float32_of((i & _i32(0x007FFFFF)) + _i32(0x3F3504F3)) - _f32(1.0)
    s = f / (_f32(2.0) + f)
    z = s * s
    p = _f32(1.4789974695986392355e-1)
    p = p * z + _f32(1.999439028301099095e-1)
    p = p * z + _f32(3.3333342519787927511e-1)
    return n * _f32(0.693359375) + (f - s * (f - _f32(2.0) * z * p) - n * _f32(2.12194440e-4))
