"""What a target is: a density exp(-V)/Z with whatever is known exactly about it."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, fields, is_dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, final

import numpy as np
import torch

from ..errors import InvalidInput, Unsupported
from .identity import content

if TYPE_CHECKING:  # samplers may import targets, never the reverse: only the type is named here
    from ..samplers.noise import Noise
    from .kernel import Kernel

Batch = torch.Tensor  # (N, d)
Values = torch.Tensor  # (N,)

#: What is asked of a target: V, the score, or both in one pass.
POTENTIAL, SCORE, BOTH = 1, 2, 3

#: Depth (V - min V) beyond which a density is taken to be zero: exp(-45) = 3e-20.
DEPTH = 45.0


@dataclass(frozen=True)
class Constant:
    """A constant of a target and how it is known.

    Arguments:
        value: the number. A `bound` is on the safe side: too small for m, lsi and poincare, too large for M.
        how: ``exact`` (closed form), ``bound`` (a proven one-sided estimate) or ``numeric`` (computed and converged).
        why: the argument, in a few words.
    """

    value: float
    how: Literal["exact", "bound", "numeric"]
    why: str


class Constants(Mapping[str, Constant]):
    """Constants by name. One that takes time is given as a function of no arguments, called when it is first asked for; where
    that raises `Unsupported` the constant is not declared, and the others are.

    Arguments:
        entries: constants, or functions that compute one (a `functools.partial` goes into other processes, a lambda does not).
    """

    def __init__(self, **entries: Constant | Callable[[], Constant]) -> None:
        self._entries = entries

    def __getitem__(self, name: str) -> Constant:
        entry = self._entries[name]
        if not isinstance(entry, Constant):
            try:
                entry = self._entries[name] = entry()
            except Unsupported:
                del self._entries[name]
                raise KeyError(name) from None
        return entry

    def at_once(self) -> dict[str, Constant | None]:
        """The constants by name, None for one that is still to be computed."""
        return {name: entry if isinstance(entry, Constant) else None for name, entry in self._entries.items()}

    def __iter__(self) -> Iterator[str]:
        return iter([name for name in tuple(self._entries) if name in self])

    def __len__(self) -> int:
        return len(list(iter(self)))


class Split(NamedTuple):
    """A density that is a product after a rotation: coordinates ``y = x Q`` are independent groups.

    Arguments:
        basis: Q, orthogonal, shape (d, d); None for the identity.
        factors: targets of the groups, in the order of y; their dimensions add up to d.
    """

    basis: torch.Tensor | None
    factors: tuple[Target, ...]


class Target(ABC):
    """A density exp(-V(x)) / Z on R^d.

    A concrete target is a frozen dataclass of its parameters, one per file; its name in a YAML is the file's name, and
    its class methods are further names (``gaussian.ill_conditioned``). `dim` and `potential` must be written; every
    other hook is a capability that a target may declare by overriding it.

    Constants in use (`constants` maps the name to a `Constant`):
        m: ``m I <= Hess V`` (strong convexity where m > 0).
        M: ``-M I <= Hess V <= M I`` (smoothness).
        lsi: log-Sobolev constant alpha in ``KL(mu|pi) <= J(mu|pi) / (2 alpha)``; 0 where there is none.
        poincare: Poincare constant alpha in ``Var f <= E|grad f|^2 / alpha``; 0 where there is none.

    Class attributes:
        version: raised when what the class computes changes.
        examples: the instances that `mixrate list targets` shows and `mixrate certify --all` certifies: pairs of a class
            method (empty for the class itself) and its parameters, as a YAML would give them.
    """

    version: ClassVar[int] = 1
    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = ()

    @property
    @abstractmethod
    def dim(self) -> int:
        """Dimension d of the space."""

    @abstractmethod
    def potential(self, x: Batch) -> Values:
        """V at each row of `x`, shape (N,), in the dtype and on the device of `x`."""

    # Hooks: the default is correct for every target, an override is faster or adds a capability.

    def score(self, x: Batch) -> Batch:
        """-grad V at each row of `x`, shape (N, d). Default: reverse-mode differentiation of `potential`."""
        return self.potential_and_score(x)[1]

    def potential_and_score(self, x: Batch) -> tuple[Values, Batch]:
        """(V, -grad V) in one pass. Default: reverse-mode differentiation of `potential`."""
        if type(self).score is not Target.score:
            return self.potential(x), self.score(x)
        with torch.enable_grad():
            y = x.detach().requires_grad_(True)
            value = self.potential(y)
            (gradient,) = torch.autograd.grad(value.sum(), y)
        return value.detach(), -gradient

    def hessian(self, x: Batch) -> torch.Tensor:
        """Hess V at each row of `x`, shape (N, d, d). Default: d reverse passes over the gradient of `potential`."""
        with torch.enable_grad():
            y = x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.potential(y).sum(), y, create_graph=True)
            columns = gradient.sum(0) if gradient.requires_grad else ()  # a piecewise linear V: nothing left to differentiate
            rows = [torch.autograd.grad(c, y, retain_graph=True, materialize_grads=True, allow_unused=True)[0] for c in columns]
        return torch.stack(rows, 1) if rows else x.new_zeros((*x.shape, x.shape[1]))

    @property
    def kernel(self) -> Kernel | None:
        """V and the score as compiled loops over a block of particles, which `samplers/fused.py` runs; or None."""
        return None

    @property
    def constants(self) -> Mapping[str, Constant]:
        """The constants that are known, by name."""
        return {}

    @property
    def log_normalizer(self) -> float | None:
        """log of Z = integral of exp(-V), or None where it is not known."""
        return None

    @property
    def moments(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Mean (d,) and covariance (d, d), or None where they are not known."""
        return None

    @property
    def is_gaussian(self) -> bool:
        """Whether the density is Gaussian, so that `moments` determine it."""
        return False

    @property
    def split(self) -> Split | None:
        """The density as a product of densities in fewer dimensions, or None."""
        return None

    def sample(self, n: int, noise: Noise) -> Batch:
        """`n` independent exact draws, shape (n, d)."""
        raise Unsupported(f"{self.name} has no exact sampler")

    def diffused(self, scale: float, variance: float) -> Target:
        """The law of ``scale X + sqrt(variance) xi``, X from the target: what a linear diffusion makes of it."""
        raise Unsupported(f"{self.name} has no closed form after noising")

    def restricted_gaussian(self, y: Batch, variance: float, noise: Noise) -> Batch:
        """One exact draw per row of `y` from the density proportional to exp(-V(x) - |x - y|^2 / (2 variance))."""
        raise Unsupported(f"{self.name} has no closed-form restricted Gaussian draw")

    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners (lo, hi) of a box that holds all but about 1e-19 of the mass. Default: outward search in d = 1."""
        if self.dim != 1:
            raise Unsupported(f"{self.name} in d = {self.dim} declares no extent; give the grid a box")
        scale = 1.0
        while scale < 1e6:
            x = np.linspace(-scale, scale, 4097)
            v = self.potential(torch.as_tensor(x[:, None])).numpy()
            if v.shape != x.shape or not np.isfinite(v).any():
                raise Unsupported(f"the potential of {self.name} must give one finite number per row, got shape {v.shape}")
            inside = np.flatnonzero(v - v.min() < DEPTH)
            if inside[0] > 0 and inside[-1] < len(x) - 1:
                # two extra cells of the search mesh: the crossing lies between nodes
                step = x[1] - x[0]
                return np.array([x[inside[0]] - 2 * step]), np.array([x[inside[-1]] + 2 * step])
            scale *= 2.0
        raise Unsupported(f"{self.name} does not decay within |x| < 1e6; give the grid a box")

    # Final: the same for every target.

    @final
    def noised(self, time: float) -> Target:
        """The law of ``exp(-t) X + sqrt(1 - exp(-2t)) xi``, X from the target: the Ornstein-Uhlenbeck flow ``dX = -X dt + sqrt(2) dB``."""
        if not 0 <= time < math.inf:
            raise InvalidInput(f"time must be a non-negative number, got {time}")
        return self.diffused(math.exp(-time), -math.expm1(-2 * time))

    @property
    @final
    def name(self) -> str:
        """Name in a YAML: the module's."""
        return type(self).__module__.rsplit(".", 1)[-1]

    @final
    def constant(self, name: str) -> float | None:
        """The value of a constant, or None where it is not declared."""
        found = self.constants.get(name)
        return None if found is None else found.value

    @property
    @final
    def capabilities(self) -> tuple[str, ...]:
        """Names of the optional hooks that this target declares."""
        methods = ("score", "sample", "restricted_gaussian", "diffused", "hessian", "kernel")
        values = ("log_normalizer", "moments", "split")
        return tuple([h for h in methods if getattr(type(self), h) is not getattr(Target, h)] + [h for h in values if getattr(self, h) is not None])

    @cached_property
    def id(self) -> str:
        """Canonical identity: name, dimension, version and a hash of every parameter."""
        digest = hashlib.sha256(f"{self.name}:{type(self).__qualname__}:{self.version}".encode())
        parameters: tuple[Field[Any], ...] = fields(self) if is_dataclass(self) else ()
        for field in parameters:
            value = getattr(self, field.name)
            digest.update(f"|{field.name}=".encode())
            digest.update(content(float(value) if type(value) is int else value))  # 1 and 1.0 are one density
        return f"{self.name}[d={self.dim}]v{self.version}-{digest.hexdigest()[:12]}"

    @final
    def __eq__(self, other: object) -> bool:
        """Targets are equal when they are the same density: caches and tables rely on it."""
        return isinstance(other, Target) and self.id == other.id

    @final
    def __hash__(self) -> int:
        return hash(self.id)


def vector(value: Any, what: str) -> torch.Tensor:
    """A finite float64 vector from a number or a sequence, or one clear line."""
    tensor = torch.atleast_1d(torch.as_tensor(value, dtype=torch.float64))
    if tensor.ndim != 1 or not bool(torch.isfinite(tensor).all()):
        raise InvalidInput(f"{what} must be a finite vector, got shape {tuple(tensor.shape)}")
    return tensor


def covariance(value: Any, dim: int, what: str) -> torch.Tensor:
    """A symmetric positive definite (dim, dim) matrix from a number (isotropic), a diagonal or a matrix."""
    tensor = torch.as_tensor(value, dtype=torch.float64)
    if tensor.ndim == 0:
        tensor = tensor * torch.eye(dim, dtype=torch.float64)
    elif tensor.ndim == 1:
        tensor = torch.diag(tensor)
    if tensor.shape != (dim, dim):
        raise InvalidInput(f"{what} must be {dim} x {dim} like the mean, got shape {tuple(tensor.shape)}")
    if not bool(torch.isfinite(tensor).all()) or not torch.allclose(tensor, tensor.T, rtol=1e-10, atol=1e-12):
        raise InvalidInput(f"{what} must be a finite symmetric matrix")
    _, info = torch.linalg.cholesky_ex(tensor)
    if int(info) != 0:
        smallest = float(torch.linalg.eigvalsh(tensor)[0])
        raise InvalidInput(f"{what} must be positive definite, its smallest eigenvalue is {smallest:.6g}")
    return tensor


def admit_diffusion(scale: float, variance: float) -> None:
    """Raise one line unless ``scale X + sqrt(variance) xi`` is a random variable with a density."""
    if not (0 <= scale < math.inf and 0 <= variance < math.inf and scale + variance > 0):
        raise InvalidInput(f"scale and variance must be non-negative numbers, not both 0, got {scale} and {variance}")
