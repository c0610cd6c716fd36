"""Formulas as they are typed in statements (``W2(mu_k) <= exp(-m k h/2)``), set for a page or a figure."""

from __future__ import annotations

import re
from html import escape
from typing import Literal

Markup = Literal["html", "mathtext"]

#: What a word of a formula is drawn as.
GLYPHS = {
    "alpha": "α", "beta": "β", "chi": "χ", "gamma": "γ", "delta": "δ", "eps": "ε", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "pi": "π",
    "rho": "ρ", "sigma": "σ", "theta": "θ", "grad": "∇", "sqrt": "√", "integral": "∫", "inf": "∞", "<=": "≤", ">=": "≥", "->": "→", "+-": "±",
    "~": "∼", "||": "‖", "-": "−",
}  # fmt: skip
ACCENTED = {"Renyi": "Rényi", "Poincare": "Poincaré"}

_TOKENS = re.compile(
    r"""(?P<word>[A-Za-z]{2,}\d*(?:-[A-Za-z0-9]+)+      # ula-w2, log-concave
      | (?<![A-Za-z])[A-Za-z]{2,}\d?(?![A-Za-z]))      # exp, mu, W2, KL
      | (?P<letter>[A-Za-z])(?P<index>\d*)             # a variable; W2 and k0 are W_2 and k_0
      | (?P<shift>[_^])(?:\{(?P<braced>[^{}]*)\}|\((?P<round>[^()]*)\)|(?P<bare>[A-Za-z]+|\d+))
      | (?P<sign><=|>=|->|\+-|\|\||[-~])
      | (?P<other>\s+|.)""",
    re.VERBOSE,
)


def typeset(text: str, markup: Markup = "html") -> str:
    """A statement with its symbols, indices and powers.

    Arguments:
        markup: ``html`` (escaped, with i, sub and sup elements) or ``mathtext`` (matplotlib's, text outside of dollars).
    """
    draw = _html if markup == "html" else _mathtext
    out = []
    for match in _TOKENS.finditer(text):
        kind, piece = str(match.lastgroup), match.group()
        if kind in ("braced", "round", "bare"):
            out.append(draw(match["shift"], match[kind]))
        elif piece == "chi2":
            out.append(draw("letter", "χ") + draw("^", "2"))
        elif kind == "word" and GLYPHS.get(piece, "").isalpha():
            out.append(draw("letter", GLYPHS[piece]))
        elif match["letter"] and not _article(text, match):
            out.append(draw("letter", match["letter"]) + (draw("_", match["index"]) if match["index"] else ""))
        else:
            out.append(draw("text", ACCENTED.get(piece, GLYPHS.get(piece, piece))))
    return "".join(out)


def _article(text: str, match: re.Match[str]) -> bool:
    """Whether a letter is the word "a" or "A": between words, with no operator beside it."""
    before, after = text[: match.start()], text[match.end() :]
    return match.group() in "aA" and re.search(r"(^|[a-z]{2}[:;,.]? )$", before) is not None and re.match(r" [A-Za-z0-9(]", after) is not None


def _html(kind: str, piece: str) -> str:
    if kind == "letter":
        return f"<i>{piece}</i>"
    if kind in "_^":
        tag = "sub" if kind == "_" else "sup"
        return f"<{tag}>{typeset(piece)}</{tag}>"
    return escape(piece)


def _mathtext(kind: str, piece: str) -> str:
    if kind == "letter":
        return f"${piece}$"
    if kind in "_^":
        return f"${{}}{kind}{{{_inner(piece)}}}$"
    return piece.replace("$", r"\$")


def _inner(piece: str) -> str:
    """An index or power: one piece of mathtext, names in roman."""
    if piece.isalpha() and len(piece) > 1 and piece not in GLYPHS:
        return rf"\mathrm{{{piece}}}"
    drawn = re.sub(r"[A-Za-z]{2,}", lambda m: GLYPHS.get(m.group(), rf"\mathrm{{{m.group()}}}"), piece)
    return drawn.replace(" ", r"\,")


#: Metrics in words and in symbols; * is the law at hand.
QUANTITIES = {
    "w2": ("Wasserstein distance", "W2(*, pi)"),
    "w1": ("Wasserstein distance", "W1(*, pi)"),
    "gelbrich": ("Gelbrich's distance", "G(*, pi)"),
    "kl": ("relative entropy", "KL(* || pi)"),
    "reverse_kl": ("reverse relative entropy", "KL(pi || *)"),
    "chi2": ("chi-squared divergence", "chi2(* || pi)"),
    "tv": ("total variation", "TV(*, pi)"),
    "fisher": ("relative Fisher information", "J(* || pi)"),
    "renyi": ("Rényi divergence", "R_q(* || pi)"),
    "stationary w2": ("stationary bias", "W2(pi_h, pi)"),
    "stationary TV": ("stationary bias", "TV(pi_h, pi)"),
    "kl of the average": ("relative entropy", "KL(mean of mu_1..mu_n || pi)"),
    "kl one step later": ("relative entropy", "KL(mu_{k+1} || pi)"),
}


def quantity(label: str, continuous: bool = False, order: str = "") -> str:
    """What an axis measures, in words with its symbol, as mathtext.

    Arguments:
        label: as in a table: ``w2``, ``renyi(order=3)``, or words.
        continuous: whether the law is one at a time t, not at a step k.
        order: order of a Renyi divergence, where known.
    """
    name, _, changed = label.partition("(")
    order = order or (re.findall(r"order=([\d.]+)", changed) or [""])[0]
    if name not in QUANTITIES:
        words = re.sub(r"\b(kl|w2|w1|tv)\b", lambda m: m.group().upper(), label)
        return typeset(words.replace("_", " ") if re.fullmatch(r"\w+", words) else words, "mathtext")
    words, symbol = QUANTITIES[name]
    symbol = symbol.replace("*", "mu_t" if continuous else "mu_k")
    if order:
        symbol = symbol.replace("R_q", f"R_{{{order}}}")
    return f"{words}  {typeset(symbol, 'mathtext')}"
