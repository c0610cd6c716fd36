"""The counter-based noise: known answers of the bit generator, exact tests of what is made of it, and planted bugs.

Statistical tests have fixed keys and a false-alarm rate of 1e-6 each; beside each stands the error that it would see.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from mixrate.errors import InvalidInput
from mixrate.samplers import philox
from mixrate.samplers.noise import Stream
from mixrate.targets import compiled

ALARM = 1e-6
#: Draws per test; the Kolmogorov-Smirnov distance seen at the alarm rate is 2.7 / sqrt(N) = 0.0027.
N = 1_000_000
DTYPES = [torch.float64, torch.float32]

#: Philox4x32-10: counter, key, words, from the known-answer file of the authors' reference implementation (Random123).
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]


def words(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    out = np.zeros((4, 1), np.uint64)
    philox.words()(out, *key, counter[0], counter[1], counter[2] | counter[3] << 32)
    return tuple(int(w) for w in out[:, 0])


@pytest.mark.parametrize("counter, key, answer", KNOWN)
def test_the_bit_generator_gives_the_known_answers(counter: tuple[int, ...], key: tuple[int, ...], answer: tuple[int, ...]) -> None:
    assert words(counter, key) == answer


def reference(counter: tuple[int, ...], key: tuple[int, ...], rounds: int = 10) -> tuple[int, ...]:
    """Philox4x32 in whole numbers of any size, as its paper writes it."""
    (c0, c1, c2, c3), (k0, k1), low = counter, key, 2**32 - 1
    for _ in range(rounds):
        a, b = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & low, (a >> 32) ^ c3 ^ k1, a & low
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return c0, c1, c2, c3


@settings(max_examples=200, deadline=None)
@given(counter=st.tuples(*[st.integers(0, 2**32 - 1)] * 4), key=st.tuples(*[st.integers(0, 2**32 - 1)] * 2))
def test_the_bit_generator_agrees_with_whole_numbers_everywhere(counter: tuple[int, ...], key: tuple[int, ...]) -> None:
    assert words(counter, key) == reference(counter, key)
    assert words(counter, key) != reference(counter, key, 9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_normals_are_the_box_muller_transform_of_the_words(dtype: torch.dtype) -> None:
    """Radius and angle from the words of the counter, by the functions of the C library."""
    stream = Stream("transform", dtype=dtype)
    z = stream.at(5).normal((64, 4)).double().numpy()
    for p in range(64):
        for pair in range(2):
            if dtype == torch.float64:
                w = words((p, pair, 5, 0), stream.words)
                u, angle = (w[0] << 21 | w[1] >> 11) * 2.0**-53 + 2.0**-54, (w[2] << 32 | w[3]) / 2.0**64
            else:
                w = words((p, 0, 5, 0), stream.words)
                u, angle = (w[2 * pair] >> 1) * 2.0**-31 + 2.0**-32, w[2 * pair + 1] / 2.0**32
            x = angle * 4 % 1.0  # place within the quarter: -pi/4 .. pi/4 as two's complement
            x = (x if x < 0.5 else x - 1.0) * math.pi / 2
            far, near = math.cos(x) * (-1 if angle * 4 % 2 >= 1 else 1), math.sin(x)
            r = math.sqrt(-2 * math.log(u))
            stated = (r * near, r * far) if angle >= 0.5 else (r * far, r * near)
            assert np.allclose(z[p, 2 * pair : 2 * pair + 2], stated, rtol=0, atol=4e-15 if dtype == torch.float64 else 2e-6)


def check_normal(z: np.ndarray) -> None:
    """Kolmogorov-Smirnov against N(0, 1), the first four moments, and the number beyond 4 standard deviations."""
    n = len(z)
    assert stats.kstest(z, "norm").pvalue > ALARM
    bound = stats.norm.isf(ALARM / 2)
    for k, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**k).mean() - mean) < bound * math.sqrt(variance / n)
    beyond = stats.norm.sf(4.0) * 2
    assert abs((np.abs(z) > 4).sum() - n * beyond) < bound * math.sqrt(n * beyond) + 2


def check_uniform(u: np.ndarray) -> None:
    """Kolmogorov-Smirnov, and chi-square of 2^12 equal cells: a cell 7 % too heavy among 4,096 is seen."""
    assert u.min() > 0 and u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > ALARM
    assert stats.chisquare(np.bincount((u * 4096).astype(int), minlength=4096)).pvalue > ALARM


@pytest.mark.parametrize("dtype", DTYPES)
def test_normals_are_normal_and_uniforms_uniform(dtype: torch.dtype) -> None:
    stream = Stream("law", dtype=dtype)
    z = stream.at(1).normal((N // 8, 8)).double().numpy()
    check_normal(z.ravel())
    check_normal(z[:, 3])
    check_uniform(stream.at(2).uniform((N,)).double().numpy())


@pytest.mark.parametrize("dtype", DTYPES)
def test_tails_go_as_far_as_the_bits(dtype: torch.dtype) -> None:
    check_largest(Stream("tail", dtype=dtype).normal((1_000_000, 4)))


@pytest.mark.parametrize("bit", range(8))
def test_each_of_the_low_bits_of_a_uniform_is_fair(bit: int) -> None:
    """The lowest bits of the 53: a binomial test of each, which sees a bit off by 0.25 %."""
    check_low_bit(Stream("bits").uniform((N,)).numpy(), bit)


def independent(a: np.ndarray, b: np.ndarray) -> None:
    """Pearson correlations of the numbers and of their squares: what exceeds 0.005 is seen (4.9 / sqrt(N))."""
    for f in (lambda x: x, lambda x: x * x):
        assert stats.pearsonr(f(a), f(b)).pvalue > ALARM


def test_no_correlation_across_keys_steps_coordinates_particles_and_kinds() -> None:
    n = N
    z = Stream(0, "a").normal((n, 2)).numpy()
    independent(z[:, 0], z[:, 1])  # radius and angle of one counter
    independent(z[:-1, 0], z[1:, 0])
    for other in (Stream(1, "a"), Stream(0, "b"), Stream(0, "a", step=1), Stream(0, "a", step=2**32)):
        independent(z[:, 0], other.normal((n, 2))[:, 0].numpy())
    stream = Stream(0, "a")
    z, u = stream.normal((n, 1))[:, 0].numpy(), stream.uniform((n,)).numpy()
    independent(z, special.ndtri(u))


@settings(max_examples=60, deadline=None)
@given(lo=st.integers(0, 700), hi=st.integers(1, 700), d=st.integers(1, 9), step=st.integers(0, 2**40), double=st.booleans())
def test_numbers_do_not_depend_on_the_block(lo: int, hi: int, d: int, step: int, double: bool) -> None:
    """Any block of particles draws what the whole would, at every step, coordinate and precision, bit by bit."""
    dtype = torch.float64 if double else torch.float32
    whole, n = Stream("block", step=step, dtype=dtype), 1401
    part = Stream("block", step=step, first=lo, dtype=dtype)
    for kind, shape in (("normal", (d,)), ("uniform", ()), ("normal", ())):
        a, b = getattr(whole, kind)((n, *shape)), getattr(part, kind)((hi, *shape))
        assert torch.equal(a[lo : lo + hi], b)


def test_shapes_memory_and_positions() -> None:
    stream = Stream("shape")
    z = stream.normal((7, 3))
    assert z.shape == (7, 3) and z.stride() == (1, 7)  # particles are contiguous
    assert not torch.equal(stream.normal((7, 3)), z)
    assert stream.normal((5, 2, 3)).shape == (5, 2, 3) and stream.uniform((4,)).shape == (4,)
    assert stream.normal((0, 3)).shape == (0, 3) and stream.normal((3, 0)).shape == (3, 0)
    again = Stream("shape")
    assert torch.equal(again.normal((7, 3)), z) and torch.equal(again.at(0).normal((7, 3)), z)
    # a longer row begins like a shorter one: common random numbers across dimensions
    assert torch.equal(Stream("d").normal((7, 6))[:, :4], Stream("d").normal((7, 4)))


def test_other_precisions_are_refused() -> None:
    with pytest.raises(InvalidInput, match="float32 or float64"):
        Stream("half", dtype=torch.float16)


def in_loop(function: Callable[..., Any]) -> Callable[[np.ndarray], np.ndarray]:
    @numba.njit(error_model="numpy", fastmath=compiled.FLAGS)
    def loop(x):  # type: ignore[no-untyped-def]
        y = np.empty_like(x)
        for i in range(x.size):
            y[i] = function(x[i])
        return y

    return loop


@pytest.mark.parametrize("dtype, ulp", [(np.float64, 2.0**-52), (np.float32, 2.0**-23)])
def test_exponential_and_logarithm_are_right_to_two_units_in_the_last_place(dtype: type, ulp: float) -> None:
    """Against long doubles, over their whole range; and at its ends."""
    top = 700.0 if dtype is np.float64 else 85.0
    x = np.concatenate([np.linspace(-top, top, 200_001), np.linspace(-1, 1, 100_001), [0.0]]).astype(dtype)
    error = np.abs(in_loop(compiled.exp)(x) / np.exp(x.astype(np.longdouble)) - 1)
    assert error.max() < 2 * ulp
    y = np.concatenate([np.geomspace(1e-300 if dtype is np.float64 else 1e-37, 1.0, 200_001), np.linspace(0.5, 2.0, 200_001)]).astype(dtype)
    y = y[y != 1]
    stated = np.log(y.astype(np.longdouble))
    assert (np.abs(in_loop(compiled.log)(y) - stated) / np.abs(stated)).max() < 2 * ulp
    ends = in_loop(compiled.exp)(np.array([-1e4, -np.inf, 0.0], dtype))
    assert 0 < ends[0] == ends[1] < (1e-300 if dtype is np.float64 else 1e-37) and ends[2] == 1
    assert np.isnan(in_loop(compiled.exp)(np.array([np.nan], dtype))[0])


class OneKey(Stream):
    """Forgets its key."""

    def __init__(self, *key: object, step: int = 0) -> None:
        super().__init__("the same", step=step)


class Coarse(Stream):
    """Uniforms of 16 bits."""

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.floor(super().uniform(shape) * 2**16) / 2**16 + 2.0**-17


class Truncated(Stream):
    """No tail beyond 4.5."""

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        return super().normal(shape).clamp(-4.5, 4.5)


class Wide(Stream):
    """A hundredth too wide."""

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        return 1.01 * super().normal(shape)


def check_low_bit(u: np.ndarray, bit: int) -> None:
    ones = int(((u * 2.0**53).astype(np.uint64) >> np.uint64(bit) & np.uint64(1)).sum())
    assert stats.binomtest(ones, len(u), 0.5).pvalue > ALARM


def check_largest(z: torch.Tensor) -> None:
    """The exact law of a maximum: P(max |z| <= x) = (1 - 2 sf(x))^n, two-sided."""
    level = math.exp(z.numel() * math.log1p(-2 * stats.norm.sf(float(z.abs().max()))))
    assert min(level, 1 - level) * 2 > ALARM


@pytest.mark.parametrize(
    "check",
    [
        lambda: independent(*(OneKey(k).normal((1000,)).numpy() for k in (0, 1))),
        lambda: check_low_bit(Coarse("law").uniform((N,)).numpy(), 3),
        lambda: check_normal(Wide("law").normal((N,)).numpy()),
        lambda: check_largest(Truncated("tail").normal((4_000_000,))),
    ],
)
def test_planted_bugs_are_caught(check: Callable[[], None]) -> None:
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_branch_of_other_devices_draws_what_was_asked_for(dtype: torch.dtype) -> None:
    """Through torch's own CPU generator: precision, shape, reproducibility and law, where no other device is there."""
    stream = Stream("branch", dtype=dtype)
    stream._on_cpu = False
    z, again, later = stream.at(3).normal((N // 4, 4)), stream.at(3).normal((N // 4, 4)), stream.at(4).normal((N // 4, 4))
    assert z.dtype == dtype and torch.equal(z, again) and not torch.equal(z, later)
    check_normal(z.double().numpy().ravel())
    check_uniform(stream.at(5).uniform((N,)).double().numpy())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_device_draws_its_own_reproducible_noise(dtype: torch.dtype) -> None:
    one, two = (Stream("device", dtype=dtype, device="cuda").at(3) for _ in range(2))
    z = one.normal((N,))
    assert torch.equal(z, two.normal((N,))) and not torch.equal(one.normal((N,)), z)
    check_normal(z.double().cpu().numpy())
    check_uniform(one.uniform((N,)).double().cpu().numpy())
