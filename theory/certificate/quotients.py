"""Quotients of test functions: what no Poincare and no log-Sobolev constant can exceed."""

from __future__ import annotations

import math

import numpy as np
import scipy  # its parts are loaded where they are used
import torch

from ...targets.base import Batch, Target
from .base import SIGMAS, Subject


def quotient(subject: Subject, draws: Batch | None = None) -> tuple[float, float]:
    """(u, 4.89 standard errors): ``E|grad f|^2 / Var f`` of the best f in a span of test functions, an upper bound of the
    Poincare constant. The combination is chosen on one half of the draws and evaluated on the other.

    The span: coordinates, their squares, hyperbolic tangents along 24 directions, and Gaussian bumps at 24 draws.
    """
    target, x = subject.target, subject.x[:8000] if draws is None else draws
    z = (x - subject.centre) / subject.scale
    d = target.dim
    w = subject.noise("test functions").normal((24, d))
    w = w / torch.linalg.vector_norm(w, dim=1, keepdim=True)
    w[: min(d, 12)] = torch.eye(d, dtype=x.dtype)[: min(d, 12)]
    values: list[torch.Tensor] = []
    gradients: list[torch.Tensor] = []
    axes = torch.eye(d, dtype=x.dtype)[: min(d, 40)]
    values += [z @ axes.T, (z @ axes.T) ** 2]
    gradients += [axes.expand(len(x), -1, -1), 2 * (z @ axes.T).unsqueeze(2) * axes]
    for sharp in (1.0, 3.0):
        t = torch.tanh(sharp * z @ w.T)
        values.append(t)
        gradients.append((sharp * (1 - t * t)).unsqueeze(2) * w)
    centres = z[-24:]
    away = z.unsqueeze(1) - centres
    width = 0.5 * float(torch.median((away * away).sum(2)))
    bump = torch.exp(-(away * away).sum(2) / (2 * width))
    values.append(bump)
    gradients.append(-bump.unsqueeze(2) * away / width)
    half = len(x) // 2
    f, g = torch.cat(values, 1).numpy(), (torch.cat(gradients, 1) / subject.scale).numpy()
    f = f - f[:half].mean(0)
    energy = np.einsum("nad,nbd->ab", g[:half], g[:half]) / half
    variance = f[:half].T @ f[:half] / half
    ridge = 1e-9 * np.diag(np.diag(variance))
    _, vectors = scipy.linalg.eigh(energy + 1e-9 * np.diag(np.diag(energy)), variance + ridge + 1e-300 * np.eye(len(variance)))
    best = vectors[:, 0]
    square = ((g[half:] * best[None, :, None]).sum(1) ** 2).sum(1)
    value = f[half:] @ best
    value = value - value.mean()
    u = square.mean() / (value**2).mean()
    residual = (square - u * value**2) / (value**2).mean()  # delta method for a quotient of means
    return float(u), float(SIGMAS * residual.std() / math.sqrt(len(residual)))


def entropy_quotient(target: Target) -> tuple[float, float]:
    """The smallest ``2 E f'^2 / Ent f^2`` over f on a mesh of 301 nodes, f = exp(g/2), by L-BFGS from several starts."""
    lo, hi = (float(end[0]) for end in target.extent())
    x = np.linspace(lo, hi, 301)
    v = target.potential(torch.as_tensor(x[:, None]))
    keep = (v - v.min()) < 30.0
    x, v = x[keep.numpy()], v[keep]
    p = torch.softmax(-v, 0)
    edge = torch.sqrt(p[1:] * p[:-1])
    dx = float(x[1] - x[0])
    places = torch.as_tensor(x)
    mean = float((p * places).sum())
    deviation = float((p * (places - mean) ** 2).sum()) ** 0.5
    best = math.inf

    def loss(g: torch.Tensor) -> torch.Tensor:
        # weights of f^2 = exp(g), normalised under p; f' by differences
        log_f2 = g - torch.logsumexp(g + torch.log(p), 0)
        f = torch.exp(log_f2 / 2)
        entropy = (p * torch.exp(log_f2) * log_f2).sum()
        return 2 * (edge * (f[1:] - f[:-1]) ** 2).sum() / dx**2 / entropy

    for tilt in (0.3, -0.3, 2.0, -2.0):
        for shape in (lambda y: y, lambda y: torch.tanh(3 * y)):
            g = (tilt * shape((places - mean) / deviation)).clone().requires_grad_(True)
            optimiser = torch.optim.LBFGS([g], max_iter=60, line_search_fn="strong_wolfe")

            def closure(g: torch.Tensor = g, optimiser: torch.optim.Optimizer = optimiser) -> torch.Tensor:
                optimiser.zero_grad()
                value = loss(g)
                value.backward()
                return value

            with torch.enable_grad():
                optimiser.step(closure)
            value = float(loss(g.detach()))
            best = min(best, value) if math.isfinite(value) else best
    # the mesh: second order in dx against the shortest length in play
    return best, 0.02 * best
