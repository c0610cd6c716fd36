"""Parallel tempering: replicas at several temperatures that change places."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch

from ..errors import InvalidInput, Unsupported
from ..targets.base import Batch, Target, Values
from .base import Sampler, positive
from .diffusion.posterior import Paired
from .metropolis import Point
from .noise import Noise
from .tempered import Reference, Tempered, move


class Replicas(NamedTuple):
    """K replicas of each particle, the coldest first.

    x: the replica at b = 1, shape (n, d). others: the K - 1 hotter ones, shape (n, K - 1, d).
    potentials: V of the target at each, (n, K). scores: its score, (n, K, d).
    rounds: rounds of swaps so far, (n,). swaps: how many were accepted, by pair of neighbours, (n, K - 1).
    """

    x: Batch
    others: torch.Tensor
    potentials: torch.Tensor
    scores: torch.Tensor
    rounds: Values
    swaps: torch.Tensor


@dataclass(frozen=True)
class ParallelTempering(Sampler):
    """K replicas of each particle on ``exp(-U_b)`` at ``1 = b_1 > ... > b_K = 1/hottest`` in geometric sequence: each takes a step of MALA,
    then neighbours (j, j + 1) change places with probability ``min(1, exp((b_j - b_(j+1)) (E_j - E_(j+1))))``, ``E = V - V_0``: pairs of odd j
    in the first step, of even j in the next, in turns.

    ``U_b = b V``, plain temperatures 1/b (V_0 = 0); with a `width` ``b V + (1 - b) V_0``, the path to N(centre, width^2 I), where exp(-b V)
    is too flat to have a mass. At b the step size is h/b, for b V is flatter by that factor (`Tempered.step_size`).

    Both moves leave the product of the K laws invariant, at every h; taking turns makes the chain non-reversible, and replicas travel up
    and down rather than diffuse. The replicas start where the particle is, and until they have found their own laws that of x alone
    is not invariant: from exact draws it goes astray first, and comes back. So it does in a run that is taken up again.

    Cost: K scores and K potentials per step, in one pass each; a swap needs none.

    Arguments:
        step_size: h > 0, that of the replica at b = 1, in units of time.
        replicas: K >= 1; 1 is MALA.
        hottest: the greatest temperature, > 1.
        width: that of the reference, > 0, in units of x; None: no reference.
        centre: mean of the reference along every axis.

    Errors: `InvalidInput` for what is out of range; `Unsupported` where pairs of chains are asked for.

    References: Swendsen, Wang, "Replica Monte Carlo simulation of spin-glasses" (1986), https://doi.org/10.1103/PhysRevLett.57.2607
        Geyer, "Markov chain Monte Carlo maximum likelihood" (1991), https://hdl.handle.net/11299/58440
        Okabe, Kawata, Okamoto, Mikami, "Replica-exchange Monte Carlo method for the isobaric-isothermal ensemble" (2001), for odd and
        even pairs in turns, https://doi.org/10.1016/S0009-2614%2801%2900055-0
        Syed, Bouchard-Cote, Deligiannidis, Doucet, "Non-reversible parallel tempering: a scalable highly parallel MCMC scheme" (2022),
        for why that is faster, https://arxiv.org/abs/1905.02939
    """

    step_size: float
    replicas: int = 6
    hottest: float = 30.0
    width: float | None = None
    centre: float = 0.0

    def __post_init__(self) -> None:
        positive(self.step_size, "step_size")
        if isinstance(self.replicas, bool) or not (isinstance(self.replicas, int) and self.replicas >= 1):
            raise InvalidInput(f"replicas must be a whole number of at least 1, got {self.replicas!r}")
        positive(self.hottest, "hottest")
        if not self.hottest > 1:
            raise InvalidInput(f"hottest must be above 1, the temperature of the target, got {self.hottest}")
        _ = self.reference  # which says what is wrong with its width

    @property
    def score_evaluations(self) -> float:  # type: ignore[override]  # it depends on a hyperparameter
        """Scores per particle and step."""
        return float(self.replicas)

    @property
    def potential_evaluations(self) -> float:  # type: ignore[override]  # it depends on a hyperparameter
        """Potentials per particle and step."""
        return float(self.replicas)

    @property
    def time_step(self) -> float:
        return self.step_size

    @cached_property
    def reference(self) -> Reference | None:
        """The law at b = 0, where the path leads to one."""
        return None if self.width is None else Reference(self.width, self.centre)

    @cached_property
    def inverse_temperatures(self) -> tuple[float, ...]:
        """``1 = b_1 > ... > b_K``."""
        return tuple(self.hottest ** (-k / max(1, self.replicas - 1)) for k in range(self.replicas))

    def partner(self) -> Sampler:
        raise Unsupported(f"{self.name} leaves the law of all its replicas invariant, not that of one alone, so that pairs bound nothing")

    def init(self, target: Target, x: Batch, noise: Noise) -> Replicas:
        """All replicas at `x`."""
        v, s = target.potential_and_score(x)
        n, k = len(x), self.replicas
        everywhere = Point(x.T.repeat(1, k).T, v.repeat(k), s.T.repeat(1, k).T)
        counts = torch.zeros((k, n), dtype=torch.int64, device=x.device)
        return self.state(everywhere, counts[0], counts[1:].T)

    def step(self, target: Target, state: Replicas, noise: Noise) -> Replicas:
        places, n = self.places(state), len(state.x)
        b = places.potential.new_tensor(self.inverse_temperatures).repeat_interleave(n)
        moved = move(Tempered(target, b, self.reference), places, self.step_size, Paired(noise, n))
        return self.swap(target, moved, state, noise)

    def places(self, state: Replicas) -> Point:
        """All replicas as rows, so that one call moves them: that at b_k of particle i is row ``(k - 1) n + i``."""
        d, rows = state.x.shape[1], state.potentials.numel()
        x = torch.cat([state.x.T.unsqueeze(1), state.others.permute(2, 1, 0)], dim=1)
        return Point(x.reshape(d, rows).T, state.potentials.T.reshape(rows), state.scores.permute(2, 1, 0).reshape(d, rows).T)

    def state(self, places: Point, rounds: Values, swaps: torch.Tensor) -> Replicas:
        """The inverse of `places`, with the counts."""
        n, k = len(rounds), self.replicas
        x, s = (rows.T.reshape(-1, k, n).permute(2, 1, 0) for rows in (places.x, places.score))
        return Replicas(x[:, 0], x[:, 1:], places.potential.reshape(k, n).T, s, rounds, swaps)

    def log_ratio(self, energies: torch.Tensor) -> torch.Tensor:
        """Log of what a change of places of neighbours multiplies the density by, (K - 1, n), from ``E = V - V_0``, (K, n)."""
        b = energies.new_tensor(self.inverse_temperatures).unsqueeze(1)
        return (b[:-1] - b[1:]) * (energies[:-1] - energies[1:])

    def swap(self, target: Target, places: Point, state: Replicas, noise: Noise) -> Replicas:
        """The replicas at the rows of `places` after a round of swaps; `state` says which round it is."""
        n, k = len(state.x), self.replicas
        if k == 1:
            return self.state(places, state.rounds + 1, state.swaps)
        energies = Tempered(target, 1.0, self.reference).energy(places).reshape(k, n)
        log_u = torch.log(noise.uniform((n, k // 2))).T  # as many as there are pairs in a round
        pair = torch.arange(k - 1, device=state.x.device).unsqueeze(1)
        accepted = (log_u.repeat_interleave(2, 0)[: k - 1] < self.log_ratio(energies)) & (pair % 2 == state.rounds % 2)
        source = torch.arange(k * n, device=state.x.device)  # which row each one is filled from
        leap = accepted.reshape(-1) * n
        source[:-n] += leap
        source[n:] -= leap
        x, s = (rows.T.gather(1, source.expand(rows.shape[1], -1)).T for rows in (places.x, places.score))
        return self.state(Point(x, places.potential.gather(0, source), s), state.rounds + 1, state.swaps + accepted.T)
