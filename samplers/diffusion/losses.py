"""Score matching: losses whose minimiser is the score of the density that their draws come from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...errors import InvalidInput
from ...targets.base import Batch
from ..noise import Noise
from .noising import Level, PhaseLevel

#: A score of one density; a score at the levels of the rows. A `weight` is w of each row, shape (N, 1), and 1 by default: where
#: times are not drawn uniformly it is divided by their density.
Score = Callable[[Batch], Batch]
LevelScore = Callable[[Batch, Level], Batch]
PhaseScore = Callable[[Batch, PhaseLevel], Batch]


def _square(rows: Batch) -> Tensor:
    return (rows * rows).sum(1)


def explicit(score: Score, x: Batch, truth: Score) -> Tensor:
    """``E 1/2 |s(x) - grad log q(x)|^2``, x ~ q: half the Fisher divergence. Minimum 0, at ``s = grad log q``."""
    return 0.5 * _square(score(x) - truth(x)).mean()


def kernel_score(x: Batch, data: Batch, bandwidth: float) -> Batch:
    """Score of the kernel density estimate ``q(x) = 1/M sum_m N(x; x_m, h^2 I)``: ``sum_m r_m(x) (x_m - x) / h^2``.

    Cost: N M d operations and N M numbers of memory."""
    _positive(bandwidth, "bandwidth")
    share = torch.softmax(-0.5 * torch.cdist(x, data) ** 2 / bandwidth**2, 1)
    return (share @ data - x) / bandwidth**2


def kernel_density(score: Score, data: Batch, z: Batch, bandwidth: float) -> Tensor:
    """Explicit score matching against the kernel density estimate of `data`, at its own draws ``x_m + h z``.

    Its minimiser is the score of the estimate, which is not that of the target.

    References: Chan, "Tutorial on diffusion models for imaging and vision" (2024), https://arxiv.org/abs/2403.18103
    """
    return explicit(score, data + bandwidth * z, lambda x: kernel_score(x, data, bandwidth))


def implicit(score: Score, x: Batch, weight: Tensor | None = None) -> Tensor:
    """``E [1/2 |s(x)|^2 + tr grad s(x)]``, the trace by d reverse passes: `explicit` less ``1/2 E|grad log q|^2``.

    References: Hyvarinen, "Some extensions of score matching" (2007), https://doi.org/10.1016/j.csda.2006.09.003
    """
    x, s = _tracked(score, x)
    trace = sum(_gradient(s[:, i].sum(), x)[:, i] for i in range(x.shape[1]))
    return _weighted(0.5 * _square(s) + trace, weight)


def sliced(score: Score, x: Batch, directions: Tensor, weight: Tensor | None = None) -> Tensor:
    """``E [1/2 |s(x)|^2 + 1/k sum_j w_j^T grad s(x) w_j]``: `implicit` with Hutchinson's estimate of the trace.

    Unbiased where ``E w w^T = I``. Of the two forms in the paper it is the one with the exact norm (SSM-VR), of less variance.

    Arguments: directions: w, shape (k, N, d).

    References: Song, Garg, Shi, Ermon, "Sliced score matching: a scalable approach to density and score estimation" (2019),
        https://arxiv.org/abs/1905.07088
    """
    x, s = _tracked(score, x)
    trace = sum((_gradient((s * w).sum(), x) * w).sum(1) for w in directions) / len(directions)
    return _weighted(0.5 * _square(s) + trace, weight)


def directions(kind: str, k: int, n: int, d: int, noise: Noise) -> Tensor:
    """k directions per row with ``E w w^T = I``, shape (k, n, d): ``gaussian`` or ``rademacher`` (signs, of less variance)."""
    if kind not in ("gaussian", "rademacher"):
        raise InvalidInput(f"directions must be gaussian or rademacher, got {kind!r}")
    drawn = noise.normal((n, k * d)) if kind == "gaussian" else torch.sign(noise.uniform((n, k * d)) - 0.5)
    return drawn.reshape(n, k, d).movedim(1, 0)


def denoising(score: Score, x0: Batch, z: Batch, sigma: float) -> Tensor:
    """``E 1/2 |s(x_0 + sigma z) + z/sigma|^2``: `explicit` at the density noised by sigma, up to a constant.

    The target is the score of the kernel, ``-(x - x_0)/sigma^2 = -z/sigma``; sources that print ``z/sigma^2`` there have
    forgotten that x - x_0 is sigma z, and train ``s/sigma``.

    References: Vincent, "A connection between score matching and denoising autoencoders" (2011),
        https://doi.org/10.1162/NECO_a_00142
    """
    _positive(sigma, "sigma")
    return 0.5 * _square(score(x0 + sigma * z) + z / sigma).mean()


def multilevel(score: Callable[[Batch, Tensor], Batch], x0: Batch, z: Batch, sigma: Tensor) -> Tensor:
    """``E lambda(sigma) 1/2 |s(x_0 + sigma z, sigma) + z/sigma|^2``, ``lambda = sigma^2``: `denoising` at many levels (NCSN).

    Arguments: sigma: the level of each row, shape (N, 1).

    References: Song, Ermon, "Generative modeling by estimating gradients of the data distribution" (2019), eqs. 5, 6,
        https://arxiv.org/abs/1907.05600
    """
    return 0.5 * _weighted(_square(score(x0 + sigma * z, sigma) + z / sigma), sigma**2)


def ddpm(epsilon: LevelScore, x0: Batch, eps: Batch, level: Level, weight: Tensor | None = None) -> Tensor:
    """``E |eps - eps_theta(sqrt(abar) x_0 + sqrt(1 - abar) eps, t)|^2``, for a variance-preserving process, ``abar = a^2``.

    It is twice `denoising_in_time` of the score ``-eps_theta/sqrt(v)`` under the weight v.

    References: Ho, Jain, Abbeel, "Denoising diffusion probabilistic models" (2020), eq. 14, https://arxiv.org/abs/2006.11239
    """
    return _weighted(_square(eps - epsilon(level.noised(x0, eps), level)), weight)


def denoising_in_time(score: LevelScore, x0: Batch, eps: Batch, level: Level, weight: Tensor) -> Tensor:
    """``E w(t) 1/2 |s(x_t, t) + eps/sqrt(v)|^2``, ``x_t = a x_0 + sqrt(v) eps``: VP, sub-VP and VE in continuous time.

    Arguments: level: of each row. weight: see `Level.weights`.

    References: Song et al., "Score-based generative modeling through stochastic differential equations" (2021), eq. 7,
        https://arxiv.org/abs/2011.13456
        Song, Durkan, Murray, Ermon, "Maximum likelihood training of score-based diffusion models" (2021), the weight g^2,
        https://arxiv.org/abs/2101.09258
    """
    return 0.5 * _weighted(_square(score(level.noised(x0, eps), level) + eps / level.variance.sqrt()), weight)


def hybrid(score: PhaseScore, x0: Batch, eps: Batch, level: PhaseLevel, weight: Tensor) -> Tensor:
    """``E w(t) 1/2 |s(u_t, t) + ell eps_p|^2``, ``ell = 1/L_pp``: hybrid score matching of CLD, the score in p alone.

    With ``u_t = mean(x_0) + L eps`` and p_0 integrated out, ``grad_p log p(u_t | x_0) = -ell eps_p``. In the paper's terms
    ``s = -ell alpha`` and the summand is ``w ell^2 |eps_p - alpha|^2``.

    Arguments: eps: shape (N, 2d). weight: ``1/ell^2 = L_pp^2`` weighs every time alike.

    References: Dockhorn, Vahdat, Kreis, "Score-based generative modeling with critically-damped Langevin diffusion" (2022),
        https://arxiv.org/abs/2112.07068
    """
    e = eps.chunk(2, 1)[1]
    return 0.5 * _weighted(_square(score(level.noised(x0, eps), level) + e / level.pp), weight)


def two_term(score: PhaseScore, x0: Batch, eps: Batch, level: PhaseLevel, weight: Tensor | None = None) -> Tensor:
    """``E 1/2 [Gamma beta |s_x - r_x|^2 + M nu beta |s_p - r_p|^2]``, ``r = -L^-T eps`` the score of the kernel: PSLD.

    The weights are the diagonal of G G^T.

    References: Pandey, Mandt, "A complete recipe for diffusion generative models" (2023),
        https://arxiv.org/abs/2303.01748
    """
    s_x, s_p = score(level.noised(x0, eps), level).chunk(2, 1)
    r_x, r_p = kernel_target(eps, level).chunk(2, 1)
    return 0.5 * _weighted(level.rate_x.squeeze(1) * _square(s_x - r_x) + level.rate_p.squeeze(1) * _square(s_p - r_p), weight)


def in_noise_units(score: PhaseScore, x0: Batch, eps: Batch, level: PhaseLevel, weight: Tensor | None = None) -> Tensor:
    """``E 1/2 |L^T (s - r)|^2 = E 1/2 |eps_theta - eps|^2``, ``s = -L^-T eps_theta``: PSLD, every time and direction alike."""
    s_x, s_p = score(level.noised(x0, eps), level).chunk(2, 1)
    e, f = eps.chunk(2, 1)
    return 0.5 * _weighted(_square(level.xx * s_x + level.px * s_p + e) + _square(level.pp * s_p + f), weight)


def kernel_target(eps: Batch, level: PhaseLevel) -> Batch:
    """``grad_u log p(u_t | x_0) = -L^-T eps``, shape (N, 2d)."""
    e, f = eps.chunk(2, 1)
    r_p = -f / level.pp
    return torch.cat(((-e - level.px * r_p) / level.xx, r_p), 1)


def _tracked(score: Score, x: Batch) -> tuple[Batch, Batch]:
    x = x.detach().requires_grad_(True)
    return x, score(x)


def _gradient(value: Tensor, x: Batch) -> Batch:
    if not value.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(value, x, create_graph=True, allow_unused=True, materialize_grads=True)[0]


def _weighted(rows: Tensor, weight: Tensor | None) -> Tensor:
    return rows.mean() if weight is None else (weight.squeeze(1) * rows).mean()


def _positive(value: float, what: str) -> None:
    if not 0 < value < float("inf"):
        raise InvalidInput(f"{what} must be a positive finite number, got {value}")
