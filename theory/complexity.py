"""The fewest steps to a given distance, over all step sizes, for chains whose law is carried by affine maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy  # its parts are loaded where they are used

from ..errors import Diverged, Unsupported
from ..laws.normal import AffineMap, Normal

#: A step size that never gets there.
NEVER = 10**9


class Search(NamedTuple):
    """A chain at one step size: its map, its start, and the distance of a law from the target."""

    step: AffineMap
    start: Normal
    distance: Callable[[Normal], float]


def fewest(search: Callable[[float], Search], sizes: np.ndarray, reach: float) -> int:
    """The fewest steps with ``distance <= reach``, over step sizes in the range of `sizes`, a decreasing geometric grid.

    For each h the law after 2^j steps comes by squaring the affine map, and N by bisection on its binary digits (the distance
    falls until it meets the bias); h by a bounded search around the best of the grid.
    """

    def steps(h: float) -> int:
        step, start, distance = search(h)
        try:
            if distance(step.stationary()) >= reach * (1 - 1e-9):
                return NEVER
        except Diverged:
            return NEVER
        squares = [step]
        while not distance(squares[-1](start)) <= reach:
            squares.append(squares[-1].then(squares[-1]))
            if len(squares) > 30:
                return NEVER
        law, n = start, 0
        for j in reversed(range(len(squares) - 1)):
            later = squares[j](law)
            if not distance(later) <= reach:
                law, n = later, n + 2**j
        return n + 1

    counts = [steps(float(h)) for h in sizes]
    if min(counts) == NEVER:
        raise Unsupported(f"no step size from {sizes[-1]:.3g} to {sizes[0]:.3g} comes as near as {reach:.3g}: ask for less accuracy")
    i = int(np.argmin(counts))
    around = np.log([sizes[min(i + 1, len(sizes) - 1)], sizes[max(i - 1, 0)]])
    best = scipy.optimize.minimize_scalar(lambda u: np.log(steps(float(np.exp(u)))), bounds=tuple(around), method="bounded", options={"maxiter": 25})
    return min(min(counts), steps(float(np.exp(best.x))))
