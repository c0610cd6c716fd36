"""One score estimate of reverse diffusion Monte Carlo by our side, through its public class."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from mixrate.samplers.noise import Stream
from mixrate.samplers.rdmc import RDMC
from mixrate.targets.gaussian_mixture import GaussianMixture

torch.set_num_threads(1)


def prepare(task: dict[str, Any], arrays: dict[str, np.ndarray]):  # type: ignore[no-untyped-def]
    target = GaussianMixture(arrays["weights"], arrays["means"], list(arrays["covs"]))
    x = torch.as_tensor(arrays["x"], dtype=getattr(torch, task["dtype"]))
    sampler = RDMC(1, task["time"], inner="ula", inner_chains=task["chains"], inner_steps=task["steps"], identity=task["identity"])
    # both sides are told a step in units of time, and ours counts it in those of the posterior: 1/M, or v where there is no M
    posterior = sampler.posterior(target, 0, x)
    sampler = dataclasses.replace(sampler, inner_step=task["step_size"] * (posterior.constant("M") or 1 / posterior.variance))

    def run(seed: int) -> tuple[np.ndarray, None]:
        return sampler.look(target, 0, x, Stream(seed, dtype=x.dtype)).score.numpy(), None

    return run
