"""Tables of comparisons for papers: LaTeX with the rules of the package booktabs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

SYMBOLS = {
    "β": r"$\beta$",
    "λ": r"$\lambda$",
    "∞": r"$\infty$",
    "\\": r"\textbackslash{}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
HEAD = ("A", "B", "difference", r"95\,\% interval", "$p$ (Holm)", "seeds")


def to_latex(table: pd.DataFrame) -> str:
    r"""A tabular of comparisons, to be put into a document that loads booktabs.

    Args:
        table: with the columns of `core` comparisons, see `analysis.statistics.pairs.COLUMNS`.
    """
    rows = [_row({str(k): v for k, v in row.items()}) for row in table.to_dict("records")]
    metric = escape(str(table["metric"].iloc[0]))
    lines = [
        rf"% differences of {metric}",
        r"\begin{tabular}{llrrrr}",
        r"\toprule",
        " & ".join(HEAD) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines)


def _row(row: Mapping[str, Any]) -> list[str]:
    interval = ""
    if not math.isnan(row["ci_low"]):
        interval = f"{_number(row['ci_low'], 3)} to {_number(row['ci_high'], 3)}"
    p = "" if math.isnan(row["p_holm"]) else _p(row["p_holm"])
    difference = _number(row["difference"], 4)
    return [escape(row["a"]), escape(row["b"]), difference, interval, p, str(row["seeds"])]


def _number(value: float, digits: int) -> str:
    """A number with its sign, powers of ten as papers write them."""
    mantissa, exponent, power = f"{value:+.{digits}g}".partition("e")
    return rf"${mantissa}\times10^{{{int(power)}}}$" if exponent else f"${mantissa}$"


def _p(value: float) -> str:
    return r"$<0.001$" if value < 0.001 else f"${value:.3f}$"


def escape(text: str) -> str:
    """Text as LaTeX sets it; the signs of our names become symbols."""
    return "".join(SYMBOLS.get(sign, sign) for sign in text).replace("=inf", r"=$\infty$")
