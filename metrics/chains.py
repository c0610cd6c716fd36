"""Recorded laws of particles as the draws of chains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..errors import Unsupported
from ..laws.particles import Particles
from ..laws.propagate import Law
from .sampling import Z, points

#: Chains that enter at most: the first ones.
CHAINS = 1000

#: Groups of chains whose scatter gives an interval, and the fewest chains in one.
GROUPS, FEWEST = 10, 4


def chains(name: str, laws: Sequence[Law], least: int = 4) -> np.ndarray:
    """The draws, shape (chains, recorded laws, d).

    Arguments:
        least: fewest recorded laws that the caller can use.
    Errors: `Unsupported` for other laws than particles, below `least` recorded laws, and where no chain moves in a coordinate
        or one particle is not in all laws; `Diverged` as in `points`.
    """
    clouds = [law for law in laws if isinstance(law, Particles)]
    if len(clouds) < len(laws):
        raise Unsupported(f"{name} needs particles: their trajectories are chains")
    if len(clouds) < least:
        raise Unsupported(f"{name} needs at least {least} recorded laws, got {len(clouds)}")
    if len({law.n for law in clouds}) > 1:
        raise Unsupported(f"{name} needs the same particles in every recorded law, got {sorted({law.n for law in clouds})} of them")
    draws = np.stack([points(law)[:CHAINS] for law in clouds], axis=1)
    still = np.flatnonzero((np.ptp(draws, axis=1) == 0).all(0))
    if still.size:
        raise Unsupported(f"{name} needs chains that move, and none does in coordinate {still[0]}")
    return draws


def grouped(draws: np.ndarray, statistic: Callable[[np.ndarray], float], total: bool) -> float:
    """Half a 99 % interval from the statistic's scatter over groups of chains; inf below `GROUPS * FEWEST` chains, and where a
    group has no finite value (all its chains stand still).

    Arguments:
        draws: one coordinate, shape (chains, draws).
        total: the statistic adds up over groups, else it averages.
    """
    if len(draws) < GROUPS * FEWEST:
        return np.inf
    values = np.array([statistic(part) for part in np.array_split(draws, GROUPS)])
    if not np.isfinite(values).all():
        return np.inf
    return float(Z * values.std(ddof=1) * np.sqrt(GROUPS if total else 1 / GROUPS))
