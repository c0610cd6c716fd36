"""Cost of chains of particles, target by target: `make bench`. Ratios within one run; against peers: `make bench-peers`."""

from __future__ import annotations

import pytest
import torch

from mixrate.laws.particles import Particles, simulate
from mixrate.samplers.base import Sampler
from mixrate.samplers.mala import MALA
from mixrate.samplers.noise import Stream
from mixrate.samplers.random_walk import RandomWalk
from mixrate.samplers.ula import ULA
from mixrate.targets.base import Target
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.logistic_regression import LogisticRegression

N = 4_000

#: Target, step size, steps.
CHAINS: dict[str, tuple[Target, float, int]] = {
    "gauss50": (Gaussian.ill_conditioned(50, 100.0), 0.005, 50),
    "gmm2": (GaussianMixture([1.0] * 40, 20.0 * Stream("modes").normal((40, 2)), 1.0), 0.1, 50),
    "logreg25": (LogisticRegression.generated(25, 1000), 0.005, 5),
}
SAMPLERS = {"ula": ULA, "mala": MALA, "rwm": lambda h: RandomWalk((2.0 * h) ** 0.5)}


def chain(sampler: Sampler, target: Target, steps: int, dtype: torch.dtype = torch.float64, compiled: bool = True) -> torch.Tensor:
    start = Particles(Stream("start").normal((N, target.dim)).to(dtype))
    return simulate(start, sampler, target, [steps], compiled=compiled)[0].x


@pytest.mark.benchmark(group="a chain of 4,000 particles")
@pytest.mark.parametrize("sampler", list(SAMPLERS))
@pytest.mark.parametrize("target", list(CHAINS))
def test_chain(benchmark, target: str, sampler: str) -> None:  # type: ignore[no-untyped-def]
    density, h, steps = CHAINS[target]
    assert bool(torch.isfinite(benchmark(chain, SAMPLERS[sampler](h), density, steps)).all())


@pytest.mark.benchmark(group="ULA on gauss50: compiled or through torch, double or single")
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_route(benchmark, dtype: torch.dtype, compiled: bool) -> None:  # type: ignore[no-untyped-def]
    density, h, steps = CHAINS["gauss50"]
    assert benchmark(chain, ULA(h), density, steps, dtype, compiled).dtype == dtype


@pytest.mark.benchmark(group="a million normals")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_normals(benchmark, dtype: torch.dtype) -> None:  # type: ignore[no-untyped-def]
    stream = Stream("bench", dtype=dtype)
    assert benchmark(stream.normal, (50, 20_000)).shape == (50, 20_000)
