"""The report, opened in a real browser, with the network cut off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Page
from scipy import stats

from luceloop.analysis.pages.report import write_report
from luceloop.analysis.reading.results import SweepResults, load_results
from luceloop.analysis.statistics.seeds import interval
from luceloop.sweeps.record.folders import Output
from tests.support import Finished, needs_browser


@pytest.fixture(scope="module")
def results(finished: Finished) -> SweepResults:
    return load_results(finished.store, Output(finished.output).find("latest").id)


@pytest.fixture(scope="module")
def figures(finished: Finished) -> list[Path]:
    return sorted(Output(finished.output).find("latest").figures.iterdir())


POINTS, BOUNDS = "Points at their last iteration", "The theorems' bounds"


def _cells(page: Page, heading: str) -> list[list[str]]:
    """The table beneath a heading."""
    table = page.locator("h2", has_text=heading).locator("xpath=following-sibling::table[1]")
    rows = table.locator("tr").all()[1:]
    return [row.locator("td").all_inner_texts() for row in rows]


@needs_browser
def test_the_page_stands_alone_and_says_how_far_points_are_from_the_theory(
    finished: Finished, results: SweepResults, figures, page: Page, tmp_path
):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.split(":")[0]))
    file = write_report(results, figures, tmp_path / "report.html")
    page.goto(file.as_uri())
    page.wait_for_load_state()
    assert set(asked) <= {"file", "data"}
    widths = page.eval_on_selector_all("img", "images => images.map(i => i.naturalWidth)")
    assert len(widths) == len([path for path in figures if path.suffix == ".png"])
    assert min(widths) > 100
    assert "- 7\n" in page.inner_text("pre")  # the configuration's seeds
    rows = _cells(page, POINTS)
    assert [row[0] for row in rows] == [point.name for point in results.points]
    table = pd.read_csv(finished.table).query("metric == 'reward_mean' and iteration == 3")
    for row, point in zip(rows, results.points, strict=True):
        values = table[(table["point"] == point.index) & table["seed"].notna()]["value"]
        assert point.forecast is not None
        expected = point.forecast.curves["reward_mean"][3]
        low, high = interval(values.mean(), values.std(ddof=1), 3, high=0.0)  # r* is 0
        assert row[1:4] == ["3", "3", f"{values.mean():.4g}"]
        assert row[5] == f"{low:.4g} to {high:.4g}"
        ends = f"{low - expected:+.3g} to {high - expected:+.3g}"
        assert row[6] == f"{expected:.4g}" and ends in row[7]
        assert all(cell.split()[0] in ("agrees", "above", "below") for cell in row[7:])


@needs_browser
def test_violated_bounds_are_told_and_where(results: SweepResults, page: Page, tmp_path):
    curves = results.curves.copy()
    chosen = (curves["metric"] == "margin/lemma_2_2") & (curves["point"] == 3)
    curves.loc[chosen & (curves["iteration"] == 2), "value"] = [0.1, -0.4, -0.6]
    file = write_report(replace(results, curves=curves), [], tmp_path / "report.html")
    page.goto(file.as_uri())
    rows = {(row[0], row[1]): row[2:] for row in _cells(page, BOUNDS)}
    margin, _, t, beyond, verdict = rows["β=10 λ=inf K=4", "Lemma 2.2"]
    # Within the seeds' noise: one-sided p=0.11, three iterations.
    assert [margin, t, beyond, verdict] == ["-0.3", "2", "2 of 3", "kept"]
    curves.loc[chosen & (curves["iteration"] == 2), "value"] = [-0.4, -0.5, -0.6]
    page.goto(write_report(replace(results, curves=curves), [], file).as_uri())
    rows = {(row[0], row[1]): row[2:] for row in _cells(page, BOUNDS)}
    p = 3 * stats.t.cdf(-0.5 / (0.1 / np.sqrt(3)), 2)
    marked = rows["β=10 λ=inf K=4", "Lemma 2.2"][-1]
    assert marked == f"violated (p={p:.2g})"
    assert marked in page.locator(".violated").all_inner_texts()


def test_names_cannot_break_the_page(results: SweepResults, tmp_path):
    runs = replace(results.runs, name="<script>alert(1)</script>", description="a < b & c")
    points = [replace(point, name="<b>β</b>") for point in results.points]
    file = write_report(replace(results, runs=runs, points=points), [], tmp_path / "r.html")
    text = file.read_text()
    assert "<script" not in text and "<b>β" not in text and "a &lt; b &amp; c" in text


def test_without_forecasts_the_page_has_the_measured_numbers(results: SweepResults, tmp_path):
    points = [replace(point, forecast=None) for point in results.points]
    text = write_report(replace(results, points=points), [], tmp_path / "r.html").read_text()
    assert text.count("<td></td><td></td><td></td><td></td></tr>") == len(points)
