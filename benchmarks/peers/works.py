"""What is measured, and what is asked of it. Plain numpy: the same numbers go to mixrate and to every peer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

#: Particles of a work, unless it says otherwise.
N = 10_000


@dataclass(frozen=True)
class Work:
    """One chain: a target, a sampler, and the ratio that is asked of mixrate against each peer.

    Arguments:
        target: a name that `parameters` knows.
        sampler: ula, mala or rwm (random walk, proposals of standard deviation ``sqrt(2 h)``).
        steps: length of the chain in one timed call; some tenths of a second for the slowest peer.
        goals: least ratio by opponent: peer's time / ours, or for `floor` (the noise alone) noise / ours. None: shown, not judged.
    """

    target: str
    sampler: str
    steps: int
    goals: dict[str, float | None] = field(hash=False)
    dtype: str = "float64"
    n: int = N

    @property
    def name(self) -> str:
        """How rows call it: ``ULA gauss50``, with the precision where it is single and N where it is not the usual one."""
        short = "" if self.dtype == "float64" else " f32"
        return f"{self.sampler.upper()} {self.target}{short}" + ("" if self.n == N else f" N={self.n:.0e}".replace("e+0", "e"))

    def task(self) -> dict[str, Any]:
        """The work in a form that goes through a pipe."""
        return {k: v for k, v in asdict(self).items() if k != "goals"} | {"step_size": STEP_SIZE[self.target]}


STEP_SIZE = {"gauss50": 0.005, "gmm2": 0.1, "gmm50": 0.02, "logreg25": 0.005}

WORKS = (
    Work("gauss50", "ula", 50, {"floor": 0.55, "blackjax": 6.0, "jax": 6.0}),
    Work("gauss50", "mala", 40, {"floor": None, "blackjax": 4.0, "jax": 3.0}),
    Work("gauss50", "rwm", 50, {"floor": None, "blackjax": 3.0, "jax": 3.0}),
    Work("gmm2", "ula", 100, {"blackjax": 6.0, "jax": 2.0}),
    Work("gmm2", "mala", 100, {"blackjax": 4.0, "jax": 2.0}),
    Work("gmm2", "rwm", 100, {"blackjax": 4.0, "jax": 2.0}),
    Work("gmm50", "ula", 20, {"blackjax": 5.0, "jax": 3.0}),
    Work("gmm50", "mala", 20, {"blackjax": 5.0, "jax": 3.0}),
    Work("logreg25", "ula", 5, {"blackjax": 3.0, "jax": 1.3}),
    Work("gauss50", "ula", 100, {"blackjax": 4.0}, "float32"),
    Work("gauss50", "mala", 80, {"blackjax": 4.0}, "float32"),
    Work("gmm2", "ula", 100, {"blackjax": 10.0}, "float32"),
    Work("gmm2", "mala", 100, {"blackjax": 10.0}, "float32"),
)

#: The same cost per particle whatever their number: at most this many times dearer at the second size.
SCALING = (Work("gauss50", "ula", 1000, {}, n=1_000), Work("gauss50", "ula", 20, {}, n=100_000), 1.5)

#: Particles per array of normals: with their 50 coordinates what fits into the cache, as it does in a chain.
BLOCK = 2_500

#: What runs before its first cell and after its last, in seconds at most, kernels compiled before.
STARTUP = {"first-look": 4.0, "ula-w2-particles": 4.0}

#: And the answer of ``mixrate --help``.
HELP = 0.4

#: Least ratio of a generator's time per normal to ours, in float64; numpy's is the faster of its two fastest bit generators.
NORMALS = {"torch": 8.0, "numpy": 4.0}


def parameters(target: str, n: int) -> dict[str, np.ndarray]:
    """The arrays of a target, and `start`: n positions, drawn from it where that can be done exactly.

    gauss50: independent coordinates, precisions from 1 to 100. gmm2, gmm50: equal modes of unit covariance. logreg25:
    1,000 rows, prior N(0, I), start near the weights that the labels were drawn with.
    """
    random = np.random.Generator(np.random.PCG64(0))
    if target == "gauss50":
        precision = np.logspace(0, 2, 50)
        return {"precision": precision, "start": random.standard_normal((n, 50)) / np.sqrt(precision)}
    if target in ("gmm2", "gmm50"):
        means = random.uniform(-40, 40, (40, 2)) if target == "gmm2" else 1.5 * random.standard_normal((8, 50))
        return {"means": means, "start": means[random.integers(0, len(means), n)] + random.standard_normal((n, means.shape[1]))}
    if target == "logreg25":
        features = random.standard_normal((1000, 25)) / 5
        weights = random.standard_normal(25)
        labels = (random.random(1000) < 1 / (1 + np.exp(-features @ weights))).astype(float)
        return {"features": features, "labels": labels, "prior_variance": np.array(1.0), "start": weights + 0.3 * random.standard_normal((n, 25))}
    raise KeyError(target)
