"""m and M: Hessian spectra over the mass, and a search for a point that violates them."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ...errors import Unsupported
from ...targets.base import Batch, Target
from .base import Finding, Subject, Word

#: Dimension up to which whole spectra are taken.
DENSE = 48
#: Share of the distance between m and M within which a constant that is called exact must be met.
MET = 0.05
#: Entries of a Hessian beyond which a spectrum is not asked for.
LARGEST = 1e60
#: Relative rounding of a curvature, against the size of the Hessian it comes from.
ROUNDING = 1e-10


def curvature(subject: Subject) -> Iterator[Finding]:
    """The extreme curvatures that are found, against the declared m and M."""
    target = subject.target
    m, big = target.constants.get("m"), target.constants.get("M")
    if m is None and big is None:
        return
    low, high, how = extremes(subject)
    if m is not None:
        slack = 1e-8 * max(1.0, abs(m.value))
        bad = not low >= m.value - slack
        met = low - m.value <= MET * max(min(high, 1e3 * (1 + abs(m.value))) - low, abs(m.value)) + slack
        yield Finding("m", how, _word(bad, m.how, met), m.value, low, slack, _note(bad, m.how, met, "smaller"), m.how)
    if big is not None:
        reach, slack = max(high, -low), 1e-8 * max(1.0, big.value)
        bad = not reach <= big.value + slack
        met = big.value - reach <= MET * big.value + slack
        yield Finding("M", how, _word(bad, big.how, met), big.value, reach, slack, _note(bad, big.how, met, "larger"), big.how)


def _word(bad: bool, how: str, met: bool) -> Word:
    return "failed" if bad else "open" if how == "exact" and not met else "certified"


def _note(bad: bool, how: str, met: bool, side: str) -> str:
    if bad:
        return f"a point with a {side} curvature was found"
    return (
        ("met by the search" if met else "called exact, and the search does not come near it") if how == "exact" else "no violating point was found"
    )


def extremes(subject: Subject) -> tuple[float, float, str]:
    """(smallest, largest) curvature that spectra at the mass, secants and a climb from there find, each moved towards the
    inside by the rounding of its own evaluation: what is outside of m and M then is outside for certain."""
    target, effort = subject.target, subject.effort
    x = _starts(subject)
    if target.dim <= DENSE:
        hessians = target.hessian(x)
        hessians = hessians[hessians.abs().amax((1, 2)) < LARGEST]  # NaN compares as false
        if not len(hessians):
            raise Unsupported("the Hessian of V is nowhere finite")
        values = torch.linalg.eigvalsh(hessians)
        rounding = ROUNDING * values.abs().amax(1)
        low, high = float((values[:, 0] + rounding).min()), float((values[:, -1] - rounding).max())
        constant = float((values - values[0]).abs().max()) <= 1e-12 * max(1.0, abs(high))
        how = f"spectra at {len(x)} points and a search from {effort.starts}"
    else:
        low, high, constant, how = torch.inf, -torch.inf, False, f"a search over points and directions from {effort.starts}"
    pairs = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
    gap = pairs - x
    length = (gap * gap).sum(1)
    far = length > 1e-12
    here, there = target.score(x)[far], target.score(pairs)[far]
    secant = ((here - there) * gap[far]).sum(1) / length[far]  # also sees a kink
    rounding = ROUNDING * (here.abs() + there.abs()).sum(1) / length[far].sqrt()
    seen = torch.isfinite(secant)
    steepest, flattest = float((secant - rounding)[seen].max()), float((secant + rounding)[seen].min())
    if constant and flattest >= low - 1e-9 * max(1.0, abs(low)) and steepest <= high + 1e-9 * max(1.0, abs(high)):
        return float(values[0, 0]), float(values[0, -1]), "spectrum of a constant Hessian, and secants"
    low, high = min(low, flattest), max(high, steepest)
    for sign in (-1.0, 1.0):
        found = _climb(subject, x, sign)
        low, high = min(low, found), max(high, found)
    return low, high, how


def _starts(subject: Subject) -> Batch:
    """Where spectra are taken: the mass and its surroundings, rays far out, lines between draws, the highest point of V on each
    of those (where two modes tie, in a sliver that no draw sees), and the origin."""
    n = min(subject.effort.starts, len(subject.x) // 2)
    x, spread = subject.x[:n], subject.spread[:: max(1, len(subject.spread) // n)]
    ray = subject.centre + (x - subject.centre) * torch.logspace(0.5, 4, n, dtype=x.dtype)[:, None]
    other, t = subject.x[n : 2 * n], torch.linspace(0.05, 0.95, n, dtype=x.dtype)[:, None]
    return torch.cat(
        [
            x,
            spread,
            ray,
            t * x + (1 - t) * other,
            _passes(subject.target, x, other),
            torch.zeros((1, x.shape[1]), dtype=x.dtype),
            subject.centre[None],
        ]
    )


def _passes(target: Target, a: Batch, b: Batch) -> Batch:
    """The highest point of V on the segment between each pair: the best of 65, then golden-section search around it."""
    n, ends = len(a), torch.linspace(0, 1, 65, dtype=a.dtype)
    v = torch.stack([target.potential(a + t * (b - a)) for t in ends])
    best = ends[v[1:-1].argmax(0) + 1]
    low, high = best - 1 / 64, best + 1 / 64
    for _ in range(40):
        left, right = high - 0.618034 * (high - low), low + 0.618034 * (high - low)
        higher = target.potential(a + left[:, None] * (b - a)) > target.potential(a + right[:, None] * (b - a))
        low, high = torch.where(higher, low, left), torch.where(higher, right, high)
    return a + ((low + high) / 2).reshape(n, 1) * (b - a)


def along(target: Target, x: Batch, u: Batch) -> tuple[torch.Tensor, Batch]:
    """(u . H u / |u|^2, H u) at each row, differentiable in x and u."""
    (gradient,) = torch.autograd.grad(target.potential(x).sum(), x, create_graph=True)
    if not gradient.requires_grad:
        return torch.zeros_like(u[:, 0]), torch.zeros_like(u)
    (hu,) = torch.autograd.grad((gradient * u).sum(), x, create_graph=True)
    return (hu * u).sum(1) / (u * u).sum(1), hu


def _certain(sign: float, value: torch.Tensor, hu: Batch) -> torch.Tensor:
    """sign * value less the rounding of |H u|; -inf where it is not finite."""
    safe = sign * value.detach() - ROUNDING * torch.linalg.vector_norm(hu.detach(), dim=1)
    return torch.where(torch.isfinite(safe), safe, -torch.inf)


def _climb(subject: Subject, x: Batch, sign: float) -> float:
    """The largest ``sign * u . H(x) u / |u|^2`` reached by Adam in (x, u) together, times sign; x in units of the mass' deviation."""
    target, effort = subject.target, subject.effort
    count = effort.starts
    u = subject.noise(f"directions {sign}").normal((len(x), target.dim))
    with torch.enable_grad():
        y = x.detach().requires_grad_(True)
        shift = 0.0
        for _ in range(8):  # power iteration towards the wanted end of the spectrum
            value, hu = along(target, y, u)
            shift = max(shift, float(value.detach().abs().nan_to_num(0, 0, 0).max()))
            u = (sign * hu + shift * u).detach().nan_to_num(0.0, 0.0, 0.0) + 1e-9
            u = u / torch.linalg.vector_norm(u, dim=1, keepdim=True)
        value = _certain(sign, *along(target, y, u))
        best = float(value.max())
        first = torch.argsort(value, descending=True)[: count // 2]
        chosen = torch.cat([first, torch.arange(0, len(x), max(1, len(x) // (count - len(first))))[: count - len(first)]])
        z = ((x[chosen] - subject.centre) / subject.scale).detach().requires_grad_(True)
        w = u[chosen].detach().requires_grad_(True)
        optimiser = torch.optim.Adam([{"params": [z], "lr": 0.05}, {"params": [w], "lr": 0.05}])
        for _ in range(effort.climb):
            curved, hu = along(target, subject.centre + z * subject.scale, w)
            value = sign * curved
            best = max(best, float(_certain(sign, curved, hu / torch.linalg.vector_norm(w, dim=1, keepdim=True)).max()))
            if not value.requires_grad:
                break
            optimiser.zero_grad()
            # each row climbs by its own logarithm: a steep one must not drown the others
            loss = -(torch.sign(value) * torch.log1p(value.abs())).nan_to_num(0.0, 0.0, 0.0).sum()
            grads = torch.autograd.grad(loss, [z, w], allow_unused=True)
            for parameter, gradient in zip((z, w), grads, strict=True):
                parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient.nan_to_num(0.0, 0.0, 0.0)
            optimiser.step()
    return sign * best
