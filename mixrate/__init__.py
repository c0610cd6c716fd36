"""mixrate: does this sampler converge at the rate its theorem says?

In a notebook:

>>> import mixrate
>>> target = mixrate.target("gaussian.ill_conditioned", dim=50, condition=20)
>>> ula = mixrate.sampler("ula", step_size=0.01)
>>> laws = mixrate.propagate(mixrate.normal(3.0, 1.0, dim=50), ula, target, steps=1000, checkpoints=[10, 100, 1000])
>>> [mixrate.metric("w2")(law, target).value for law in laws]  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import Diverged, InvalidInput, MixrateError, Unsupported

__version__ = "0.1.0"
__all__ = [
    "Diverged",
    "InvalidInput",
    "MixrateError",
    "Unsupported",
    "certify",
    "load_plugin",
    "load_result",
    "metric",
    "normal",
    "potential",
    "propagate",
    "run",
    "sampler",
    "stationary",
    "target",
    "theorem",
    "train",
]

if TYPE_CHECKING:
    from .facade import certify, load_plugin, load_result, metric, normal, potential, propagate, run, sampler, stationary, target, theorem, train


def __getattr__(name: str) -> Any:
    """The public functions, imported on first use: `import mixrate` costs nothing, torch comes with the first call."""
    if name in __all__:
        return getattr(importlib.import_module(".facade", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
