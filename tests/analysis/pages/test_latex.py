"""Tables for papers: LaTeX that compiles, whatever names hold."""

from __future__ import annotations

import shutil
import subprocess

import pandas as pd
import pytest

from luceloop.analysis.pages.latex import escape, to_latex
from luceloop.analysis.statistics.pairs import compare_within, measure

ROWS = [
    (point, seed, 3, "class_fraction/0", value + 0.1 * seed)
    for point, value in enumerate((1e-6, 0.5, 2e7))
    for seed in range(3)
]
NAMES = {0: "β=10 λ=inf K=2", 1: r"reward={'name': 'a_b%c#d~e^f\g'}", 2: "β=∞ λ=0.5 & $x$"}


@pytest.fixture
def table() -> pd.DataFrame:
    curves = pd.DataFrame(ROWS, columns=["point", "seed", "iteration", "metric", "value"])
    return compare_within(measure(curves, NAMES, "class_fraction/0", "last"), "class_fraction/0")


def test_numbers_are_written_as_papers_do(table):
    text = to_latex(table)
    assert r"\times10^{7}" in text and "e+07" not in text
    assert text.count(r" \\") == 1 + 3 and text.startswith(r"% differences of class\_fraction/0")


def test_signs_of_latex_are_escaped():
    assert escape("a_b & 50%") == r"a\_b \& 50\%"
    assert escape("β=10 λ=inf") == r"$\beta$=10 $\lambda$=$\infty$"


@pytest.mark.external
@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="no LaTeX: apt-get install texlive-latex-recommended"
)
def test_the_table_compiles(table, tmp_path):
    head = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "t.tex").write_text(f"{head}\n{to_latex(table)}\n\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert ran.returncode == 0, ran.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "t.log").read_text(errors="replace")
