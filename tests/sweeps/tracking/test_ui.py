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
    search = page.get_by_placeholder("Search metric charts")
    search.wait_for(timeout=60_000)
    # As it opens: the mean reward, the entropy of the class shares, the width.
    found = search.input_value()
    assert found == r"^((reward_mean|class_entropy|width_ratio)\.mean|samples)$"
    expect(page.locator(".js-plotly-plot")).to_have_count(3, timeout=60_000)
    # Beside them a card with a picture of samples for each point.
    pictures = page.locator("img[src*='images']")
    expect(pictures).to_have_count(finished.points, timeout=60_000)
    assert all(each.evaluate("e => e.naturalWidth") > 100 for each in pictures.all())
    search.fill(r"^reward_mean\.mean$")
    lines = page.locator(".scatterlayer path.js-line")
    expect(page.locator(".js-plotly-plot")).to_have_count(1, timeout=60_000)
    lines.first.wait_for(timeout=60_000)
    # MLflow draws a run as a smoothed and a raw line of the same colour.
    colors = {line.evaluate("e => e.style.stroke") for line in lines.all()}
    assert len(colors) == finished.points
    legend = page.locator(".legendtext").all_inner_texts()
    shown = page.inner_text("body")
    for beta, lam in ((0, 0.5), (0, "inf"), (10, 0.5), (10, "inf")):
        assert f"β={beta} λ={lam} K=4" in shown + "".join(legend)
