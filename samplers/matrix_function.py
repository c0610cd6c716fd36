"""A function of a symmetric matrix, differentiable twice, where eigenvalues meet as well: ``tanh(m)/m``."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

#: Below this |x| the series at 0 gives divided differences of tanh(x)/x: 34 terms at radius 1/2 against pi/2 end at 1e-17.
SMALL, TERMS = 0.5, 34

#: Arguments no farther apart than this: tanh by its Taylor series in the middle, of which 16 terms at 0.1 end at 1e-19.
NEAR, TAYLOR = 0.2, 16


class Tanhc(torch.autograd.Function):
    """``tanh(m)/m`` of symmetric matrices (N, n, n), with ``m = U diag(l) U^T``: ``U diag(g(l)) U^T``, ``g(x) = tanh(x)/x``.

    Its derivative in a direction E is ``U (g[l_a, l_b] o (U^T E U)) U^T``, with the divided difference ``(g(a) - g(b))/(a - b)``,
    g' where a = b; that of the derivative has the second divided difference ``g[l_a, l_b, l_c]``. Automatic differentiation of the
    eigenvectors would divide by ``l_a - l_b``. Rows that are not finite give NaN.

    References: Higham, "Functions of matrices" (2008), Theorem 3.11 (Daleckii and Krein), https://doi.org/10.1137/1.9780898717778
    """

    @staticmethod
    def forward(ctx: Any, m: torch.Tensor) -> torch.Tensor:
        values, basis = eigen(m)
        ctx.save_for_backward(m, values, basis)
        return torch.einsum("nia,na,nja->nij", basis, tanhc(values), basis)

    @staticmethod
    def backward(ctx: Any, outer: torch.Tensor) -> torch.Tensor:
        m, values, basis = ctx.saved_tensors
        found: torch.Tensor = _Along.apply(m, outer, values, basis)
        return found


class _Along(torch.autograd.Function):
    """The derivative of `Tanhc` at m in a direction, which is its own adjoint."""

    @staticmethod
    def forward(ctx: Any, m: torch.Tensor, direction: torch.Tensor, values: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(direction, values, basis)
        return _turned(basis, first(values[:, :, None], values[:, None, :]) * _turned(basis.mT, direction))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        direction, values, basis = ctx.saved_tensors
        g, k = _turned(basis.mT, direction), _turned(basis.mT, outer)
        f = second(values[:, :, None, None], values[:, None, :, None], values[:, None, None, :])
        by_m = torch.einsum("naq,napq,nap->npq", k, f, g) + torch.einsum("npb,npqb,nqb->npq", k, f, g)
        return _turned(basis, by_m), _turned(basis, first(values[:, :, None], values[:, None, :]) * k), None, None


def _turned(basis: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
    return basis @ m @ basis.mT


def eigen(m: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues and eigenvectors of each matrix; NaN where it is not finite: eigh refuses the whole batch for one of those."""
    finite = torch.isfinite(m).flatten(1).all(1)
    values, basis = torch.linalg.eigh(torch.where(finite[:, None, None], m, torch.eye(m.shape[-1]).to(m)))
    return torch.where(finite[:, None], values, torch.nan), basis


def tanhc(x: torch.Tensor) -> torch.Tensor:
    """``g(x) = tanh(x)/x``, 1 at 0."""
    zero = x == 0.0
    return torch.where(zero, torch.ones_like(x), torch.tanh(x) / torch.where(zero, torch.ones_like(x), x))


def first(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``g[x, y]``. From ``x g(x) = tanh(x)``: ``(tanh[x, y] - g(x))/y``, y the larger and not small; else by the series."""
    x, y = torch.broadcast_tensors(x, y)
    x, y = torch.where(x.abs() <= y.abs(), x, y), torch.where(x.abs() <= y.abs(), y, x)
    small = y.abs() < SMALL
    large = (_tanh_first(x, y) - tanhc(x)) / torch.where(small, torch.ones_like(y), y)
    return torch.where(small, _series(x.clamp(-SMALL, SMALL), y.clamp(-SMALL, SMALL)), large)


def second(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """``g[x, y, z]``. From ``x g(x) = tanh(x)``: ``(tanh[x, y, z] - g[x, y])/z``, z the largest and not small; else by the series."""
    all_three = torch.stack(torch.broadcast_tensors(x, y, z))
    x, y, z = all_three.gather(0, all_three.abs().argsort(0))
    small = z.abs() < SMALL
    large = (_tanh_second(all_three) - first(x, y)) / torch.where(small, torch.ones_like(z), z)
    return torch.where(small, _series(*(a.clamp(-SMALL, SMALL) for a in (x, y, z))), large)


def _tanh_first(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``tanh[x, y]``, from ``tanh(x) - tanh(y) = tanh(x - y) (1 - tanh(x) tanh(y))``."""
    return tanhc(x - y) * (1.0 - torch.tanh(x) * torch.tanh(y))


def _tanh_second(three: torch.Tensor) -> torch.Tensor:
    """``tanh[x, y, z]``: the difference of first ones over the longest distance; where that is short, the Taylor series."""
    low, middle, high = three.sort(0).values
    near = high - low < NEAR
    apart = torch.where(near, torch.ones_like(low), high - low)
    centre = (low + high) / 2
    coefficients = _taylor(centre)
    away = [torch.where(near, a - centre, torch.zeros_like(a)) for a in (low, middle, high)]
    close = torch.stack([c * h for c, h in zip(coefficients[2:], _homogeneous(away, TAYLOR - 2), strict=True)]).sum(0)
    return torch.where(near, close, (_tanh_first(high, middle) - _tanh_first(middle, low)) / apart)


def _taylor(at: torch.Tensor, terms: int = TAYLOR) -> list[torch.Tensor]:
    """Taylor coefficients of tanh, from ``tanh' = 1 - tanh^2``."""
    c = [torch.tanh(at)]
    for k in range(terms - 1):
        c.append(((1.0 if k == 0 else 0.0) - torch.stack([c[i] * c[k - i] for i in range(k + 1)]).sum(0)) / (k + 1))
    return c


@lru_cache(maxsize=1)
def _at_zero() -> tuple[float, ...]:
    """Taylor coefficients of tanh(x)/x at 0."""
    return tuple(float(c) for c in _taylor(torch.zeros((), dtype=torch.float64), TERMS + 1)[1:])


def _series(*arguments: torch.Tensor) -> torch.Tensor:
    """The divided difference of the series at 0: x^k has the complete homogeneous polynomial of degree k less the order."""
    order = len(arguments) - 1
    degrees = _homogeneous(list(arguments), TERMS - order)
    return torch.stack([c * h for c, h in zip(_at_zero()[order:], degrees, strict=True) if c != 0.0]).sum(0)


def _homogeneous(arguments: list[torch.Tensor], degrees: int) -> list[torch.Tensor]:
    """Complete homogeneous symmetric polynomials of degree 0, 1, ..., `degrees` - 1."""
    found = [torch.ones_like(arguments[0])] + [torch.zeros_like(arguments[0])] * (degrees - 1)
    for a in arguments:
        for k in range(1, degrees):
            found[k] = found[k] + a * found[k - 1]
    return found
