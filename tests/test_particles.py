"""The particle engine: compiled chains against `step` on the same noise, and nothing that depends on blocks or threads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from mixrate.errors import Diverged, InvalidInput
from mixrate.laws import memory, particles
from mixrate.laws.normal import Normal
from mixrate.laws.particles import Particles, simulate
from mixrate.samplers.base import Sampler, State
from mixrate.samplers.hmc import HMC
from mixrate.samplers.independence import Independence
from mixrate.samplers.mala import MALA
from mixrate.samplers.noise import Noise, Stream
from mixrate.samplers.random_walk import RandomWalk
from mixrate.samplers.ula import ULA
from mixrate.targets.base import BOTH, POTENTIAL, SCORE, Target
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.kernel import Kernel, evaluate
from mixrate.targets.logistic_regression import LogisticRegression
from mixrate.targets.skew_logistic import SkewLogistic

MEANS = Stream("means").normal((4, 3))
MATRICES = [[[1.0, 0.3, 0.0], [0.3, 0.5, -0.2], [0.0, -0.2, 0.8]], [[2.0, 0.0, 0.4], [0.0, 1.0, 0.0], [0.4, 0.0, 0.6]]]
TARGETS: dict[str, Target] = {
    "diagonal": Gaussian([1.0, -0.5, 2.0], [0.4, 1.0, 3.0]),
    "dense": Gaussian([1.0, -0.5, 2.0], MATRICES[0]),
    "line": Gaussian(0.5, 2.0),
    "wide": Gaussian.ill_conditioned(257, 20.0, mean=1.0),
    "spheres": GaussianMixture([0.1, 0.2, 0.3, 0.4], 3 * MEANS, [0.5, 1.0, 2.0, 0.7]),
    "ellipses": GaussianMixture([0.1, 0.2, 0.3, 0.4], 3 * MEANS, [[0.5, 1.0, 2.0], [1.0, 1.0, 0.3], [0.7, 2.0, 1.0], [1.0, 0.4, 1.0]]),
    "turned": GaussianMixture([0.7, 0.3], 3 * MEANS[:2], MATRICES),
    "modes": GaussianMixture(np.ones(40), 20 * Stream("forty").normal((40, 2)), 1.0),
    "regression": LogisticRegression.generated(dim=5, rows=130, seed=1),
}
SAMPLERS: list[Sampler] = [ULA(0.05), MALA(0.1), RandomWalk(0.4)]
DTYPES = [torch.float64, torch.float32]


def expression(target: Target, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(V, score) by torch: differentiating is what no kernel does."""
    with torch.enable_grad():
        y = x.detach().clone().requires_grad_(True)
        v = target.potential(y)
        (gradient,) = torch.autograd.grad(v.sum(), y)
    return v.detach(), -gradient


def check_kernel(target: Target, kernel: Kernel, dtype: torch.dtype) -> None:
    """The kernel against the torch expression at 300 points, near and far, in both memory layouts, whatever is wanted."""
    x = (Stream("points").normal((300, target.dim)) * torch.logspace(-1, 1.3, 300, dtype=torch.float64)[:, None]).to(dtype)
    v, s = expression(target, x)
    unit = torch.finfo(dtype).eps
    scale = 1 + v.abs() + (x.double() ** 2).sum(1).to(dtype)
    for layout in (x, x.T.contiguous().T):
        for want in (POTENTIAL, SCORE, BOTH):
            found = evaluate(kernel, layout, want)
            assert found is not None
            if want & POTENTIAL:
                assert float(((found[0] - v).abs() / scale).max()) < 20 * unit
            if want & SCORE:
                assert found[1].shape == x.shape and float(((found[1] - s).abs() / (1 + s.abs().amax(1, keepdim=True))).max()) < 60 * unit


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TARGETS)
def test_a_kernel_equals_the_torch_expression(name: str, dtype: torch.dtype) -> None:
    target = TARGETS[name]
    assert target.kernel is not None
    check_kernel(target, target.kernel, dtype)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_wrong_number_in_a_kernel_is_caught(name: str, where: str) -> None:
    target = TARGETS[name]
    assert target.kernel is not None
    parameters = target.kernel.parameters.copy()
    i = {"first": 2, "middle": len(parameters) // 2, "last": -1}[where]
    parameters[i] = parameters[i] * 1.01 + 1e-3
    with pytest.raises(AssertionError):
        check_kernel(target, dataclasses.replace(target.kernel, parameters=parameters), torch.float64)


def test_kernels_leave_to_torch_what_they_cannot_do() -> None:
    target, x = TARGETS["spheres"], Stream("x").normal((5, 3))
    hessian = torch.func.vmap(torch.func.hessian(lambda y: target.potential(y[None])[0]))(x)
    assert hessian.shape == (5, 3, 3) and bool(torch.isfinite(hessian).all())
    assert target.kernel is not None and evaluate(target.kernel, x.half(), BOTH) is None
    assert target.kernel is not None and evaluate(target.kernel, x.requires_grad_(True), BOTH) is None
    assert target.potential(torch.empty((0, 3), dtype=torch.float64)).shape == (0,)


def start(target: Target, n: int, dtype: torch.dtype = torch.float64) -> Particles:
    return Particles((1.5 * Stream("start").normal((n, target.dim))).to(dtype), seed=3)


def check_chain(sampler: Sampler, target: Target, dtype: torch.dtype) -> None:
    """Compiled and step by step, on the same noise: the same to rounding, but for the rare acceptance that rounding turns."""
    origin = start(target, 300, dtype)
    fast, slow = (simulate(origin, sampler, target, [1, 4, 12], compiled=c) for c in (True, False))
    for a, b in zip(fast, slow, strict=True):
        unit = torch.finfo(dtype).eps * 2000 * (1 + float(b.x.abs().max()))
        same = ((a.x - b.x).abs() < unit).all(1)
        # in single precision a ratio is known to 1e-6: of 3,600 acceptances 0.01 turn
        assert float((~same).double().mean()) <= (0.01 if dtype == torch.float32 else 0.0)
        if a.acceptance is None:
            assert b.acceptance is None
        else:
            assert b.acceptance is not None and abs(a.acceptance - b.acceptance) < 1e-3
            assert 0.05 < a.acceptance <= 1.0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.name)
@pytest.mark.parametrize("name", ["diagonal", "dense", "line", "spheres", "turned", "regression"])
def test_a_compiled_chain_equals_the_sampler(name: str, sampler: Sampler, dtype: torch.dtype) -> None:
    check_chain(sampler, TARGETS[name], dtype)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.name)
def test_a_compiled_chain_of_another_step_is_caught(sampler: Sampler) -> None:
    """Planted: the driver gets numbers a hundredth off; the check sees it."""

    class Off(type(sampler)):  # type: ignore[misc]
        @property
        def fused(self):  # type: ignore[no-untyped-def]
            right = super().fused
            return dataclasses.replace(right, constants=tuple(1.01 * c for c in right.constants))

    with pytest.raises(AssertionError):
        check_chain(Off(**dataclasses.asdict(sampler)), TARGETS["spheres"], torch.float64)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2  # the engine leaves the setting as it found it
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.name)
def test_blocks_and_threads_change_no_bit(sampler: Sampler, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    target = TARGETS["spheres"]
    origin, found = start(target, 1000), []
    for block, threads in ((10_000, 1), (256, 2), (512, 2)):
        torch.set_num_threads(threads)
        monkeypatch.setattr(particles, "FUSED_BLOCK", block)
        monkeypatch.setattr(particles, "BLOCK_NUMBERS", 3 * block)
        found.append(simulate(origin, sampler, target, [3, 7], compiled=compiled))
        torch.set_num_threads(2)
    for laws in found[1:]:
        for a, b in zip(laws, found[0], strict=True):
            assert torch.equal(a.x, b.x) and a.acceptance == b.acceptance


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.name)
@pytest.mark.parametrize("name", ["spheres", "skew"])
def test_a_chain_that_is_taken_up_again_goes_on_as_if_it_had_not_stopped(name: str, sampler: Sampler) -> None:
    target = SkewLogistic() if name == "skew" else TARGETS[name]
    origin = start(target, 200)
    (stop,) = simulate(origin, sampler, target, [5])
    (end,) = simulate(stop, sampler, target, [4])
    (whole,) = simulate(origin, sampler, target, [9])
    assert torch.equal(end.x, whole.x) and end.steps == whole.steps == 9


def test_step_zero_is_the_start_and_positions_come_back_row_by_row() -> None:
    origin = start(TARGETS["diagonal"], 100)
    first, later = simulate(origin, ULA(0.1), TARGETS["diagonal"], [0, 3])
    assert torch.equal(first.x, origin.x) and first.x.is_contiguous() and later.x.is_contiguous() and first.x is not origin.x


@pytest.mark.parametrize("sampler", [ULA(20.0), MALA(20.0)], ids=lambda s: s.name)
def test_a_divergence_is_seen_by_the_compiled_chain_as_step_by_step(sampler: Sampler) -> None:
    """ULA at five times the stable step of the widest mode leaves the ball; every count and the frozen positions agree, and MALA stays."""
    origin = Particles(torch.cat([start(TARGETS["spheres"], 500).x, torch.full((3, 3), 1e7, dtype=torch.float64)]), seed=5)
    fast, slow = (simulate(origin, sampler, TARGETS["spheres"], [2, 5, 30], compiled=c) for c in (True, False))
    for a, b in zip(fast, slow, strict=True):
        assert (a.diverged, a.first_diverged) == (b.diverged, b.first_diverged)
        assert bool(torch.isfinite(a.x).all()) and torch.allclose(a.x, b.x, rtol=1e-9, atol=1e-9)
    assert (fast[-1].diverged == 1.0) == (sampler.name == "ula")
    assert fast[0].first_diverged == (2 if sampler.name == "ula" else None)  # 1e7 times 9, twice


def test_particles_outside_from_the_start_are_frozen_and_counted() -> None:
    x = start(TARGETS["spheres"], 10).x
    x[3], x[7, 0] = torch.nan, 1e9
    (law,) = simulate(Particles(x), MALA(0.1), TARGETS["spheres"], [5])
    assert law.diverged == 0.2
    assert bool(torch.isnan(law.x[3]).all()) and torch.equal(law.x[7], x[7]) and bool((law.x[:3] != x[:3]).all())


def test_diverged_particles_are_not_taken_up_again() -> None:
    (law,) = simulate(start(TARGETS["spheres"], 50), ULA(20.0), TARGETS["spheres"], [40])
    assert law.diverged == 1.0
    with pytest.raises(Diverged, match=r"100.00% of the particles that are to go on have diverged"):
        simulate(law, ULA(0.1), TARGETS["spheres"], [1])


def test_whatever_accepts_or_rejects_says_how_often() -> None:
    target = TARGETS["spheres"]
    for sampler in (HMC(0.5, 4), MALA(0.1), Independence(9.0)):
        (law,) = simulate(start(target, 500), sampler, target, [5])
        assert law.acceptance is not None and 0.01 < law.acceptance < 1.0
    assert simulate(start(target, 500), ULA(0.1), target, [5])[0].acceptance is None


def test_a_subclass_with_a_step_of_its_own_is_what_runs() -> None:
    class Still(ULA):
        def step(self, target: Target, state: State, noise: Noise) -> State:
            return state

    origin = start(TARGETS["spheres"], 20)
    (law,) = simulate(origin, Still(0.1), TARGETS["spheres"], [3])
    assert torch.equal(law.x, origin.x)


def test_two_samplers_of_one_key_are_driven_by_the_same_numbers() -> None:
    """ULA and MALA at a small step: apart by the few rejections; with keys of their own, by the diffusion."""
    target = TARGETS["spheres"]
    origin = start(target, 400)
    for key, near in ((("common",), True), (None, False)):
        (a,), (b,) = (simulate(origin, sampler, target, [10], key=key) for sampler in (ULA(1e-4), MALA(1e-4)))
        assert (float((a.x - b.x).abs().median()) < 1e-9) == near


def test_progress_counts_every_particle_step() -> None:
    for compiled in (True, False):
        counts: list[int] = []
        simulate(start(TARGETS["wide"], 700), ULA(0.01), TARGETS["wide"], [1, 3], progress=counts.append, compiled=compiled)
        assert sum(counts) == 700 * 3


def test_what_does_not_fit_into_memory_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    origin = start(TARGETS["diagonal"], 1000)
    with pytest.raises(
        InvalidInput, match=r"1000 particles in d = 3 at 1000000000 recorded steps need 2.4e\+04 GB, and 80% of this machine's memory is"
    ):
        memory.admit(8 * 3000 * 10**9, "1000 particles in d = 3 at 1000000000 recorded steps")
    monkeypatch.setattr(memory, "total", lambda: 1_000_000)
    with pytest.raises(InvalidInput, match=r"d = 3 at 41 recorded steps need 0\.00101 GB, and 80% .* is 0\.0008 GB"):
        simulate(origin, ULA(0.1), TARGETS["diagonal"], list(range(41)))
    assert simulate(origin, ULA(0.1), TARGETS["diagonal"], [1])[0].n == 1000


def test_the_machine_has_memory() -> None:
    assert 2**28 < memory.total() < 2**50


def test_other_precisions_and_empty_samples_are_refused() -> None:
    with pytest.raises(InvalidInput, match="float32 or float64"):
        simulate(Particles(torch.zeros((3, 3), dtype=torch.float16)), ULA(0.1), TARGETS["diagonal"], [1])
    with pytest.raises(InvalidInput, match="N >= 1"):
        Particles(torch.zeros((0, 3), dtype=torch.float64))
    with pytest.raises(InvalidInput, match="at least 1"):
        Particles.of_normal(Normal(np.zeros(2), np.eye(2)), 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: s.name)
def test_the_same_code_runs_on_a_device(sampler: Sampler, dtype: torch.dtype) -> None:
    """From an exact start the mean of 50,000 particles stays within 6 standard errors after 20 steps."""
    target = TARGETS["spheres"]
    x = target.sample(50_000, Stream("device start")).to("cuda", dtype)
    (law,) = simulate(Particles(x, 1), sampler, target, [20])
    (again,) = simulate(Particles(x, 1), sampler, target, [20])
    assert law.x.device.type == "cuda" and law.x.dtype == dtype and torch.equal(law.x, again.x)
    mean, cov = target.moments  # type: ignore[misc]
    error = (law.x.double().cpu().mean(0) - mean).abs() / (torch.diagonal(cov) / 50_000).sqrt()
    assert float(error.max()) < (6 if sampler.bias_order is None else 30)
