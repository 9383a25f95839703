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
    interval = (
        "" if math.isnan(row["ci_low"]) else f"${row['ci_low']:+.3g}$ to ${row['ci_high']:+.3g}$"
    )
    p = "" if math.isnan(row["p_holm"]) else _p(row["p_holm"])
    difference = f"${row['difference']:+.4g}$"
    return [escape(row["a"]), escape(row["b"]), difference, interval, p, str(row["seeds"])]


def _p(value: float) -> str:
    return r"$<0.001$" if value < 0.001 else f"${value:.3f}$"


def escape(text: str) -> str:
    """Text as LaTeX sets it; the signs of our names become symbols."""
    return "".join(SYMBOLS.get(sign, sign) for sign in text).replace("=inf", r"=$\infty$")
