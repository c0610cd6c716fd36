"""Bayesian logistic regression: the posterior that samplers are compared on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from ..errors import InvalidInput
from .base import Batch, Constant, Target, Values

if TYPE_CHECKING:
    from .kernel import Kernel

#: The two classes of a data set of scikit-learn, the second one labelled 1.
CLASSES = {"breast_cancer": (0, 1), "iris": (1, 2), "wine": (0, 1)}


@dataclass(frozen=True, eq=False)
class LogisticRegression(Target):
    """``V(x) = sum_i [log(1 + exp(a_i . x)) - y_i a_i . x] + |x|^2 / (2 s^2)``: the prior N(0, s^2 I) is in the density.

    With the margins ``w_i = (2 y_i - 1) a_i . x`` both kinds of label read alike: ``V = sum_i log(1 + exp(-w_i)) +
    |x|^2 / (2 s^2)`` and ``score = sum_i sigma(-w_i) (2 y_i - 1) a_i - x / s^2``, from one product with the features.

    ``Hess V = A^T D A + I / s^2`` with weights ``D_ii = sigma(w_i) sigma(-w_i)`` in (0, 1/4]. They are all 1/4 at x = 0
    and all tend to 0 along a direction that is orthogonal to no row, so both ends of the spectrum are known exactly.

    Cost: one product with a rows x d matrix per particle for V, two for the score or for both, and `rows` exponentials.

    Arguments:
        features: A, shape (rows, d), finite.
        labels: y, shape (rows,), each 0 or 1.
        prior_variance: s^2 > 0.

    Errors: `InvalidInput` where the shapes do not fit or an entry is out of range.

    References: Dalalyan, "Theoretical guarantees for approximate sampling from smooth and log-concave densities" (2017),
        the example of binary logistic regression, https://arxiv.org/abs/1412.7392

    Versions:
        Dalalyan 2017 (https://arxiv.org/abs/1412.7392): generated data, a g-prior: the precision is proportional to the features'
            matrix of second moments, not to I.
        DDS / Vargas, Grathwohl, Doucet 2023 (https://github.com/franciscovargas/denoising_diffusion_samplers): N(0, I), intercept
            included, as here with prior_variance = 1; standardised Sonar and Ionosphere, which scikit-learn does not ship.
        PDDS / Phillips et al 2024 (https://github.com/angusphillips/particle_denoising_diffusion_sampler): N(0, I), Sonar and
            Ionosphere, as DDS.
        SLIPS / Grenioux et al 2024 (https://github.com/h2o64/slips): variance 1 for the weights but 6.25 for the intercept, and
            probabilities clipped to (1e-8, 1 - 1e-8), which makes the likelihood flat far out.
        Inference Gym (https://github.com/tensorflow/probability): N(0, I), intercept included, as here; German credit.
        unbiasedmcmc / Jacob, O'Leary, Atchade 2020 (https://github.com/pierrejacob/unbiasedmcmc): prior_variance = 10, as here;
            German credit.
        logreg (https://github.com/darrenjw/logreg): variance 1 for the weights but 100 for the intercept; Pima.
        bayesian_data_analysis_titanic (https://github.com/kapalk/bayesian_data_analysis_titanic): one of many without any prior: then
            a posterior exists only where no hyperplane separates the labels, and those of `breast_cancer` and `wine` are separated.
    """

    features: Any
    labels: Any
    prior_variance: float = 1.0

    examples: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]] = (
        ("generated", {"dim": 4, "rows": 60, "seed": 5, "prior_variance": 2.0}),
        ("dataset", {"data": "breast_cancer"}),
        ("dataset", {"data": "iris", "prior_variance": 10.0}),
    )

    def __post_init__(self) -> None:
        try:
            features = torch.as_tensor(self.features, dtype=torch.float64)
            labels = torch.atleast_1d(torch.as_tensor(self.labels, dtype=torch.float64))
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"features and labels must be arrays of numbers: {' '.join(str(error).split())}") from None
        if features.ndim != 2 or 0 in features.shape or not bool(torch.isfinite(features).all()):
            raise InvalidInput(f"features must be a finite matrix, a row per observation, got shape {tuple(features.shape)}")
        if labels.shape != (len(features),):
            raise InvalidInput(f"labels must be {len(features)} numbers, one per row of features, got shape {tuple(labels.shape)}")
        if not bool(((labels == 0) | (labels == 1)).all()):
            raise InvalidInput("labels must be 0 or 1")
        if not (np.isfinite(self.prior_variance) and self.prior_variance > 0):
            raise InvalidInput(f"prior_variance must be a positive finite number, got {self.prior_variance}")
        for field, value in (("features", features.contiguous()), ("labels", labels), ("prior_variance", float(self.prior_variance))):
            object.__setattr__(self, field, value)

    @classmethod
    def generated(cls, dim: int, rows: int, seed: int = 0, prior_variance: float = 1.0) -> LogisticRegression:
        """Features N(0, I/d), true weights drawn from the prior, labels drawn given both; a function of its arguments alone."""
        if dim < 1 or rows < 1 or seed < 0:
            raise InvalidInput(f"generated needs dim >= 1, rows >= 1 and seed >= 0, got {dim}, {rows}, {seed}")
        if not (np.isfinite(prior_variance) and prior_variance > 0):
            raise InvalidInput(f"prior_variance must be a positive finite number, got {prior_variance}")
        random = np.random.Generator(np.random.Philox(key=np.array([seed, 0], dtype=np.uint64)))
        features = random.standard_normal((rows, dim)) / dim**0.5
        weights = prior_variance**0.5 * random.standard_normal(dim)
        labels = random.logistic(size=rows) < features @ weights  # P(logistic < z) = sigma(z)
        return cls(features, labels.astype(float), prior_variance)

    @classmethod
    def dataset(cls, data: str, prior_variance: float = 1.0) -> LogisticRegression:
        """A set that ships with scikit-learn: features standardised (mean 0, mean square 1), then a column of ones.

        `breast_cancer` (569 rows, d = 31; benign is 1), `iris` (versicolor against virginica, 100 rows, d = 5), `wine` (the
        first two cultivars, 130 rows, d = 14).
        """
        if data not in CLASSES:
            raise InvalidInput(f"data must be one of {', '.join(CLASSES)}, got {data!r}")
        from sklearn import datasets  # half a second, and only needed here

        table = getattr(datasets, f"load_{data}")()
        kept = np.isin(table.target, CLASSES[data])
        features = table.data[kept]
        features = (features - features.mean(0)) / features.std(0)
        labels = (table.target[kept] == CLASSES[data][1]).astype(float)
        return cls(np.column_stack([features, np.ones(len(features))]), labels, prior_variance)

    @property
    def dim(self) -> int:
        return int(self.features.shape[1])

    @cached_property
    def _signed(self) -> torch.Tensor:
        """Rows ``(2 y_i - 1) a_i``, shape (rows, d)."""
        return (2.0 * self.labels - 1.0).unsqueeze(1) * self.features

    @cached_property
    def kernel(self) -> Kernel:
        from . import kernels  # compiled code is loaded where it is used

        return kernels.logistic(self._signed.numpy(), self.prior_variance)

    def _against(self, x: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The signed features, and ``-w`` in a fresh (rows, N) matrix: one particle per column, however x is laid out."""
        signed = self._signed.to(x)
        # below -80 exp underflows and is ten times slower on a CPU, and exp(-80) is nothing beside 1
        return signed, torch.mm(signed, x.T).neg_().clamp_(min=-80.0)

    def _prior(self, x: Batch) -> Values:
        return (x * x).sum(1) / (2.0 * self.prior_variance)

    def potential(self, x: Batch) -> Values:
        return _log1pexp(self._against(x)[1]).sum(0) + self._prior(x)

    def score(self, x: Batch) -> Batch:
        signed, against = self._against(x)
        return torch.addmm(x.T, signed.T, against.sigmoid_(), beta=-1.0 / self.prior_variance).T

    def potential_and_score(self, x: Batch) -> tuple[Values, Batch]:
        signed, against = self._against(x)
        value = _log1pexp(against).sum(0) + self._prior(x)
        return value, torch.addmm(x.T, signed.T, torch.sigmoid(against), beta=-1.0 / self.prior_variance).T

    @cached_property
    def constants(self) -> Mapping[str, Constant]:
        m = 1.0 / self.prior_variance
        big = m + float(torch.linalg.matrix_norm(self.features, 2)) ** 2 / 4
        return {
            "m": Constant(m, "exact", "infimum of the Hessian's spectrum, approached at infinity where every weight vanishes"),
            "M": Constant(big, "exact", "largest eigenvalue of the Hessian at 0, where every weight is 1/4"),
            "lsi": Constant(m, "bound", "Bakry-Emery with m"),
            "poincare": Constant(m, "bound", "log-Sobolev implies Poincare"),
        }


def _log1pexp(z: torch.Tensor) -> torch.Tensor:
    """log(1 + exp(z)). Torch's softplus turns linear at 20 by default, and 2e-9 is then missing; at 40 it is 4e-18."""
    return torch.nn.functional.softplus(z, threshold=40.0)
