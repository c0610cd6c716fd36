"""A density that a user writes down as a function."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ..errors import InvalidInput, Unsupported
from .base import Batch, Constant, Constants, Target, Values, covariance, vector

if TYPE_CHECKING:
    from ..samplers.noise import Noise

NAMES = ("m", "M", "lsi", "poincare")


@dataclass(frozen=True, eq=False)
class _UserPotential(Target):
    """See `user_potential`, which makes it."""

    V: Callable[[Batch], Values]
    d: int
    gradient: Callable[[Batch], Batch] | None = None
    log_z: float | None = None
    draw: Callable[[int, Noise], Batch] | None = None
    mean: Any = None
    cov: Any = None
    box: Any = None
    known: Mapping[str, Constant] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        return self.d

    def potential(self, x: Batch) -> Values:
        value = self.V(x)
        if value.shape != x.shape[:1]:
            raise InvalidInput(f"the potential must return one number per row, shape ({len(x)},), got {tuple(value.shape)}")
        return value

    def potential_and_score(self, x: Batch) -> tuple[Values, Batch]:
        if self.gradient is None:
            return Target.potential_and_score(self, x)
        gradient = self.gradient(x)
        if gradient.shape != x.shape:
            raise InvalidInput(f"the gradient must return one row per row, shape {tuple(x.shape)}, got {tuple(gradient.shape)}")
        return self.potential(x), -gradient

    @property
    def log_normalizer(self) -> float | None:
        return self.log_z

    @property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        return None if self.mean is None or self.cov is None else (self.mean, self.cov)

    @property
    def constants(self) -> Mapping[str, Constant]:
        return Constants(**self.known)

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        return Target.extent(self) if self.box is None else self.box


@dataclass(frozen=True, eq=False)
class _UserDraws(_UserPotential):
    """With an exact sampler."""

    def sample(self, n: int, noise: Noise) -> Batch:
        if self.draw is None:
            raise Unsupported("this potential came without a sampler")
        x = self.draw(n, noise)
        if x.shape != (n, self.d):
            raise InvalidInput(f"the sampler must return shape ({n}, {self.d}), got {tuple(x.shape)}")
        return x


def user_potential(
    potential: Callable[[Batch], Values],
    dim: int,
    *,
    gradient: Callable[[Batch], Batch] | None = None,
    log_normalizer: float | None = None,
    sample: Callable[[int, Noise], Batch] | None = None,
    mean: Any = None,
    cov: Any = None,
    box: tuple[Any, Any] | None = None,
    how: Literal["exact", "bound", "numeric"] = "bound",
    **constants: float,
) -> Target:
    """A target from a function: ``user_potential(lambda x: (x**4).sum(1) / 4, dim=3, m=0.0)``.

    All that is declared is checked by `mixrate.certify`, and before any theorem.

    Cost: that of the functions; without `gradient` a score is one reverse pass over the potential.

    Arguments:
        potential: V of a batch (N, d) of torch numbers, shape (N,), in the dtype and on the device of its argument.
        dim: d, at least 1.
        gradient: grad V (not the score), shape (N, d); by differentiation where it is not given.
        log_normalizer: log of the integral of exp(-V), where it is known.
        sample: exact draws from a number and a `Noise`, shape (n, d).
        mean, cov: moments, both or neither.
        box: corners (lo, hi) that hold all but 1e-19 of the mass; found by a search where d = 1.
        how: how the constants are known.
        constants: m, M, lsi, poincare; see `Target`.

    Errors: `InvalidInput` where a function returns another shape, or an argument does not fit.
    """
    if not callable(potential):
        raise InvalidInput(f"potential must be a function of a batch, got a {type(potential).__name__}")
    try:
        dim = operator.index(dim)
    except TypeError:
        raise InvalidInput(f"dim must be a whole number of at least 1, got {dim!r}") from None
    if dim < 1:
        raise InvalidInput(f"dim must be a whole number of at least 1, got {dim}")
    moments, corners = _moments(mean, cov, dim), _corners(box, dim)
    _check_numbers(how, log_normalizer, constants)
    known = {name: Constant(float(value), how, "declared by the user") for name, value in constants.items()}
    make = _UserPotential if sample is None else _UserDraws
    target = make(potential, dim, gradient, log_normalizer, sample, moments[0], moments[1], corners, known)
    try:
        target.potential_and_score(torch.zeros((2, dim), dtype=torch.float64))
    except InvalidInput:
        raise
    except Exception as error:
        raise InvalidInput(f"the potential fails on a batch of shape (2, {dim}): {type(error).__name__}: {' '.join(str(error).split())}") from error
    return target


def _moments(mean: Any, cov: Any, dim: int) -> tuple[torch.Tensor, torch.Tensor] | tuple[None, None]:
    if mean is None and cov is None:
        return None, None
    if mean is None or cov is None:
        raise InvalidInput("mean and cov come together: one was given without the other")
    try:
        found = vector(mean, "mean")
        if len(found) != dim:
            raise InvalidInput(f"mean must have {dim} numbers, got {len(found)}")
        return found, covariance(cov, dim, "cov")
    except (TypeError, RuntimeError) as error:  # torch on what is no number
        raise InvalidInput(f"mean and cov must be arrays of numbers: {' '.join(str(error).split())}") from None


def _corners(box: Any, dim: int) -> tuple[np.ndarray, ...] | None:
    if box is None:
        return None
    try:
        corners = tuple(np.broadcast_to(np.asarray(end, float), (dim,)) for end in box)
    except (TypeError, ValueError):
        raise InvalidInput(f"box must be two corners (lo, hi) of {dim} numbers each, got {box!r}") from None
    if not (len(corners) == 2 and np.isfinite(corners).all() and bool((corners[0] < corners[1]).all())):
        raise InvalidInput("box must be two corners (lo, hi) with lo < hi on every axis")
    return corners


def _check_numbers(how: str, log_normalizer: Any, constants: Mapping[str, Any]) -> None:
    unknown = [name for name in constants if name not in NAMES]
    if unknown:
        raise InvalidInput(f"unknown constant {unknown[0]!r}, a potential may declare {', '.join(NAMES)}")
    if how not in ("exact", "bound", "numeric"):
        raise InvalidInput(f"how must be exact, bound or numeric, got {how!r}")
    for name, value in {"log_normalizer": log_normalizer, **constants}.items():
        if value is not None and not (isinstance(value, (int, float, np.number)) and np.isfinite(value)):
            raise InvalidInput(f"{name} must be a finite number, got {value!r}")
