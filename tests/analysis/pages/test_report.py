"""The report, opened in a real browser, with the network cut off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Page
from scipy import stats

from luceloop.analysis.drawing.figures import Drawn, draw_all
from luceloop.analysis.drawing.styles import short_name, varying
from luceloop.analysis.pages.report import EMBEDDED, write_report
from luceloop.analysis.reading.results import SweepResults, load_results
from luceloop.analysis.statistics.seeds import interval
from luceloop.sweeps.record.folders import Output
from tests.analysis.made_up import SIXTY_FOUR, made_up
from tests.support import Finished, needs_browser


@pytest.fixture(scope="module")
def results(finished: Finished) -> SweepResults:
    return load_results(finished.store, Output(finished.output).find("latest").id)


@pytest.fixture(scope="module")
def figures(results: SweepResults, tmp_path_factory: pytest.TempPathFactory) -> list[Drawn]:
    return draw_all(results, tmp_path_factory.mktemp("figures"), names=EMBEDDED)


def _cells(page: Page, table: str) -> list[list[str]]:
    """The cells of a table."""
    rows = page.locator(f"#{table} tbody tr").all()
    return [row.locator("td").all_inner_texts() for row in rows]


def _open(page: Page, file: Path) -> list[str]:
    """Open a page, wait for its chart, and return what console and network see from then on."""
    seen: list[str] = []
    page.on("console", lambda message: seen.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.append(f"error: {error}"))
    page.on("request", lambda request: seen.append(request.url.split(":")[0]))
    page.goto(file.as_uri())
    page.wait_for_selector("#chart svg path")
    return seen


def _lines(page: Page) -> int:
    """The mean curves that the chart shows."""
    page.wait_for_timeout(200)  # the chart is drawn in steps
    drawn = page.locator("#chart svg .layer_4_marks path")
    return sum(bool(path.get_attribute("d")) for path in drawn.all())


@needs_browser
def test_the_page_stands_alone_and_says_how_far_points_are_from_the_theory(
    finished: Finished, results: SweepResults, figures, page: Page, tmp_path
):
    file = write_report(results, figures, tmp_path / "report.html")
    seen = _open(page, file)
    assert set(seen) <= {"file", "data"}
    widths = page.eval_on_selector_all("img", "images => images.map(i => i.naturalWidth)")
    assert len(widths) == len(figures) > 2
    assert min(widths) > 100
    captions = page.locator("figcaption").all_inner_texts()
    assert captions == [figure.caption for figure in figures]
    assert "- 7\n" in page.inner_text("#configuration")  # the configuration's seeds
    assert (
        "luceloop run mog" in page.inner_text("#run ~ pre >> nth=0") or "pytest" in page.content()
    )
    rows = _cells(page, "ends-table")
    keys = varying(results.points)
    assert [row[0] for row in rows] == [short_name(point, keys) for point in results.points]
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
def test_points_are_toggled_metrics_picked_keys_filtered(
    results: SweepResults, page: Page, tmp_path
):
    seen = _open(page, write_report(results, [], tmp_path / "report.html"))
    assert _lines(page) == 4
    page.locator("#points input").first.uncheck()
    assert _lines(page) == 3
    page.select_option("#filters select >> nth=0", "10")
    assert _lines(page) == 2
    page.select_option("#metric", "class_entropy")
    assert _lines(page) == 2
    before = page.locator("#chart svg path").count()
    page.check("#seeds")
    page.wait_for_timeout(200)
    assert page.locator("#chart svg path").count() > before
    page.click("#none")
    assert _lines(page) == 0
    page.click("#all")
    assert _lines(page) == 2
    assert not [line for line in seen if line.startswith(("error", "warning"))], seen


@needs_browser
def test_the_slider_moves_through_the_samples(results: SweepResults, page: Page, tmp_path):
    _open(page, write_report(results, [], tmp_path / "report.html"))
    strips = page.locator(".strip div")
    assert strips.count() == len(results.points)
    first = strips.first
    assert first.evaluate("e => e.style.backgroundPosition").startswith("-480px")
    shots = {first.screenshot()}
    for t in ("0", "1"):
        page.locator("#t").fill(t)
        assert page.inner_text("#at") == f"t={t}"
        assert first.evaluate("e => e.style.backgroundPosition").startswith(f"{-160 * int(t)}px")
        shots.add(first.screenshot())
    assert len(shots) == 3  # other samples each time
    assert first.get_attribute("aria-label") == "samples at t=1"


@needs_browser
def test_tables_sort_by_number(results: SweepResults, page: Page, tmp_path):
    _open(page, write_report(results, [], tmp_path / "report.html"))
    assert len(_cells(page, "pairs-table")) == 6
    for direction in (1, -1):
        page.locator("#ends-table th button", has_text="mean reward").click()
        means = [float(row[3]) for row in _cells(page, "ends-table")]
        assert means == sorted(means, reverse=direction < 0)


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_legible_at_400_pixels_in_light_and_dark(
    results: SweepResults, figures, page: Page, tmp_path, scheme
):
    page.set_viewport_size({"width": 400, "height": 800})
    page.emulate_media(color_scheme=scheme)
    _open(page, write_report(results, figures, tmp_path / "report.html"))
    page.wait_for_function("document.documentElement.scrollWidth <= 400")  # once it is laid out
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    light = [sum(map(int, color[4:-1].split(","))) / 765 for color in (ink, paper)]
    assert abs(light[0] - light[1]) > 0.7 and (light[1] > 0.5) == (scheme == "light")


@needs_browser
def test_violated_bounds_are_told_and_where(results: SweepResults, page: Page, tmp_path):
    curves = results.curves.copy()
    chosen = (curves["metric"] == "margin/lemma_2_2") & (curves["point"] == 3)
    curves.loc[chosen & (curves["iteration"] == 2), "value"] = [0.1, -0.4, -0.6]
    file = write_report(replace(results, curves=curves), [], tmp_path / "report.html")
    page.goto(file.as_uri())
    rows = {(row[0], row[1]): row[2:] for row in _cells(page, "bounds-table")}
    margin, _, t, beyond, verdict = rows["β=10 λ=∞", "Lemma 2.2"]
    # Within the seeds' noise: one-sided p=0.11, three iterations.
    assert [margin, t, beyond, verdict] == ["-0.3", "2", "2 of 3", "kept"]
    curves.loc[chosen & (curves["iteration"] == 2), "value"] = [-0.4, -0.5, -0.6]
    page.goto(write_report(replace(results, curves=curves), [], file).as_uri())
    rows = {(row[0], row[1]): row[2:] for row in _cells(page, "bounds-table")}
    p = 3 * stats.t.cdf(-0.5 / (0.1 / np.sqrt(3)), 2)
    marked = rows["β=10 λ=∞", "Lemma 2.2"][-1]
    assert marked == f"violated (p={p:.2g})"
    assert marked in page.locator(".alarming").all_inner_texts()


def test_names_cannot_break_the_page(results: SweepResults, tmp_path):
    runs = replace(results.runs, name="<script>alert(1)</script>", description="a < b & c")
    odd = {"curation.beta": "</script><b>β"}
    points = [replace(p, values={**p.values, **odd, "lam": p.index}) for p in results.points]
    file = write_report(replace(results, runs=runs, points=points), [], tmp_path / "r.html")
    text = file.read_text()
    assert "<script>alert" not in text and "<b>β" not in text and "a &lt; b &amp; c" in text
    assert text.count("</script>") == 4


def test_without_forecasts_the_page_has_the_measured_numbers(results: SweepResults, tmp_path):
    points = [replace(point, forecast=None) for point in results.points]
    text = write_report(replace(results, points=points), [], tmp_path / "r.html").read_text()
    assert text.count("<td></td><td></td><td></td><td></td></tr>") == len(points)


def test_64_points_of_10_seeds_make_a_page_below_3_mb(results: SweepResults, tmp_path):
    """The largest part of a page is numbers and pictures of samples."""
    config, points = made_up(SIXTY_FOUR, seeds=10)
    assert len(points) == 64
    curves = pd.concat([point.by_seed for point in points])
    runs = replace(results.runs, points=dict.fromkeys(range(64), results.runs.points[0]))
    large = SweepResults(runs, curves, points, "", config)
    drawn = draw_all(large, tmp_path / "figures", names=set(EMBEDDED) - {"samples"})
    file = write_report(large, drawn, tmp_path / "report.html")
    assert file.stat().st_size < 3e6
