"""Every admissible pair (D, Q) leaves exp(-H) invariant: pointwise, on Gaussian laws, and on simulated chains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from ..errors import InvalidInput
from ..laws.normal import Normal
from ..laws.particles import Particles
from ..laws.propagate import Law, propagate
from ..metrics.base import Estimate
from ..metrics.w2 import W2
from ..samplers.complete_recipe import CompleteRecipe
from ..samplers.noise import Noise, Stream
from ..samplers.recipe import Constant, Recipe
from ..samplers.recipe_diffusion import RecipeDiffusion
from ..samplers.recipe_residual import residual
from ..samplers.recipe_sampler import RecipeSampler
from ..targets.base import Batch, Target
from .base import Case, Identity, Source
from .verdict import Row

#: False-alarm rate of the test on samples, over the rows of a cell.
FALSE_ALARM = 1e-6


@dataclass(frozen=True)
class RecipeInvariant(Identity):
    """``L* exp(-H) = 0`` for ``dz = [-(D + Q) grad H + div(D + Q)] dt + sqrt(2 D) dB``, constant and state-dependent D and Q.

    On any law: the largest Fokker-Planck residual at `points` points, relative to the sum of the absolute values of its terms
    (`samplers/recipe_residual.py`): of the drift as coded, by automatic differentiation. Points: exact draws of the target
    where it has a sampler, else N(0, 4 I); momenta from N(0, M I). Rounding is 1e-15, the tolerance 1e-10.
    Normal laws, `recipe_diffusion`: W2 between the law of z after k steps and exp(-H), relative to the latter's deviation.
    Particles, from exact draws: after k steps the Kolmogorov-Smirnov distance to fresh exact draws, of V, the projections on
    (1, ..., 1) and on the first axis, and of the momentum's on (1, ..., 1). The tolerance is the critical value t at a
    false-alarm rate of 1e-6 over the r rows of a cell, ``2 exp(-n t^2) = 1e-6 / r`` for two samples of n; distribution
    functions that differ by 2.5 t more than the allowance are told apart with probability ``1 - 1e-6``. The allowance is for
    the Euler step's own bias, of order h: twice the distance between chains of steps h and h/2 on one Brownian path. A row whose
    allowance exceeds t decides nothing: the step is too long.

    Arguments:
        points: at least 1.
        correction: off, div(D + Q) is left out. A negative control.
        symmetric: a multiple of the identity that is added to Q in the drift, which is then not skew. A negative control.

    References: Wei, Dudley, "Two-sample Dvoretzky-Kiefer-Wolfowitz inequalities" (2012), Theorem 1, for n >= 458,
        https://arxiv.org/abs/1107.5356
    """

    statement: ClassVar[str] = "exp(-H) is invariant for every D(z) positive semidefinite and Q(z) skew"
    source: ClassVar = Source(
        "A complete recipe for stochastic gradient MCMC", "Ma, Chen, Fox", 2015, "Theorem 1", "https://arxiv.org/abs/1506.04696"
    )
    samplers: ClassVar[tuple[str, ...]] = ("complete_recipe", "recipe_diffusion")
    instruments: ClassVar[str] = "AGP"
    quantity: ClassVar[str] = "Fokker-Planck residual"

    points: int = 64
    correction: bool = True
    symmetric: float = 0.0

    def __post_init__(self) -> None:
        if self.points < 1:
            raise InvalidInput(f"points must be at least 1, got {self.points}")
        if not np.isfinite(self.symmetric):
            raise InvalidInput(f"symmetric must be a finite number, got {self.symmetric}")

    def hypotheses(self, case: Case) -> list[str]:
        sampler = case.sampler
        assert isinstance(sampler, RecipeSampler)
        if not self.correction and isinstance(sampler.recipe, Constant):
            return ["a recipe that depends on the state: of a constant one there is no correction to leave out"]
        if not self._followed(case):
            return []
        if sampler.recipe.mass is not None and sampler.start != 1.0:
            return [f"momenta start in N(0, M I) (start = 1), got start = {sampler.start}"]
        if isinstance(case.start, Normal):
            return [] if _off(case.laws[0], case.target, sampler)[0] < 1e-8 else ["starts at pi (start: target)"]
        assert isinstance(case.start, Particles)
        if "sample" not in case.target.capabilities:
            return [f"exact draws of the target, which {case.target.name} does not provide"]
        if case.start.n < 458:
            return [f"at least 458 particles, got {case.start.n}"]
        at_start = self._differences(case, sampler, [(0, Particles(case.start.x, case.start.seed))])
        return [] if all(row.measured <= row.tolerance for row in at_start) else ["starts at pi (start: target)"]

    def rows(self, case: Case, factor: float = 1.0) -> list[Row]:
        assert isinstance(case.sampler, RecipeSampler)
        sampler, laws = case.sampler, case.laws
        if self.symmetric or not self.correction:
            sampler = replace(sampler, recipe=Planted(sampler.recipe, self.correction, self.symmetric))
            laws = propagate(case.start, sampler, case.target, case.steps) if self._followed(case) else laws
        z = _points(case.target, sampler.recipe.mass, self.points)
        worst = float(residual(sampler.recipe, case.target, z).relative.max())
        rows = [Row.of(Estimate.within(worst, 1e-14), 0.0, tolerance=1e-10, label=self.quantity)]
        if not self._followed(case):
            return rows
        moved = [(k, law) for k, law in zip(case.steps, laws, strict=True) if k > 0]
        if isinstance(case.start, Particles):
            return rows + self._differences(case, sampler, [(k, law) for k, law in moved if isinstance(law, Particles)])
        for k, law in moved:
            off, error = _off(law, case.target, sampler)
            rows.append(Row.of(Estimate.within(off, error), 0.0, k=k, time=k * case.h, tolerance=1e-9, label="relative W2 to exp(-H)"))
        return rows

    @staticmethod
    def _followed(case: Case) -> bool:
        """Whether the law itself is compared, beside the residual."""
        return isinstance(case.start, Particles) or (isinstance(case.start, Normal) and isinstance(case.sampler, RecipeDiffusion))

    @staticmethod
    def _differences(case: Case, sampler: RecipeSampler, laws: list[tuple[int, Particles]]) -> list[Row]:
        """The Kolmogorov-Smirnov rows of each sample."""
        seed, found = laws[0][1].seed, []
        allowed = _bias(sampler, case.target, laws[0][1].n, seed, [k for k, _ in laws])
        for k, law in laws:
            fresh = case.target.sample(law.n, Stream(seed, "fresh", case.target.id, k, dtype=law.x.dtype, device=str(law.x.device)))
            p = law.momentum
            q = (
                None
                if p is None
                else (sampler.recipe.mass or 1.0) ** 0.5 * Stream(seed, "fresh p", k, dtype=p.dtype, device=str(p.device)).normal(tuple(p.shape))
            )
            mine, theirs = _statistics(case.target, law.x, p), _statistics(case.target, fresh, q)
            found += [(k, what, _ks(mine[what], theirs[what]), allowed.get((k, what), 0.0), law.n) for what in mine]
        t = [float(np.sqrt(np.log(2 * len(found) / FALSE_ALARM) / n)) for *_, n in found]
        return [
            Row.of(Estimate(d, max(0.0, d - b), d + b), 0.0, k=k, time=k * case.h, tolerance=tolerance, label=f"KS of {what}")
            for (k, what, d, b, _), tolerance in zip(found, t, strict=True)
        ]


@dataclass(frozen=True)
class Planted(Recipe):
    """A recipe with a fault in its drift.

    Arguments:
        inner: the recipe.
        corrected: off, div(D + Q) is left out.
        symmetric: a multiple of the identity added to Q.
    """

    inner: Recipe
    corrected: bool
    symmetric: float

    @property
    def mass(self) -> float | None:
        return self.inner.mass

    def check(self, target: Target) -> None:
        """The recipe's own check: what is planted is not admissible."""
        self.inner.check(target)

    def diffusion(self, target: Target, z: Batch) -> torch.Tensor:
        return self.inner.diffusion(target, z)

    def curl(self, target: Target, z: Batch) -> torch.Tensor:
        return self.inner.curl(target, z) + self.symmetric * torch.eye(z.shape[1]).to(z)

    def correction(self, target: Target, z: Batch) -> Batch:
        return self.inner.correction(target, z) if self.corrected else torch.zeros_like(z)

    def spread(self, target: Target, z: Batch, xi: Batch) -> Batch:
        return self.inner.spread(target, z, xi)

    def normals(self, n: int) -> int:
        return self.inner.normals(n)

    def linear(self, target: Target) -> tuple[np.ndarray, np.ndarray] | None:
        found = self.inner.linear(target)
        return None if found is None else (found[0] - self.symmetric * self.hessian(target), found[1])


class _Sum(Noise):
    """The increments of one Brownian path over two half steps, as normals of the whole one."""

    def __init__(self, one: Noise, other: Noise) -> None:
        self.one, self.other = one, other

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        return (self.one.normal(shape) + self.other.normal(shape)) / 2**0.5

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        raise InvalidInput("the step of a recipe draws no uniform numbers")


def _bias(sampler: RecipeSampler, target: Target, n: int, seed: int, steps: list[int]) -> dict[tuple[int, str], float]:
    """(step, what) -> estimated distance of the step's law from the diffusion's, of order h; nothing where the step is exact."""
    if not isinstance(sampler, CompleteRecipe):
        return {}
    stream, half = Stream(seed, "halving", sampler.id, target.id), replace(sampler, step_size=sampler.step_size / 2)
    x = target.sample(n, Stream(seed, "halving start", target.id))
    coarse, fine = sampler.init(target, x, stream.at(0)), half.init(target, x, stream.at(0))
    found: dict[tuple[int, str], float] = {}
    for k in range(1, max(steps) + 1):
        fine = half.step(target, half.step(target, fine, stream.at(2 * k - 1)), stream.at(2 * k))
        coarse = sampler.step(target, coarse, _Sum(stream.at(2 * k - 1), stream.at(2 * k)))
        if k in steps:
            one, other = (_statistics(target, s.x, getattr(s, "p", None)) for s in (coarse, fine))
            found |= {(k, what): 2.0 * _ks(one[what], other[what]) for what in one}
    return found


def _points(target: Target, mass: float | None, n: int) -> Batch:
    """Points of evaluation, the same for every recipe on one target."""
    noise = Stream("recipe-invariant", target.id)
    x = target.sample(n, noise) if "sample" in target.capabilities else 2.0 * noise.normal((n, target.dim))
    return x if mass is None else torch.cat([x, mass**0.5 * noise.normal((n, target.dim))], dim=1)


def _off(law: Law, target: Target, sampler: RecipeSampler) -> tuple[float, float]:
    """W2 between the law of z and exp(-H), relative to the deviation of the latter, and its error."""
    assert isinstance(law, Normal) and target.moments is not None
    mean, cov, mass = target.moments[0].numpy(), target.moments[1].numpy(), sampler.recipe.mass
    if mass is not None:
        mean, cov = np.concatenate([mean, 0.0 * mean]), np.block([[cov, 0.0 * cov], [0.0 * cov, mass * np.eye(len(cov))]])
    estimate, scale = W2().normal(law.joint or law, Normal(mean, cov)), float(np.trace(cov)) ** 0.5
    return estimate.value / scale, max(estimate.upper - estimate.value, estimate.value - estimate.lower) / scale


def _statistics(target: Target, x: Batch, p: Batch | None) -> dict[str, np.ndarray]:
    """Numbers per particle whose laws are compared."""
    found = {"V": target.potential(x), "x_1 + ... + x_d": x.sum(1)} | ({"x_1": x[:, 0]} if x.shape[1] > 1 else {})
    found |= {} if p is None else {"p_1 + ... + p_d": p.sum(1)}
    return {what: torch.nan_to_num(values, nan=torch.inf).cpu().numpy() for what, values in found.items()}


def _ks(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference between two empirical distribution functions."""
    both = np.concatenate([a, b])
    return float(np.abs(np.searchsorted(np.sort(a), both, "right") / len(a) - np.searchsorted(np.sort(b), both, "right") / len(b)).max())
