"""One score estimate by the public code of ZOD-MC, as its README runs RDMC: Langevin chains from the kernel's draws.

The variable ZODMC names a clone of https://github.com/KevinRojas1499/ZOD-MC; it is read, never installed. Some packages that its
files import have no part in an estimate: where they are not there, empty ones stand in.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from typing import Any

import numpy as np
import torch

torch.set_num_threads(1)


def stand_in(name: str, **has: Any) -> None:
    """An empty package, where there is none of that name."""
    if importlib.util.find_spec(name) is None:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__dict__.update(has)


stand_in("tqdm", tqdm=lambda steps, **_: steps)  # a progress bar, which its chains switch off
stand_in("yaml")  # reads its configuration
stand_in("torchmin", minimize=None)  # the minimum of V, for its rejection sampler
sys.path.insert(0, os.environ["ZODMC"])

import sde_lib  # type: ignore[import-not-found]  # noqa: E402
from utils.densities import MixtureDistribution, MultivariateGaussian  # type: ignore[import-not-found]  # noqa: E402
from utils.score_estimators import RDMC_ScoreEstimator  # type: ignore[import-not-found]  # noqa: E402


def prepare(task: dict[str, Any], arrays: dict[str, np.ndarray]):  # type: ignore[no-untyped-def]
    weights, means, covs, x = (torch.as_tensor(arrays[name], dtype=torch.float32) for name in ("weights", "means", "covs", "x"))
    mixture = MixtureDistribution(weights, [MultivariateGaussian(m, c) for m, c in zip(means, covs, strict=True)])
    estimator = RDMC_ScoreEstimator(
        mixture, sde_lib.VP(), torch.device("cpu"), def_num_samples=task["chains"], ula_step_size=task["step_size"], ula_steps=task["steps"]
    )
    time = torch.tensor(task["time"])

    def run(seed: int) -> tuple[np.ndarray, None]:
        torch.manual_seed(seed)
        return estimator.score_estimator(x, time).numpy(), None

    return run
