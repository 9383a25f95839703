"""What is told, how often, and what an address that does not answer can do: nothing."""

from __future__ import annotations

import errno
import http.server
import logging
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from luceloop.core.config.claims import ClaimConfig
from luceloop.core.config.parsing import parse_config
from luceloop.core.errors import ConfigError
from luceloop.sweeps.notify import notifier as module
from luceloop.sweeps.notify.notifier import MOST_FAILURES, Answer, Ending, Notifier
from luceloop.sweeps.notify.told import read_told
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from tests.sweeps.notify.listener import TOKEN, Listener

CONFIG = parse_config(
    {
        "name": "told",
        "data": {"name": "eight_gaussians"},
        "search": {"lam": {"grid": list(range(1, 21))}},
        "claims": [{"says": "It grows.", "above": 0}, {"says": "It shrinks.", "below": 0}],
    }
)
DONE = Ending("done")


@pytest.fixture
def folder(tmp_path: Path, listener: Listener) -> SweepFolder:
    return Output(tmp_path).create_sweep(CONFIG, "why", address=listener.address)


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0.02)
    monkeypatch.setattr(module, "PAUSES", (0.05, 0.05))


class Claims:
    """Answers as they would follow from a ledger."""

    def __init__(self, *answers: str) -> None:
        self.now = answers

    def __call__(self) -> list:
        claims = [ClaimConfig(says="It grows.", above=0), ClaimConfig(says="Not.", below=0)]
        return [
            SimpleNamespace(claim=claim, answer=answer, words=f"{answer}: numbers")
            for claim, answer in zip(claims, self.now, strict=True)
        ]


def tell(folder: SweepFolder, answer: Answer | None = None) -> tuple[Ledger, Notifier]:
    ledger = Ledger(folder.ledger)
    found = Notifier(folder, CONFIG, ledger, answer or Claims("undecided", "undecided"))
    found.start()
    return ledger, found


def fail(ledger: Ledger, *points: int) -> None:
    for point in points:
        ledger.begin_point(point, {"lam": float(point + 1)})
        ledger.end_point(point, "failed", "loss is NaN")


def wait_for(what, listener: Listener) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, listener.posted
        time.sleep(0.01)


def test_a_failure_and_a_decided_claim_are_told_once_also_by_a_later_run(folder, listener):
    claims = Claims("holds", "undecided")
    ledger, notifier = tell(folder, claims)
    fail(ledger, 0)
    wait_for(lambda: listener.of("point_failed") and listener.of("claim"), listener)
    notifier.close(Ending("interrupted"))
    [failed], [decided], [end] = map(listener.of, ("point_failed", "claim", "end"))
    assert failed["point"] == "β=1 λ=1 K=2" and failed["reason"] == "loss is NaN"
    assert (failed["status"], failed["points"], failed["ended"], failed["failed"]) == (
        "running", 20, 1, 1
    )  # fmt: skip
    assert (decided["claim"], decided["verdict"]) == ("It grows.", "holds")
    assert end["status"] == "interrupted"

    ledger.close()
    ledger, notifier = tell(folder, claims)
    claims.now = ("holds", "contradicted")
    fail(ledger, 1)
    notifier.close(Ending("failed"))
    assert [each["point"][4:7] for each in listener.of("point_failed")] == ["λ=1", "λ=2"]
    assert [each["verdict"] for each in listener.of("claim")] == ["holds", "contradicted"]
    assert listener.posted[-1]["claims"] == {"holds": 1, "contradicted": 1}


def test_of_what_was_on_record_before_anybody_was_named_nothing_is_told(folder, listener):
    ledger = Ledger(folder.ledger)
    fail(ledger, 0, 1)
    ledger.close()
    ledger, notifier = tell(folder, Claims("holds", "undecided"))
    fail(ledger, 2)
    notifier.close(Ending("failed"))
    assert [each["point"] for each in listener.of("point_failed")] == ["β=1 λ=3 K=2"]
    assert not listener.of("claim")


def test_many_failures_are_counted_and_not_told_one_by_one(folder, listener):
    ledger, notifier = tell(folder)
    fail(ledger, *range(20))
    notifier.close(Ending("failed"))
    assert len(listener.of("point_failed")) == MOST_FAILURES
    assert "only the end tells" in listener.of("point_failed")[-1]["text"]
    assert listener.of("end")[0]["failed"] == 20


def test_a_busy_address_is_tried_again_and_one_that_refuses_is_not(folder, listener, caplog):
    listener.answers = [(503, {}), (429, {"Retry-After": "0.1"})]
    tell(folder)[1].close(DONE)
    assert len(listener.posted) == 3 and not caplog.records
    listener.posted.clear()
    listener.answers = [(404, {})]
    tell(folder)[1].close(DONE)
    assert len(listener.posted) == 1
    assert [r.getMessage() for r in caplog.records] == [
        "127.0.0.1 is not told of the sweep: HTTP 404"
    ]


def test_a_redirection_is_not_followed(folder, listener, caplog):
    listener.answers = [(307, {"Location": f"http://127.0.0.1:{listener.port}/elsewhere"})]
    tell(folder)[1].close(DONE)
    assert len(listener.posted) == 1 and "HTTP 307" in caplog.text


def test_nobody_there_is_one_line_that_names_the_host_alone(folder, listener, caplog):
    probe = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    probe.server_close()
    folder.keep_address(f"http://me:{TOKEN}@127.0.0.1:{probe.server_port}/{TOKEN}")
    ledger, notifier = tell(folder)
    fail(ledger, 0, 1, 2)
    notifier.close(DONE)
    [record] = caplog.records
    expected = f"127.0.0.1 is not told of the sweep: {os.strerror(errno.ECONNREFUSED)}"
    assert record.levelno == logging.WARNING and record.getMessage() == expected


def test_an_address_that_never_answers_holds_up_nothing(folder, listener, caplog, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    listener.delay = 3.0
    began = time.monotonic()
    ledger, notifier = tell(folder)
    fail(ledger, 0)
    took = time.monotonic() - began
    assert took < 0.3
    notifier.close(DONE)
    assert time.monotonic() - began < 2
    assert [r.getMessage() for r in caplog.records] == [
        "127.0.0.1 is not told of the sweep: no answer in 0.3 s"
    ]


def test_a_login_in_the_address_travels_as_a_header(folder, listener):
    folder.keep_address(f"http://me:p%40ss@127.0.0.1:{listener.port}/hook#part")
    tell(folder)[1].close(DONE)
    assert listener.headers[0]["Authorization"] == "Basic bWU6cEBzcw=="
    assert listener.paths == ["/hook"]


@pytest.mark.parametrize("address", ["", "none"])
def test_where_nobody_is_named_there_is_no_thread_and_no_file(address, folder, listener):
    folder.keep_address(address)
    before = set(threading.enumerate())
    _, notifier = tell(folder)
    assert "notifier" not in {thread.name for thread in set(threading.enumerate()) - before}
    notifier.close(DONE)
    assert not listener.posted and not folder.told.exists()


def test_claims_that_cannot_be_answered_are_one_line_and_the_end_is_told(folder, listener, caplog):
    def cannot() -> list:
        raise ConfigError("reward.name", "mine:f", "is not here")

    ledger, notifier = tell(folder, cannot)
    fail(ledger, 0)
    wait_for(lambda: caplog.records, listener)
    notifier.close(DONE)
    assert [r.getMessage() for r in caplog.records] == [
        "claims are not told of: reward.name='mine:f': is not here"
    ]
    assert listener.posted[-1]["event"] == "end" and listener.posted[-1]["claims"] is None


def test_the_end_waits_for_claims_that_take_long_to_answer(folder, listener, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.5)

    def slow() -> list:
        time.sleep(1.5)
        return Claims("holds", "contradicted")()

    ledger, notifier = tell(folder, slow)
    fail(ledger, 0)
    notifier.close(Ending("failed"))
    assert len(listener.of("claim")) == 2 and listener.posted[-1]["event"] == "end"


def test_a_damaged_note_of_what_was_told_keeps_no_sweep_from_going_on(tmp_path, caplog):
    file = tmp_path / "told.json"
    assert read_told(file) is None
    for text in ("", '{"events": 3', '{"of_another_version": 1}'):
        file.write_text(text)
        assert read_told(file) is None
        assert "is damaged" in caplog.text
