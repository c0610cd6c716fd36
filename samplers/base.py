"""What a sampler is: one step, written once, that is both simulated and propagated."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, final

import numpy as np

from ..errors import InvalidInput, Unsupported
from ..targets.base import Batch, Target
from ..targets.identity import content
from ..targets.mesh import Mesh
from .noise import Noise

if TYPE_CHECKING:
    from .fused import Fused


class Transfer(NamedTuple):
    """One step as an operator on densities at the nodes of a mesh.

    operator: density (n**d,) to density (n**d,).
    leave: upper estimate of the probability that a step from each node leaves the box, or None where it cannot.
    rounding: absolute rounding error per node that one application adds, as a function of the density it acts on; None
        where the operator is a positive matrix, whose rounding is relative.
    """

    operator: Callable[[np.ndarray], np.ndarray]
    leave: np.ndarray | None = None
    rounding: Callable[[np.ndarray], np.ndarray] | None = None


class State(NamedTuple):
    """The state of a sampler without memory. Richer ones keep `x` first; a momentum is called `p`; what else they carry is
    a function of the two (a score, say) that need not be computed twice."""

    x: Batch


class Momentum(NamedTuple):
    """Law of each momentum coordinate, independent of the position.

    start: variance at the start, at least 0. mass: variance under the law that the dynamics leaves invariant.
    """

    start: float
    mass: float


#: A part of a step, with the signature of `Sampler.step`.
Stage = Callable[[Target, Any, Noise], Any]


class Sampler(ABC):
    """A Markov kernel. A concrete sampler is a frozen dataclass of hyperparameters, one per file.

    Class attributes:
        bias_order: order in h of the stationary bias; None where the target is invariant.
        score_evaluations: scores per particle and step, where they are the same on every target.
        potential_evaluations: potentials per particle and step, likewise.
        needs: capabilities of the target that `step` uses.
        accepts: whether a step is a proposal that is accepted or rejected: particles then know their acceptance rate.
        interacts: whether particles see each other: all of them then go through a step as one block.
    """

    version: ClassVar[int] = 1
    bias_order: ClassVar[float | None] = None
    score_evaluations: ClassVar[float] = 0.0
    potential_evaluations: ClassVar[float] = 0.0
    needs: ClassVar[tuple[str, ...]] = ()
    accepts: ClassVar[bool] = False
    interacts: ClassVar[bool] = False

    @abstractmethod
    def step(self, target: Target, state: Any, noise: Noise) -> Any:
        """The state after one step; a pure function of its arguments."""

    # Hooks.

    def evaluations(self, target: Target) -> tuple[float, float]:
        """(Scores, potentials) per particle and step on `target`, inner and replica ones included; NaN where a step is not
        possible there. Default: the two class attributes. To be written where they depend on the target."""
        return self.score_evaluations, self.potential_evaluations

    def init(self, target: Target, x: Batch, noise: Noise) -> Any:
        """The state that starts at positions `x`. Default: no memory."""
        return State(x)

    @property
    def momentum(self) -> Momentum | None:
        """The law of the momentum at the start, where the state has one (`init` draws it); else None."""
        return None

    def place(self, target: Target, x: Batch, p: Batch) -> Any:
        """The state at given positions and momenta. To be written where there is a `momentum`."""
        raise Unsupported(f"{self.name} keeps no momentum")

    def at(self, k: int) -> Sampler:
        """The kernel of the step that follows k steps. Default: the sampler itself, whose steps are all alike."""
        return self

    def origin(self, target: Target) -> Target:
        """The law that a reverse process starts from if nothing is to be lost: the forward one at the horizon, in d dimensions,
        or 2 d with a momentum. To be written by samplers that run a forward process backwards."""
        raise Unsupported(f"{self.name} runs no forward process backwards, so start: forward has no meaning for it")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The step as a composition of parts, each of them "map, then add a Gaussian". Default: the step itself."""
        return (self.step,)

    def check(self, target: Target) -> None:
        """Raise one line where the hyperparameters do not fit the target. Default: they always do."""

    def transfer(self, target: Target, mesh: Mesh) -> Transfer | None:
        """The exact one-step operator on densities, where `step` is not "map, then add a Gaussian". Default: None,
        and the operator is read off `step`."""
        return None

    def partner(self) -> Sampler:
        """A sampler that draws the same noise and leaves the target invariant: what this one is coupled with. Default:
        itself where it is unbiased.

        Errors: `Unsupported` for a biased sampler that names none.
        """
        if self.bias_order is not None:
            raise Unsupported(f"{self.name} is biased and names no unbiased partner, so a coupling with it bounds no distance to the target")
        return self

    @property
    def fused(self) -> Fused | None:
        """The whole chain as a compiled loop over a target's `Kernel`, equal to `step` on the same noise; or None."""
        return None

    @property
    def time_step(self) -> float:
        """Time of the underlying diffusion that one step covers; 1 where there is none."""
        return 1.0

    @property
    def noise_scale(self) -> float | None:
        """Shortest standard deviation of a step's noise, which a mesh must resolve; None: read it off `step`."""
        return None

    # Final.

    @property
    @final
    def scheduled(self) -> bool:
        """Whether the step depends on how many were taken."""
        return type(self).at is not Sampler.at

    @property
    @final
    def name(self) -> str:
        """Name in a YAML: the module's."""
        return type(self).__module__.rsplit(".", 1)[-1]

    @property
    @final
    def id(self) -> str:
        """Canonical identity: name, version and every hyperparameter."""
        values = ",".join(f"{f.name}={content(getattr(self, f.name)).decode(errors='backslashreplace')}" for f in dataclasses.fields(self))  # type: ignore[arg-type]
        return f"{self.name}v{self.version}({values})"

    @final
    def admit(self, target: Target) -> None:
        """Raise one line where this sampler cannot run on `target`."""
        missing = [c for c in self.needs if c not in target.capabilities]
        if missing:
            raise Unsupported(f"{self.name} needs {', '.join(missing)} of its target, which {target.name} does not provide")
        self.check(target)


def positive(value: float, what: str) -> None:
    """Raise one line unless `value` is a positive finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not (np.isfinite(value) and value > 0):
        raise InvalidInput(f"{what} must be a positive finite number, got {value!r}")
