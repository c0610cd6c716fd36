"""What is known of a Gaussian mixture: when it is a product, and its constants.

With the responsibilities r_k(x), ``P_k = S_k^-1`` and the components' gradients ``g_k = P_k (x - mu_k)``,

    ``Hess V = E_r[P_k] - Cov_r(g_k)``.

Where all S_k are one S the gradients differ by constants, and V is smooth. Where they are not, take a direction u in which two
components share the smallest ``u^T P u``: both weigh the same on a surface that goes to infinity along u, where their
gradients differ by a vector that grows with |x|, unless ``P_j u = P_k u``. So the Hessian is unbounded below, and no m and no
M exist, unless one component has the smallest precision in every direction.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import scipy  # its parts are loaded where they are used
import torch

from ..errors import Unsupported
from .base import Constant, Constants, Split, Target
from .functional import holley_stroock, muckenhoupt, tensorised
from .spectrum import spectral_gap

if TYPE_CHECKING:
    from .gaussian_mixture import GaussianMixture

#: Beyond a log ratio of 60 the lighter of two components has a responsibility below exp(-60) = 9e-27.
RATIO = 60.0

#: Components of a mixture on the line up to which their windows are searched, 2 x 601 points a pair.
SEARCHED = 20


def split_of(mixture: GaussianMixture) -> Split | None:
    """The mixture as a product: of the axes where weights and components form a grid; of the axes on which all components
    agree and the rest; or, where all components are one sphere, of the means' affine span and the directions across it."""
    if mixture.dim == 1:
        return None
    variances = torch.diagonal(mixture.covs, dim1=1, dim2=2)
    coupled = (mixture.covs != torch.diag_embed(variances)).any(0).any(0)
    if not bool(coupled.any()):
        axes = _grid(mixture.weights.numpy(), mixture.means.numpy(), variances.numpy())
        if axes is not None:
            return Split(None, axes)
    agreed = ~coupled & (mixture.means == mixture.means[0]).all(0) & (variances == variances[0]).all(0)
    eye = torch.eye(mixture.dim, dtype=torch.float64)
    if bool(agreed.any()):
        order = torch.cat([torch.nonzero(~agreed)[:, 0], torch.nonzero(agreed)[:, 0]])
        basis = None if bool((order == torch.arange(mixture.dim)).all()) else eye[:, order]
        return _across(basis, mixture.weights, mixture.means[:, order], mixture.covs[:, order][:, :, order], int((~agreed).sum()))
    if bool((mixture.covs == variances[0, 0] * eye).all()):
        _, s, vt = torch.linalg.svd(mixture.means - mixture.means[0])
        rank = int((s > 1e-12 * s[0]).sum())
        if rank < mixture.dim:
            # a row's sign is free: its largest entry is made positive
            basis = (vt * torch.sign(vt.gather(1, vt.abs().argmax(1, keepdim=True)))).T.contiguous()
            return _across(basis, mixture.weights, mixture.means @ basis, mixture.covs, rank)
    return None


def _grid(weights: np.ndarray, means: np.ndarray, variances: np.ndarray) -> tuple[Target, ...] | None:
    """The axes' mixtures where every combination of their components occurs once, with the product of their weights."""
    axes = [np.unique(np.stack([m, v], 1), axis=0, return_inverse=True) for m, v in zip(means.T, variances.T, strict=True)]
    shape = [len(kinds) for kinds, _ in axes]
    places = [place.reshape(-1) for _, place in axes]
    if math.prod(shape) != len(weights) or len(set(zip(*(p.tolist() for p in places), strict=True))) < len(weights):
        return None
    marginals = [np.bincount(place, weights) for place in places]
    if np.abs(np.prod([w[place] for w, place in zip(marginals, places, strict=True)], axis=0) - weights).max() > 1e-14:
        return None
    return tuple(_on_line(w, kinds) for w, (kinds, _) in zip(marginals, axes, strict=True))


def _on_line(weights: np.ndarray, kinds: np.ndarray) -> Target:
    from .gaussian import Gaussian
    from .gaussian_mixture import GaussianMixture

    return Gaussian(kinds[0, 0], kinds[0, 1]) if len(weights) == 1 else GaussianMixture(weights, kinds[:, 0], kinds[:, 1])


def _across(basis: torch.Tensor | None, weights: torch.Tensor, means: torch.Tensor, covs: torch.Tensor, rank: int) -> Split:
    """The first `rank` coordinates as one group, each of the others, in which the components agree, a Gaussian of its own."""
    from .gaussian import Gaussian
    from .gaussian_mixture import GaussianMixture

    core = (GaussianMixture(weights, means[:, :rank], covs[:, :rank, :rank]),) if rank else ()
    return Split(basis, (*core, *(Gaussian(means[0, j], covs[0, j, j]) for j in range(rank, means.shape[1]))))


def constants_of(mixture: GaussianMixture) -> Constants:
    """From the factors where the mixture is a product, else from the components."""
    if mixture.split is not None:
        return tensorised(mixture.split.factors)
    return Constants(
        m=partial(_convexity, mixture),
        M=partial(_smoothness, mixture),
        lsi=partial(_log_sobolev, mixture),
        poincare=partial(_poincare, mixture),
    )


def _convexity(mixture: GaussianMixture) -> Constant:
    count, p = len(mixture.weights), mixture.precisions
    if bool((mixture.covs == mixture.covs[0]).all()):
        if mixture.dim == 1 and 2 < count <= SEARCHED:
            return _searched(torch.log(mixture.weights).numpy(), mixture.means[:, 0].numpy(), p[:, 0, 0].numpy())
        j, k = torch.triu_indices(count, count)
        g = (mixture.means[j] - mixture.means[k]) @ p[0]
        lowest = float(
            min(torch.linalg.eigvalsh(p[0] - g[rows, :, None] * g[rows, None, :] / 4)[:, 0].min() for rows in torch.arange(len(g)).split(256))
        )
        if count <= 2:
            return Constant(lowest, "exact", "P - P d d^T P / 4 on the plane where both components, d apart, weigh the same")
        return Constant(lowest, "bound", "as if each pair of means were alone: a variance is at most range^2/4")
    spheres = bool((mixture.covs == mixture.covs[:, :1, :1] * torch.eye(mixture.dim, dtype=torch.float64)).all())
    if spheres and (count == 2 or (mixture.dim == 1 and count <= SEARCHED)):
        # two spheres weigh the same on a sphere about a point of the line through their means, and g_1 - g_2 is radial
        along = torch.linalg.vector_norm(mixture.means - mixture.means[0], dim=1) if mixture.dim > 1 else mixture.means[:, 0]
        precisions = p[:, 0, 0]
        logs = torch.log(mixture.weights) + 0.5 * mixture.dim * torch.log(precisions)
        return _searched((logs - 0.5 * torch.log(precisions)).numpy(), along.numpy(), precisions.numpy())
    raise Unsupported("no component has the smallest precision in every direction, or none is known to")


def _searched(log_weights: np.ndarray, means: np.ndarray, p: np.ndarray) -> Constant:
    """The least V'' of a mixture on the line. Where one component outweighs all others by exp(60), V'' is its p; elsewhere
    the log ratio q of two components lies in [-60, 60], and V'' is searched at 601 values of q for every pair."""
    logs = log_weights + 0.5 * np.log(p)

    def curvature(x: np.ndarray) -> np.ndarray:
        a = logs[:, None] - 0.5 * p[:, None] * (x - means[:, None]) ** 2
        r = np.exp(a - a.max(0))
        r /= r.sum(0)
        g = p[:, None] * (x - means[:, None])
        return (r * p[:, None]).sum(0) - (r * (g - (r * g).sum(0)) ** 2).sum(0)

    def least(x: np.ndarray) -> float:
        v = curvature(x)
        i = int(np.argmin(v))
        ends = (x[max(i - 1, 0)], x[min(i + 1, len(x) - 1)])
        polished = scipy.optimize.minimize_scalar(
            lambda t: float(curvature(np.array([t]))[0]), bounds=ends, method="bounded", options={"xatol": 1e-10}
        )
        return min(float(v[i]), float(polished.fun), float(p.min()))  # p.min(): the limit at infinity

    j, k = np.triu_indices(len(p), 1)
    # q(x) = a x^2 + b x + c, and the roots of q = value by the formula that survives a = 0
    a, b = 0.5 * (p[k] - p[j]), p[j] * means[j] - p[k] * means[k]
    c = logs[j] - logs[k] + 0.5 * (p[k] * means[k] ** 2 - p[j] * means[j] ** 2)
    shifted = c[:, None] - np.linspace(-RATIO, RATIO, 601)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = -0.5 * (b[:, None] + np.copysign(np.sqrt(b[:, None] ** 2 - 4 * a[:, None] * shifted), b[:, None]))
        x = np.concatenate([(t / a[:, None]).ravel(), (shifted / t).ravel(), means, [-b[n] / (2 * a[n]) for n in np.flatnonzero(a)]])
    x = np.unique(x[np.isfinite(x)])
    fine, coarse = least(x), least(x[::2])
    error = abs(fine - coarse) + 1e-12 * (abs(fine) + float(p.max()))
    return Constant(fine - error, "numeric", f"least V'' on the line, searched where two components are comparable, to {error:.1g}")


def _smoothness(mixture: GaussianMixture) -> Constant:
    m = mixture.constants.get("m")
    if m is None:
        raise Unsupported("without a lower bound there is no bound on the norm")
    top = float(torch.linalg.eigvalsh(mixture.precisions)[:, -1].max())
    if -m.value > top:
        return Constant(-m.value, m.how, f"the lower end: {m.why}")
    if bool((mixture.covs == mixture.covs[0]).all()):
        return Constant(top, "exact", "largest eigenvalue of P, approached at infinity")
    return Constant(top, "bound", "the responsibilities' mean of the precisions")


def _log_sobolev(mixture: GaussianMixture) -> Constant:
    m = mixture.constants.get("m")
    if m is not None and m.value > 0:
        return Constant(m.value, "bound", "Bakry-Emery: strongly log-concave")
    if mixture.dim > 1:
        raise Unsupported("not strongly log-concave, and no product")
    found = []
    if len(mixture.weights) == 2 and bool(mixture.weights[0] == mixture.weights[1]) and bool(mixture.covs[0] == mixture.covs[1]):
        found.append(holley_stroock(mixture, float(mixture.moments[0][0])))
    try:
        found.append(muckenhoupt(mixture))
    except Unsupported:
        if not found:
            raise
    return max(found, key=lambda constant: constant.value)


def _poincare(mixture: GaussianMixture) -> Constant:
    found = []
    try:
        if mixture.dim <= 2:
            from .plane_gap import plane_gap

            found.append(spectral_gap(mixture) if mixture.dim == 1 else plane_gap(mixture))
    except Unsupported:  # not converged: what follows from the log-Sobolev constant remains
        pass
    lsi = mixture.constants.get("lsi")
    if lsi is not None:
        found.append(Constant(lsi.value, "bound", "log-Sobolev implies Poincare"))
    if not found:
        raise Unsupported("no generator on a mesh, and no log-Sobolev constant")
    return max(found, key=lambda constant: constant.value)  # a gap comes less its error, which may be the larger
