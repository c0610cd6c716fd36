"""What a network is asked for: noise, clean draw, score, velocity, or what is left of the score beside a Gaussian's."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import InvalidInput
from ...targets.base import Batch
from .noising import Level, PhaseLevel

#: On positions, and on (x, p).
KINDS, PHASE_KINDS = ("epsilon", "x0", "score", "v", "mixed"), ("epsilon", "mixed")


def to_score(kind: str, value: Batch, x: Batch, level: Level) -> Batch:
    """The score at x_t from an estimate of ``epsilon``, ``x0``, ``score`` or ``v`` there (Tweedie's formula and its kin).

    With ``x_t = a x_0 + sqrt(v) eps`` and E over the posterior given x_t: ``score = -E eps / sqrt(v) = (a E x_0 - x_t) / v``. The
    velocity is ``cos eps - sin x_0``, where ``(cos, sin) = (a, sqrt v) / sqrt(a^2 + v)``, so ``E eps = cos E v + sin x_t / sqrt(a^2 + v)``.

    References: Efron, "Tweedie's formula and selection bias" (2011), https://doi.org/10.1198/jasa.2011.tm11181
        Salimans, Ho, "Progressive distillation for fast sampling of diffusion models" (2022),
        https://arxiv.org/abs/2202.00512
    """
    a, v = level.scale, level.variance
    if kind == "score":
        return value
    if kind == "epsilon":
        return -value / v.sqrt()
    if kind == "x0":
        return (a * value - x) / v
    if kind == "v":
        return -(a * value / v.sqrt() + x / (a * a + v).sqrt()) / (a * a + v).sqrt()
    raise InvalidInput(f"kind must be epsilon, x0, score or v, got {kind!r}")


def from_score(kind: str, score: Batch, x: Batch, level: Level) -> Batch:
    """The inverse of `to_score`; for ``x0`` it is Tweedie's formula ``E[x_0 | x_t] = (x_t + v score) / a``."""
    a, v = level.scale, level.variance
    if kind == "score":
        return score
    if kind == "epsilon":
        return -v.sqrt() * score
    if kind == "x0":
        return (x + v * score) / a
    if kind == "v":
        return -(v.sqrt() / a) * (x / (a * a + v).sqrt() + (a * a + v).sqrt() * score)
    raise InvalidInput(f"kind must be epsilon, x0, score or v, got {kind!r}")


class Moments(NamedTuple):
    """Mean (d,), principal axes Q (d, d) and standard deviations along them (d,) of x_0: they scale what the network sees."""

    mean: Tensor
    axes: Tensor
    spread: Tensor

    @classmethod
    def of(cls, mean: Tensor, cov: Tensor) -> Moments:
        """From a mean and a covariance."""
        values, axes = torch.linalg.eigh(cov)
        return cls(mean, axes, values.clamp(min=0.0).sqrt())

    def to(self, like: Tensor) -> Moments:
        """The same in the dtype of `like`."""
        return Moments(*(t.to(like) for t in self))


def scaled(x: Batch, level: Level, moments: Moments) -> tuple[Batch, Tensor]:
    """x_t on the principal axes, centred and divided by its standard deviations ``sqrt(a^2 s^2 + v)``; and these."""
    size = (level.scale**2 * moments.spread**2 + level.variance).sqrt()
    return (x - level.scale * moments.mean) @ moments.axes / size, size


def score_of(kind: str, output: Batch, x: Batch, level: Level, moments: Moments) -> Batch:
    """The score at x_t from the network's output F, which is of order 1 on every parameterisation::

        epsilon:  E eps = F            x0:  E x_0 = mean + s F           score:  score = F / sqrt(a^2 s^2 + v)
        v:        E v = sqrt(cos^2 + sin^2 s^2) F - sin mean
        mixed:    score = -z / size - (a s / (size sqrt v)) F,   size = sqrt(a^2 s^2 + v),  z = (x_t - a mean) / size

    on the principal axes, where x_0 has standard deviations s. ``mixed`` is the score of the Gaussian with the moments of
    x_t, which is exact for Gaussian data, plus a residual; F then is the velocity of the standardised data, and the coefficients
    those of EDM's preconditioning.

    References: Karras, Aittala, Aila, Laine, "Elucidating the design space of diffusion-based generative models" (2022),
        Table 1, https://arxiv.org/abs/2206.00364
    """
    m, q, s = moments
    a, v = level.scale, level.variance
    if kind == "mixed":
        z, size = scaled(x, level, moments)
        return -((z + a * s / v.sqrt() * output) / size) @ q.T
    if kind == "x0":
        return to_score("x0", m + (s * output) @ q.T, x, level)
    if kind == "score":
        return (output / (a * a * s * s + v).sqrt()) @ q.T
    if kind == "v":
        norm = (a * a + v).sqrt()
        return to_score("v", ((a * a + v * s * s).sqrt() / norm * output) @ q.T - v.sqrt() / norm * m, x, level)
    return to_score(kind, output @ q.T, x, level)


def phase_scaled(u: Batch, level: PhaseLevel, moments: Moments) -> tuple[Batch, Batch]:
    """(x_t, p_t) on the principal axes, each centred; and the same divided by its standard deviations."""
    x, p = u.chunk(2, 1)
    s2 = moments.spread**2
    y = torch.cat(((x - level.to_x * moments.mean) @ moments.axes, (p - level.to_p * moments.mean) @ moments.axes), 1)
    var = torch.cat((level.to_x**2 * s2 + level.xx**2, level.to_p**2 * s2 + level.px**2 + level.pp**2), 1)
    return y, y / var.sqrt()


def momentum_score_of(kind: str, output: Batch, y: Batch, level: PhaseLevel, moments: Moments) -> Batch:
    """CLD: the score in p from F, ``s = -ell alpha``, ``ell = 1/L_pp``; y from `phase_scaled`.

    ``epsilon``: ``alpha = F``. ``mixed``: ``alpha = p/(ell S_pp) + F``, ``S_pp = L_px^2 + L_pp^2``, so that F = 0 is the score of
    N(0, S_pp), the law of p_t where x_0 = 0 (here: where it is the mean).

    References: Dockhorn, Vahdat, Kreis, "Score-based generative modeling with critically-damped Langevin diffusion" (2022),
        https://arxiv.org/abs/2112.07068
    """
    p = y.chunk(2, 1)[1]
    alpha = level.pp * p / (level.px**2 + level.pp**2) + output if kind == "mixed" else output
    return -(alpha / level.pp) @ moments.axes.T


def phase_score_of(kind: str, output: Batch, y: Batch, level: PhaseLevel, moments: Moments) -> Batch:
    """PSLD: the score in (x, p) from F, ``s = -L^-T eps``; y from `phase_scaled`.

    ``epsilon``: ``eps = F``. ``mixed``: ``eps = L^T S^-1 y + F``, S the covariance of u_t with the spread of x_0 in it: F = 0 is
    the score of the Gaussian with the moments of u_t. (With S at x_0 = 0 alone the first part would be of the size of
    ``x_0 / L_xx`` at small t.)
    """
    x, p = y.chunk(2, 1)
    e, f = output.chunk(2, 1)
    if kind == "mixed":
        s2 = moments.spread**2
        s_xx, s_xp = level.xx**2 + level.to_x**2 * s2, level.xx * level.px + level.to_x * level.to_p * s2
        s_pp = level.px**2 + level.pp**2 + level.to_p**2 * s2
        # the determinant in terms that do not cancel
        det = (level.xx * level.pp) ** 2 + s2 * ((level.to_x * level.px - level.to_p * level.xx) ** 2 + (level.to_x * level.pp) ** 2)
        g, h = (s_pp * x - s_xp * p) / det, (s_xx * p - s_xp * x) / det
        e, f = e + level.xx * g + level.px * h, f + level.pp * h
    s_p = -f / level.pp
    s_x = (-e - level.px * s_p) / level.xx
    return torch.cat((s_x @ moments.axes.T, s_p @ moments.axes.T), 1)
