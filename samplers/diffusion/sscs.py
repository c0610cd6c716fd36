"""The symmetric splitting CLD sampler, for CLD and PSLD."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ...errors import InvalidInput
from ...targets.base import Batch, Target
from ..base import Stage
from ..kinetic import Phase
from ..noise import Noise
from .phase_space import PhaseSpaceSDE
from .reverse_phase import ReversePhase


@dataclass(frozen=True)
class SSCS(ReversePhase):
    """From t to s, m between: A over [m, t], B over [s, t], A over [s, m], where S = diag(1, M) is the invariant covariance and

    - A: ``du = -beta (A + C S^-1) u dt + sqrt(beta C) dB``, the stationary process of N(0, S) backwards, exactly: the forward kernel of
      ``B(t) - B(m)``, ``B = int beta``, with the sign of p turned before and after (A and C S^-1 change places with the sign of p).
    - B: ``du = beta C R(u) dt``, ``R(u) = S(u, t) + S^-1 u`` what the score is more than that of N(0, S).

    B has no closed form: R depends on p, which it moves. The `inner` rule for it, over ``b = B(t) - B(s)``:

    - ``euler``: ``u' = u + b C R(u)`` with the score of time t, the published step. Weak order 1, however symmetric the rest is.
    - ``midpoint``: ``u' = u + b C R(u + (b/2) C R(u))`` with the score of time m. Weak order 2.

    Both are exact where R vanishes: a target N(0, I) and momentum_variance 1.

    Cost: 1 score per step, 2 with ``midpoint``.

    Arguments: those of `ReversePhase`; `inner`, ``euler`` or ``midpoint``.

    References: Dockhorn, Vahdat, Kreis, "Score-based generative modeling with critically-damped Langevin diffusion" (2022),
        section 3.3 and Appendix D, https://arxiv.org/abs/2112.07068
        Pandey, Mandt, "A complete recipe for diffusion generative models" (2023), https://arxiv.org/abs/2303.01748
    """

    inner: str = "midpoint"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inner not in ("euler", "midpoint"):
            raise InvalidInput(f"inner must be euler or midpoint, got {self.inner!r}")

    @property
    def bias_order(self) -> float:  # type: ignore[override]  # it depends on a hyperparameter
        """Order of the error in the step."""
        return 2.0 if self.inner == "midpoint" else 1.0

    @property
    def score_evaluations(self) -> float:  # type: ignore[override]  # it depends on a hyperparameter
        """Scores per particle and step."""
        return 2.0 if self.inner == "midpoint" else 1.0

    def parts(self, t: float, s: float) -> tuple[Stage, ...]:
        m = 0.5 * (t + s)
        return self.relax(t, m), self.push(t, m, s), self.relax(m, s)

    def relax(self, t: float, s: float) -> Stage:
        """A from t to s."""
        ((r_xx, r_xp), (r_px, r_pp)), ((l_xx, _), (l_px, l_pp)) = _between(self.forward, s, t)

        def stage(target: Target, u: Phase, noise: Noise) -> Phase:
            y, z = noise.normal(tuple(u.x.shape)), noise.normal(tuple(u.p.shape))
            return Phase(r_xx * u.x - r_xp * u.p + l_xx * y, -r_px * u.x + r_pp * u.p - l_px * y + l_pp * z, u.score)

        return stage

    def push(self, t: float, m: float, s: float) -> Stage:
        """B."""
        b = self.forward.schedule.integral(t) - self.forward.schedule.integral(s)
        (c_xx, _), (_, c_pp) = self.forward.noise_cov

        def residual(target: Target, time: float, u: Phase) -> tuple[Batch, Batch]:
            score_x, score_p = self.look(target, time, u)
            return c_xx * (score_x + u.x), c_pp * (score_p + u.p / self.mass)

        def stage(target: Target, u: Phase, noise: Noise) -> Phase:
            time, middle = t, u
            if self.inner == "midpoint":
                x, p = residual(target, m, u)
                time, middle = m, Phase(u.x + 0.5 * b * x, u.p + 0.5 * b * p, u.score)
            x, p = residual(target, time, middle)
            return Phase(u.x + b * x, u.p + b * p, u.score)

        return stage


@lru_cache(maxsize=4096)
def _between(sde: PhaseSpaceSDE, s: float, t: float) -> tuple[list[list[float]], list[list[float]]]:
    """Transition and Cholesky factor of ``u_t | u_s``, computed once for all blocks of particles."""
    return sde.kernel(t, fixed_momentum=True, since=s).transition.tolist(), sde.cholesky(t, fixed_momentum=True, since=s).tolist()
