"""MLflow's chart page of a sweep, opened in a real browser."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.support import Finished, needs_browser


@pytest.fixture
def address(finished: Finished) -> Iterator[str]:
    """What `luceloop ui` prints, while it serves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = dict(os.environ, LUCELOOP_OUTPUT=str(finished.output))
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-c", "from luceloop.sweeps.cli.app import main; main()", "ui"]
    server = subprocess.Popen(
        [*command, "--port", str(port)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    yield server.stdout.readline().strip()
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0
    with socket.socket() as probe:  # nothing of it is left
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


@pytest.mark.slow
@needs_browser
def test_the_printed_page_compares_the_points(finished: Finished, address: str, page: Page):
    view = r"compareRunsMode=CHART&viewStateShareKey=luceloop"
    assert re.fullmatch(rf"http://127\.0\.0\.1:\d+/#/experiments/\d+/runs\?{view}", address)
    page.goto(address)
    # As it opens: the mean reward, the entropy of the class shares, the width; all else is closed.
    charts = page.locator(".js-plotly-plot")
    expect(charts).to_have_count(3, timeout=60_000)
    # Beside them a card with a picture of samples for each point.
    pictures = page.locator("img[src*='images']")
    expect(pictures).to_have_count(finished.points, timeout=60_000)
    assert all(each.evaluate("e => e.naturalWidth") > 100 for each in pictures.all())
    shown = page.inner_text("body")
    for metric in ("class_entropy.mean", "reward_mean.mean", "width_ratio.mean"):
        assert metric in shown
    first = charts.first.locator(".scatterlayer path.js-line")
    first.first.wait_for(timeout=60_000)
    # A line for each point and its mean, and for both ends of its interval, which are dashed.
    colors = {line.evaluate("e => e.style.stroke") for line in first.all()}
    dashes = {line.evaluate("e => e.style.strokeDasharray") for line in first.all()}
    assert len(colors) == finished.points and len(dashes) == 3
    for beta, lam in ((0, 0.5), (0, "inf"), (10, 0.5), (10, "inf")):
        assert f"β={beta} λ={lam} K=4" in shown
    for section in ("Model metrics", "class_fraction", "margin", "seconds"):  # closed
        expect(page.get_by_text(section, exact=True)).to_be_visible()
