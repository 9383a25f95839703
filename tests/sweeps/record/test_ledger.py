"""The ledger: everything once, and nothing lost but a line that was being written."""

from __future__ import annotations

import pickle
import resource

import pytest

from luceloop.sweeps.record.events import (
    Event,
    IterationDone,
    PointBegun,
    PointEnded,
    PointReopened,
    Status,
    decode,
    encode,
)
from luceloop.sweeps.record.ledger import Ledger

ROW = {"reward_mean": [0.1, 1 / 3], "reward_max": [float("inf"), 2.0]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


def fill(path) -> None:
    ledger = Ledger(path)
    ledger.begin_point(0, {"curation.beta": 0.5, "lam": float("inf")})
    assert ledger.add_iteration(0, 0, ROW)
    assert ledger.add_iteration(0, 1, ROW)
    ledger.close()


def test_what_was_recorded_is_read_back_to_the_bit(path):
    fill(path)
    point = Ledger(path, writable=False).points[0]
    assert point.values == {"curation.beta": 0.5, "lam": float("inf")}
    assert point.rows == {0: ROW, 1: ROW}
    assert point.last == 1 and point.status is None


def test_an_iteration_is_recorded_once(path):
    fill(path)
    ledger = Ledger(path)
    before = path.read_bytes()
    assert not ledger.add_iteration(0, 1, {"reward_mean": [9.0, 9.0]})
    ledger.begin_point(0, {"curation.beta": 7})
    assert path.read_bytes() == before
    assert ledger.points[0].rows[1] == ROW


def test_a_point_ends_once_and_takes_no_rows_after(path):
    fill(path)
    ledger = Ledger(path)
    assert ledger.end_point(0, "failed", "why")
    assert not ledger.end_point(0, "done")
    assert not ledger.add_iteration(0, 2, ROW)
    again = Ledger(path, writable=False).points[0]
    assert (again.status, again.reason, again.last) == ("failed", "why", 1)


def test_every_cut_of_the_file_opens_with_whole_lines_only(path, tmp_path):
    """A driver killed at any byte leaves a ledger that goes on from its last whole line."""
    fill(path)
    content = path.read_bytes()
    for length in range(len(content) + 1):
        cut = tmp_path / "cut.jsonl"
        cut.write_bytes(content[:length])
        ledger = Ledger(cut)
        ledger.begin_point(0, {})
        for iteration in range(3):
            ledger.add_iteration(0, iteration, ROW)
        ledger.close()
        assert Ledger(cut, writable=False).points[0].rows == {0: ROW, 1: ROW, 2: ROW}
        assert cut.read_bytes().count(b'"event": "iteration"') == 3


def test_a_line_cut_short_by_a_full_disk_leaves_the_lines_before_it(path):
    """A limit on the file's size takes a part of a line, as a disk does; root is not exempt."""
    fill(path)
    whole = path.read_bytes()
    ledger = Ledger(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 30, limits[1]))
    try:
        with pytest.raises(OSError):
            ledger.add_iteration(0, 2, ROW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == whole and ledger.points[0].last == 1
    assert ledger.add_iteration(0, 2, ROW)
    assert Ledger(path, writable=False).points[0].rows == {0: ROW, 1: ROW, 2: ROW}


def test_a_pickled_ledger_can_be_read_but_not_written(path):
    fill(path)
    copy = pickle.loads(pickle.dumps(Ledger(path)))
    assert copy.points[0].rows == {0: ROW, 1: ROW}
    with pytest.raises(AssertionError):
        copy.add_iteration(0, 2, ROW)


def test_lost_points_run_again_and_failed_ones_do_not(path):
    ledger = Ledger(path)
    statuses: tuple[Status, ...] = ("done", "failed", "lost")
    for index, status in enumerate(statuses):
        ledger.begin_point(index, {"lam": index})
        ledger.add_iteration(index, 0, ROW)
        ledger.end_point(index, status, "why")
    ledger.reopen_lost()
    again = Ledger(path)
    assert [point.status for point in again.points.values()] == ["done", "failed", None]
    assert again.points[2].rows == {0: ROW}
    assert again.add_iteration(2, 1, ROW) and again.end_point(2, "done")


LINES = b"""\
{"event": "point", "point": 0, "values": {"curation.beta": 0.5, "lam": Infinity}}
{"event": "iteration", "point": 0, "iteration": 0, "time": 1700000000123, "metrics": {"loss": [0.5, NaN]}}
{"event": "point", "point": 1, "values": {}}
{"event": "end", "point": 0, "status": "failed", "time": 1700000000456, "reason": "NaN", "detail": "Trace"}
{"event": "end", "point": 1, "status": "lost", "time": 1700000000789, "reason": "died"}
{"event": "reopen", "point": 1}
{"event": "end", "point": 1, "status": "done", "time": 1700000000999}
"""  # noqa: E501
"""As every version has written them."""


def test_a_ledger_of_an_older_version_is_read_and_written_alike(path):
    path.write_bytes(LINES)
    ledger = Ledger(path, writable=False)
    assert b"".join(map(encode, ledger.events)) == LINES
    zero, one = ledger.points[0], ledger.points[1]
    assert zero.values == {"curation.beta": 0.5, "lam": float("inf")}
    assert zero.rows[0]["loss"][0] == 0.5 and (zero.status, zero.reason) == ("failed", "NaN")
    assert (one.values, one.rows, one.status, one.reason) == ({}, {}, "done", "")


EVENTS: list[Event] = [
    PointBegun(3, {"lam": 1.0, "reward": {"name": "mode_distance"}}),
    IterationDone(3, 7, 1700000000123, {"reward_mean": [0.1, 1 / 3], "loss": [float("inf"), 2.0]}),
    PointEnded(3, "done", 1),
    PointEnded(3, "stopped", 2, "behind"),
    PointEnded(3, "failed", 3, "NaN", "line one\nline two"),
    PointReopened(3),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_an_event_is_one_line_and_read_back_as_it_was(event):
    line = encode(event)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert decode(line).event == event
