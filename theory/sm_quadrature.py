"""Expectations under densities and noise, by the trapezoid rule with its own error; and random smooth functions to integrate."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import Unsupported
from ..metrics.base import Estimate
from ..samplers.noise import Stream
from ..targets.base import Batch, Target
from ..targets.gaussian_mixture import GaussianMixture

#: A standard normal is cut where its density is exp(-37) of its peak, below the rounding of a sum.
REACH = 8.6
#: Spacings h, 2h, 4h: the rule itself and the two that tell its error.
LEVELS = 3
#: Rounding of a sum of products, relative to the sum of their sizes.
ROUNDING = 1e-14


class Rule(NamedTuple):
    """Nodes x (n, d) and weights w (n,) of an expectation; level (n,): how many of the meshes of spacing h, 2h, 4h hold the node, less 1.

    The weights need not add up to one: every expectation is divided by their sum, on each mesh.
    """

    x: Tensor
    w: Tensor
    level: Tensor

    def times(self, other: Rule) -> Rule:
        """The product rule, for independent variables: coordinates side by side."""
        n, m = len(self.w), len(other.w)
        x = torch.cat((self.x.repeat_interleave(m, 0), other.x.repeat(n, 1)), 1)
        return Rule(x, (self.w[:, None] * other.w).reshape(-1), torch.minimum(self.level[:, None], other.level).reshape(-1))

    def weighted(self, w: Tensor) -> Rule:
        """The same nodes, with a density relative to the rule's own."""
        return Rule(self.x, self.w * w, self.level)


def _axis(n: int) -> Tensor:
    """Levels of n = 4 k + 1 nodes on an axis."""
    i = torch.arange(n)
    return (i % 2 == 0).long() + (i % 4 == 0).long()


def normal_rule(dim: int, nodes: int) -> Rule:
    """N(0, I) in d dimensions; `nodes` = 4 k + 1 per axis."""
    z = torch.linspace(-REACH, REACH, nodes, dtype=torch.float64)
    one = rule = Rule(z[:, None], torch.exp(-0.5 * z * z), _axis(nodes))
    for _ in range(dim - 1):
        rule = rule.times(one)
    return rule


def target_rule(target: Target, nodes: int) -> Rule:
    """A density on the line or in the plane, on its declared box; `nodes` = 4 k + 1 per axis."""
    lo, hi = target.extent()
    axes = [torch.linspace(float(a), float(b), nodes, dtype=torch.float64) for a, b in zip(lo, hi, strict=True)]
    x = torch.cartesian_prod(*axes).reshape(-1, target.dim)
    level = _axis(nodes)
    for _ in range(target.dim - 1):
        level = torch.minimum(level[:, None], _axis(nodes)).reshape(-1)
    v = target.potential(x)
    return Rule(x, torch.exp(-(v - v.min())), level)


def mixture_rule(mixture: GaussianMixture, nodes: int) -> Rule:
    """A mixture of Gaussians, component by component in coordinates in which each is standard."""
    standard = normal_rule(mixture.dim, nodes)
    x = [standard.x @ factor.T + mean for mean, factor in zip(mixture.means, torch.linalg.cholesky(mixture.covs), strict=True)]
    w = (mixture.weights[:, None] * standard.w).reshape(-1)
    return Rule(torch.cat(x), w, standard.level.repeat(len(mixture.weights)))


def average(rule: Rule, integrand: Callable[[Batch], Tensor], chunk: int = 1 << 17) -> list[Estimate]:
    """Expectations of the columns of ``integrand(x)``, shape (n, m) or (n,), with their errors.

    The error is ``2 |I_h - I_2h| min(1, |I_h - I_2h|/|I_2h - I_4h|)``, as in Romberg's tables: above the truth where a
    halving divides the error by a constant, far above where it squares it, as for smooth integrands; and rounding.
    """
    sums, size, mass = [], torch.zeros(1, dtype=torch.float64), torch.zeros(LEVELS, dtype=torch.float64)
    for start in range(0, len(rule.w), chunk):
        x, w, level = (part[start : start + chunk] for part in rule)
        f = integrand(x).reshape(len(w), -1)
        weights = torch.stack([w * (level >= k) for k in range(LEVELS)])
        sums.append(weights @ f)
        size, mass = size + w @ f.abs(), mass + weights.sum(1)
    values = torch.stack(sums).sum(0) / mass[:, None]
    last, before = (values[0] - values[1]).abs(), (values[1] - values[2]).abs()
    error = 2.0 * last * torch.where(before > 0, last / before.clamp(min=1e-300), 0.0).clamp(max=1.0) + ROUNDING * size / mass[0]
    return [interval(v, e) for v, e in zip(values[0].tolist(), error.tolist(), strict=True)]


def interval(value: float, error: float) -> Estimate:
    """A value of either sign with its error."""
    return Estimate(value, value - error, value + error)


def minus(a: Estimate, b: Estimate) -> Estimate:
    """a - b; the errors add up."""
    return interval(a.value - b.value, (a.upper - a.value) + (b.upper - b.value))


def on_the_line_or_plane(target: Target) -> list[str]:
    """Unmet hypotheses of a quadrature over the target: where V has a kink the rule's error cannot be told."""
    if target.dim > 2:
        return [f"d at most 2, where expectations are quadratures, got d = {target.dim}"]
    if target.constant("M") is None:
        return [f"a smooth potential (M), and {target.name} declares none"]
    try:
        target.extent()
    except Unsupported as error:
        return [f"a density that decays within a box ({error})"]
    return []


@dataclass(frozen=True, eq=False)
class Network:
    """``s(x) = A x + b + U tanh(W x + c)``, a smooth function with random weights: the theta over which a statement must hold.

    It grows linearly, so that it is square integrable wherever x is; A and U W are not symmetric: it is no gradient. The
    entries of W are of deviation 0.7, so that tanh turns over the scale of one, and its poles are far from the line.
    """

    a: Tensor
    b: Tensor
    u: Tensor
    w: Tensor
    c: Tensor

    @classmethod
    def random(cls, *key: object, inputs: int, outputs: int, width: int = 8) -> Network:
        """The network of a key: equal keys give equal weights."""
        z = Stream("score network", *key).normal((outputs + width, inputs + width + 1))
        a, b, u = z[:outputs, :inputs], z[:outputs, inputs], z[:outputs, inputs + 1 :]
        w, c = z[outputs:, :inputs], z[outputs:, inputs]
        return cls(0.5 * a - torch.eye(outputs, inputs, dtype=torch.float64), 0.5 * b, 2.0 * u / width**0.5, 0.7 * w, c)

    def __call__(self, x: Batch) -> Batch:
        return x @ self.a.T + self.b + torch.tanh(x @ self.w.T + self.c) @ self.u.T

    def jacobian(self, x: Batch) -> Tensor:
        """``ds_i/dx_j``, shape (N, outputs, inputs)."""
        slope = 1.0 - torch.tanh(x @ self.w.T + self.c) ** 2
        return self.a + torch.einsum("ik,nk,kj->nij", self.u, slope, self.w)

    def parameter_gradient(self, x: Batch) -> Batch:
        """``ds/dtheta`` of a network with one output, shape (N, parameters)."""
        h = torch.tanh(x @ self.w.T + self.c)
        back = (1.0 - h * h) * self.u[0]
        return torch.cat((x, torch.ones_like(x[:, :1]), h, (back[:, :, None] * x[:, None, :]).flatten(1), back), 1)


def networks(count: int, *key: object, inputs: int, outputs: int) -> list[Network]:
    """`count` networks of one key."""
    return [Network.random(*key, i, inputs=inputs, outputs=outputs) for i in range(count)]


def signs(dim: int) -> Rule:
    """Rademacher vectors, all ``2^d`` of them: exact expectations."""
    x = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=dim)), dtype=torch.float64)
    return Rule(x, torch.ones(len(x), dtype=torch.float64), torch.zeros(len(x), dtype=torch.long))


def hermite(dim: int) -> Rule:
    """Three nodes of Gauss and Hermite per axis: exact for N(0, I) and polynomials of degree 5 in each coordinate."""
    nodes, weights = (-(3.0**0.5), 0.0, 3.0**0.5), (1 / 6, 2 / 3, 1 / 6)
    x = torch.tensor(list(itertools.product(nodes, repeat=dim)), dtype=torch.float64)
    w = torch.tensor(list(itertools.product(weights, repeat=dim)), dtype=torch.float64).prod(1)
    return Rule(x, w, torch.zeros(len(w), dtype=torch.long))
