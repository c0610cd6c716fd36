"""Our side, through public functions only."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mixrate.laws.particles import Particles, simulate
from mixrate.samplers.base import Sampler
from mixrate.samplers.mala import MALA
from mixrate.samplers.random_walk import RandomWalk
from mixrate.samplers.ula import ULA
from mixrate.targets.base import Target
from mixrate.targets.gaussian import Gaussian
from mixrate.targets.gaussian_mixture import GaussianMixture
from mixrate.targets.logistic_regression import LogisticRegression

torch.set_num_threads(1)


def prepare(task: dict[str, Any], arrays: dict[str, np.ndarray]):  # type: ignore[no-untyped-def]
    target, sampler = target_of(arrays), sampler_of(task["sampler"], task["step_size"])
    start = torch.as_tensor(arrays["start"], dtype=getattr(torch, task["dtype"]))
    steps = task["steps"]

    def run(seed: int) -> tuple[np.ndarray, float | None]:
        law = simulate(Particles(start, seed), sampler, target, [steps])[0]
        return law.x.numpy(), law.acceptance

    return run


def target_of(arrays: dict[str, np.ndarray]) -> Target:
    """The target that the arrays describe."""
    if "precision" in arrays:
        return Gaussian(np.zeros(len(arrays["precision"])), 1.0 / arrays["precision"])
    if "means" in arrays:
        return GaussianMixture(np.ones(len(arrays["means"])), arrays["means"], 1.0)
    return LogisticRegression(arrays["features"], arrays["labels"], float(arrays["prior_variance"]))


def sampler_of(name: str, step_size: float) -> Sampler:
    """The sampler of that name; the random walk proposes with the standard deviation of ULA's noise."""
    return {"ula": ULA, "mala": MALA, "rwm": lambda h: RandomWalk((2.0 * h) ** 0.5)}[name](step_size)  # type: ignore[operator, no-any-return]
