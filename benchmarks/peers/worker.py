"""One opponent in a process of its own: reads requests as lines of JSON, runs the chain once per request, says its own CPU time.

``python worker.py MODULE CORE``: MODULE is a file beside this one with ``prepare(task, arrays) -> run``, where ``run(seed)``
does the whole work once and returns ``(positions or None, acceptance rate or None)``. The process is pinned to CORE and
has one thread, both before anything heavy is imported. An error is an answer, ``{"error": ...}``, and not the end.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np

PACKAGES = ("torch", "numba", "numpy", "POT", "jax", "jaxlib", "blackjax")

Run = Callable[[int], tuple[Any, float | None]]


def serve(module: str) -> None:
    """Answer requests until the pipe closes."""
    # what a library prints must not get between the answers
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    prepared: dict[str, tuple[Run, np.ndarray | None]] = {}
    opponent: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "hello":
                opponent = importlib.import_module(module)
                answer: dict[str, Any] = {"versions": versions()}
            elif request["do"] == "prepare":
                arrays = dict(np.load(request["arrays"])) if request["arrays"] else {}
                run = opponent.prepare(request["task"], arrays)
                run(0)  # compiles and warms up
                prepared[request["name"]] = run, arrays.get("start")
                answer = {}
            elif request["do"] == "run":
                run, _ = prepared[request["name"]]
                began = time.process_time()
                run(request["seed"])
                answer = {"seconds": time.process_time() - began}
            else:
                answer = summary(*prepared[request["name"]], request["seed"])
        except Exception as error:
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        answers.write(json.dumps(answer) + "\n")


def summary(run: Run, start: np.ndarray | None, seed: int) -> dict[str, Any]:
    """What a right chain must agree on: acceptance, second moments, and how far the particles came, per coordinate."""
    x, acceptance = run(seed)
    x = np.asarray(x, dtype=float)
    assert start is not None
    return {"acceptance": acceptance, "second_moment": (x**2).mean(0).tolist(), "displacement": ((x - start) ** 2).mean(0).tolist()}


def versions() -> dict[str, str]:
    """Versions of what is installed in this environment."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(sys.argv[2])})
    serve(sys.argv[1])
