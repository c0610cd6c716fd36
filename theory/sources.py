"""The works that several statements come from."""

from .base import Source


def vempala_wibisono(where: str) -> Source:
    """Log-Sobolev, Poincare and ULA; numbers are those of the arXiv version."""
    return Source(
        "Rapid convergence of the unadjusted Langevin algorithm: isoperimetry suffices",
        "Vempala, Wibisono",
        2019,
        where,
        "https://arxiv.org/abs/1903.08568",
    )


def chewi(where: str) -> Source:
    """The monograph that the coupling statements follow; numbers are those of the draft of 23 November 2024."""
    return Source("Log-concave sampling (draft of 23 November 2024)", "Chewi", 2024, where, "https://chewisinho.github.io/main.pdf")


def bakry_gentil_ledoux(where: str) -> Source:
    """Markov semigroups and functional inequalities."""
    return Source(
        "Analysis and geometry of Markov diffusion operators", "Bakry, Gentil, Ledoux", 2014, where, "https://doi.org/10.1007/978-3-319-00227-9"
    )


def durmus_majewski_miasojedow(where: str) -> Source:
    """ULA as optimisation over laws."""
    return Source(
        "Analysis of Langevin Monte Carlo via convex optimization", "Durmus, Majewski, Miasojedow", 2019, where, "https://arxiv.org/abs/1802.09188"
    )


def dalalyan_karagulyan(where: str) -> Source:
    """ULA in W2 with explicit constants."""
    return Source(
        "User-friendly guarantees for the Langevin Monte Carlo with inaccurate gradient",
        "Dalalyan, Karagulyan",
        2019,
        where,
        "https://arxiv.org/abs/1710.00095",
    )


def dalalyan_riou_durand(where: str) -> Source:
    """Kinetic Langevin in W2 with explicit constants."""
    return Source(
        "On sampling from a log-concave density using kinetic Langevin diffusions",
        "Dalalyan, Riou-Durand",
        2020,
        where,
        "https://arxiv.org/abs/1807.09382",
    )


def leimkuhler_matthews(where: str) -> Source:
    """Splittings of kinetic Langevin and their invariant laws."""
    return Source(
        "Rational construction of stochastic numerical methods for molecular sampling",
        "Leimkuhler, Matthews",
        2013,
        where,
        "https://arxiv.org/abs/1203.5428",
    )
