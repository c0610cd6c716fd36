"""Philox4x32-10 and the Box-Muller transform, compiled: a normal number costs a fifth of what numpy asks for it.

A counter of four 32-bit words and a key of two give four random words; nothing is carried from one to the next. The
counter here is (particle, position within the step, step's low word, step's high word), so every number is a function of
(key, particle, step, position): the same whatever the blocks, the threads and the order.

References: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011), section 3.3,
    https://doi.org/10.1145/2063384.2063405
    Box, Muller, "A note on the generation of random normal deviates" (1958), https://doi.org/10.1214/aoms/1177706645
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numba import float32, float64, njit, types, uint64, void

from ..targets.compiled import FLAGS, bits32, bits64, compiled, float32_of, float64_of, log

#: Particles whose words and numbers are made together: the buffers stay in the first-level cache.
TILE = 256

_M0, _M1, _W0, _W1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57), np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_u64, _i64, _f32, _i32 = np.uint64, np.int64, np.float32, np.int32
_TOP, _TOP32 = np.int64(-(2**63)), np.int32(-(2**31))
_1, _2, _ZERO = np.uint32(1), np.uint32(2), np.int32(0)


@njit(inline="always")
def philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """The four words of a counter under a key; 32-bit words held in 64 bits, whose products SIMD units can form."""
    for _ in range(10):
        p0, p1 = (c0 & _LOW) * _M0, (c2 & _LOW) * _M1
        c0, c1 = (p1 >> _32) ^ c1 ^ k0, p1
        c2, c3 = (p0 >> _32) ^ c3 ^ k1, p0
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0 & _LOW, c1 & _LOW, c2 & _LOW, c3 & _LOW


@njit(inline="always", fastmath=FLAGS, error_model="numpy")
def _turn64(w: Any) -> Any:
    """(cos, sin) of a uniform angle: 62 bits place it within a quarter of the circle, two choose the quarter."""
    x = float64(_i64(w << _u64(2))) * (math.pi / 4 * 2.0**-63)
    z = x * x
    p = 1.5918129294486608667e-10
    p = p * z - 2.5051131845003624417e-8
    p = p * z + 2.7557316102552440119e-6
    p = p * z - 1.9841269836758574323e-4
    p = p * z + 8.3333333333309484855e-3
    p = p * z - 1.6666666666666664624e-1
    s = x + x * z * p
    p = 2.0700600483433117729e-9
    p = p * z - 2.7556369695573006221e-7
    p = p * z + 2.4801585210990515948e-5
    p = p * z - 1.3888888887277342899e-3
    p = p * z + 4.1666666666664678604e-2
    c = float64_of(bits64(1.0 - z * (0.5 - z * p)) ^ (_i64(w << _u64(1)) & _TOP))
    swap = _i64(w) < 0
    return (s, c) if swap else (c, s)


@njit(inline="always", fastmath=FLAGS, error_model="numpy")
def _turn32(w: Any) -> Any:
    """The same from 32 bits."""
    x = _f32(_i32(w << _2)) * _f32(math.pi / 4 * 2.0**-31)
    z = x * x
    p = _f32(-1.9587890880412385766e-4)
    p = p * z + _f32(8.3327482706297494849e-3)
    p = p * z - _f32(1.666666466231437862e-1)
    s = x + x * z * p
    p = _f32(2.4547942085071572513e-5)
    p = p * z - _f32(1.3888303035894866037e-3)
    p = p * z + _f32(4.1666664659502206772e-2)
    c = float32_of(bits32(_f32(1.0) - z * (_f32(0.5) - z * p)) ^ (_i32(w << _1) & _TOP32))
    swap = _i32(w) < _ZERO
    return (s, c) if swap else (c, s)


def _normals64(out, key0, key1, first, position, step):  # type: ignore[no-untyped-def]
    d, n = out.shape
    size = min(n, TILE)
    radius, angle = np.empty(size, np.uint64), np.empty(size, np.uint64)
    low, high = step & _LOW, step >> _32
    for lo in range(0, n, TILE):
        m = min(n - lo, TILE)
        for j in range((d + 1) // 2):
            c0, c1 = first + uint64(lo), position + uint64(j)
            a = out[2 * j, lo : lo + m]
            b = out[min(2 * j + 1, d - 1), lo : lo + m]
            for p in range(m):
                w0, w1, w2, w3 = philox(c0 + uint64(p), c1, low, high, key0, key1)
                radius[p] = w0 << _32 | w1
                angle[p] = w2 << _32 | w3
            for p in range(m):
                u = float64(_i64(radius[p] >> _u64(11))) * 2.0**-53 + 2.0**-54
                radius[p] = _u64(bits64(math.sqrt(-2.0 * log(u))))
            if 2 * j + 1 < d:
                for p in range(m):
                    c, s = _turn64(angle[p])
                    r = float64_of(_i64(radius[p]))
                    a[p] = r * c
                    b[p] = r * s
            else:
                for p in range(m):
                    c, s = _turn64(angle[p])
                    a[p] = float64_of(_i64(radius[p])) * c


def _normals32(out, key0, key1, first, position, step):  # type: ignore[no-untyped-def]
    d, n = out.shape
    size = min(n, TILE)
    words = np.empty((4, size), np.uint32)
    unused = np.empty(size, np.float32)
    low, high = step & _LOW, step >> _32
    for lo in range(0, n, TILE):
        m = min(n - lo, TILE)
        for j in range((d + 3) // 4):
            c0, c1 = first + uint64(lo), position + uint64(j)
            for p in range(m):
                w0, w1, w2, w3 = philox(c0 + uint64(p), c1, low, high, key0, key1)
                words[0, p] = np.uint32(w0)
                words[1, p] = np.uint32(w1)
                words[2, p] = np.uint32(w2)
                words[3, p] = np.uint32(w3)
            for h in range(2):
                row = 4 * j + 2 * h
                if row >= d:
                    break
                a = out[row, lo : lo + m]
                b = out[row + 1, lo : lo + m] if row + 1 < d else unused[:m]
                radius, angle = words[2 * h], words[2 * h + 1]
                for p in range(m):
                    u = _f32(_i32(radius[p] >> np.uint32(1))) * _f32(2.0**-31) + _f32(2.0**-32)
                    r = math.sqrt(_f32(-2.0) * log(u))
                    c, s = _turn32(angle[p])
                    a[p] = r * c
                    b[p] = r * s


def _uniforms(out, key0, key1, first, position, step):  # type: ignore[no-untyped-def]
    d, n = out.shape
    low, high = step & _LOW, step >> _32
    for j in range(d):
        row = out[j]
        for p in range(n):
            w0, w1, _, _ = philox(first + uint64(p), position + uint64(j), low, high, key0, key1)
            row[p] = max(float64(_i64((w0 << _32 | w1) >> _u64(11))) * 2.0**-53, 2.0**-54)


def _uniforms32(out, key0, key1, first, position, step):  # type: ignore[no-untyped-def]
    d, n = out.shape
    low, high = step & _LOW, step >> _32
    for j in range(d):
        row = out[j]
        for p in range(n):
            w0, _, _, _ = philox(first + uint64(p), position + uint64(j), low, high, key0, key1)
            row[p] = max(_f32(_i32(w0 >> _u64(8))) * _f32(2.0**-24), _f32(2.0**-25))


def _words(out, key0, key1, first, position, step):  # type: ignore[no-untyped-def]
    for p in range(out.shape[1]):
        w0, w1, w2, w3 = philox(first + uint64(p), position, step & _LOW, step >> _32, key0, key1)
        out[0, p] = w0
        out[1, p] = w1
        out[2, p] = w2
        out[3, p] = w3


#: (out, key0, key1, first, position, step): out has a row per coordinate and a column per particle.
def fill_type(kind: Any) -> Any:
    """Signature of the functions below for arrays of a type."""
    return void(kind[:, ::1], uint64, uint64, uint64, uint64, uint64)


@cache
def normals(dtype: type) -> Any:
    """Compiled: fill `out` (d, n) with standard normals, coordinates 2j and 2j+1 (4j to 4j+3 in single precision) of
    particle ``first + p`` from the counter (first + p, position + j, step): 53-bit radii and 64-bit angles (31 and 32)."""
    return compiled(fill_type(float64))(_normals64) if dtype is np.float64 else compiled(fill_type(float32))(_normals32)


@cache
def uniforms(dtype: type) -> Any:
    """Compiled: fill `out` (d, n) with numbers uniform on (0, 1), 53 bits (24), one counter each."""
    return compiled(fill_type(float64))(_uniforms) if dtype is np.float64 else compiled(fill_type(float32))(_uniforms32)


@cache
def words() -> Any:
    """Compiled: the raw words of counters (first + p, position, step) as columns of `out` (4, n), for known-answer tests."""
    return compiled(fill_type(types.uint64))(_words)


def counters(dtype: type, numbers: int) -> int:
    """How many positions `numbers` normals of one particle take."""
    per = 2 if dtype is np.float64 else 4
    return -(-numbers // per)
