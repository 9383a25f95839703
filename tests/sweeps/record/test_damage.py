"""Damaged ledgers: named by file and line, never read as something else, and made whole again."""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from luceloop.core.config.parsing import parse_config
from luceloop.sweeps.record.damage import DamagedError
from luceloop.sweeps.record.events import IterationDone, encode
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.record.mending import mend, read_ledger
from luceloop.sweeps.record.mirror import find_or_fetch, mirrored
from luceloop.sweeps.record.table import recorded_table
from luceloop.sweeps.tracking.delivery import sync
from tests.support import QUICK, Cli, curves

LAST = 3
CONFIG = parse_config(
    {"name": "damaged", "data": {"name": "eight_gaussians"}, "seeds": [3, 4], "lam": 1}
    | {"iterations": LAST, "search": {"beta": {"grid": [0, 1, 2]}}}
)
LEARNING = parse_config(
    {"name": "damaged", "data": {"name": "eight_gaussians"}, "seeds": [3, 4], "lam": 1}
    | {"iterations": LAST, "search": {"beta": {"uniform": [0, 1]}, "sampler": "tpe", "trials": 3}}
)


def row(point: int, t: int) -> dict[str, list[float]]:
    return {"reward_mean": [point + t / 7, point - t / 9], "loss": [float("nan"), 0.5]}


def record(ledger: Ledger) -> None:
    """What is left of three points whose iterations take turns, the second of which fails."""
    for point in range(3):
        ledger.begin_point(point, {"curation.beta": point})
    for t in range(LAST + 1):
        for point in range(3):
            if point == 1 and t == 2:
                ledger.end_point(1, "failed", "training loss is NaN")
            elif ledger.points[point].status is None:
                ledger.add_iteration(point, t, row(point, t))
                if t == LAST:
                    ledger.end_point(point, "done")


@functools.cache
def recorded(*, checked: bool = True) -> tuple[bytes, ...]:
    """The lines of a whole ledger; as older versions wrote them if they are not to be checked."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.jsonl")
        record(ledger)
        ledger.close()
        lines = (Path(folder) / "ledger.jsonl").read_bytes().splitlines()
    return tuple(lines) if checked else tuple(encode(e).rstrip(b"\n") for e in ledger.events)


def joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def events_of(content: bytes) -> list[str]:
    """The events of a ledger's file, in words, as NaN equals nothing."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.jsonl"
        file.write_bytes(content)
        return [repr(event) for event in Ledger(file, writable=False).events]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.text(alphabet='{}[]":,0123456789evntpoi\n\0 ').map(str.encode))
def test_any_bytes_are_a_ledger_or_an_error_of_one_line(content: bytes):
    try:
        events_of(content)
    except DamagedError as error:
        assert "ledger.jsonl, line " in str(error) and "\n" not in str(error)


@st.composite
def mutated(draw: st.DrawFn, lines: tuple[bytes, ...]) -> bytes:
    """A ledger some of whose lines, bytes or bits are not what they were."""
    found = list(lines)
    for _ in range(draw(st.integers(1, 3))):
        i, j = (draw(st.integers(0, len(found) - 1)) for _ in range(2))
        match draw(st.sampled_from(["delete", "repeat", "swap", "garbage", "move"])):
            case "delete" if len(found) > 1:
                del found[i]
            case "repeat":
                found.insert(j, found[i])
            case "swap":
                found[i], found[j] = found[j], found[i]
            case "garbage":
                found.insert(i, draw(st.binary(max_size=30)))
            case _:
                found.insert(j, found.pop(i))
    content = bytearray(joined(found))
    for _ in range(draw(st.integers(0, 2))):
        content[draw(st.integers(0, len(content) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


@settings(max_examples=300, deadline=None)
@given(mutated(recorded()))
def test_a_ledger_that_was_changed_is_refused_or_begins_like_the_one_that_was_written(content):
    try:
        found = events_of(content)
    except DamagedError as error:
        assert "ledger.jsonl, line " in str(error) and "\n" not in str(error)
    else:
        assert found == events_of(joined(list(recorded())))[: len(found)]


def sweep(folder: Path, content: bytes, config=CONFIG) -> SweepFolder:
    found = Output(folder).create_sweep(config, "damaged")
    found.ledger.write_bytes(content)
    return found


@settings(max_examples=150, deadline=None)
@given(mutated(recorded()))
def test_whatever_a_mended_ledger_has_was_written_and_the_rest_can_follow(content: bytes):
    """Each point has its first rows, and recording what is missing gives the undisturbed table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = sweep(Path(temporary), content)
        whole = content[: content.rfind(b"\n") + 1]
        was_damaged = mend(folder, CONFIG)
        copies = list(folder.path.glob("ledger.damaged-*"))
        assert [copy.read_bytes() for copy in copies] == ([content] if was_damaged else [])
        if not was_damaged:
            assert joined(list(recorded())).startswith(whole)
        ledger = Ledger(folder.ledger)
        for point in ledger.points.values():
            assert list(point.rows) == list(range(len(point.rows)))
            assert repr(point.rows) == repr({t: row(point.index, t) for t in point.rows})
            assert point.status in (None, "failed" if point.index == 1 else "done")
            assert point.status is None or point.last == (1 if point.index == 1 else LAST)
        record(ledger)
        ledger.close()
        table = recorded_table(folder).drop(columns="sweep")
        assert not mend(folder, CONFIG)
        folder.ledger.write_bytes(joined(list(recorded())))
        expected = recorded_table(folder).drop(columns="sweep")
        assert table.sort_values(list(table.columns[:8])).to_csv(index=False) == (
            expected.sort_values(list(table.columns[:8])).to_csv(index=False)
        )


Change = Callable[[list[bytes]], object]

DAMAGES: dict[str, tuple[Change, str]] = {
    "garbage": (lambda lines: lines.insert(5, b"\xff\x00what"), "line 6, is no JSON"),
    "empty": (lambda lines: lines.insert(5, b""), "line 6, is empty"),
    "nul": (lambda lines: lines.insert(5, b"\0" * 40), "line 6, is no JSON"),
    "point again": (lambda lines: lines.insert(9, lines[0]), "line 10, begins point 0"),
    "missing": (lambda lines: lines.pop(6), "line 9, is iteration 2 of point 0"),
    "last missing": (lambda lines: lines.pop(-2), "ends point 2 after iteration 2 of 3"),
    "kind": (
        lambda lines: lines.insert(3, b'{"event": "pause", "point": 0}'),
        "line 4, is of an event 'pause' that this version does not know",
    ),
    "number": (
        lambda lines: lines.insert(3, b'{"event": "reopen", "point": "0"}'),
        "line 4, has a point that it cannot have",
    ),
    "field": (
        lambda lines: lines.insert(3, b'{"event": "reopen", "point": 0, "why": ""}'),
        "line 4, has a field 'why' that this version does not know",
    ),
    "short": (
        lambda lines: lines.insert(3, b'{"event": "reopen"}'),
        "line 4, has no point",
    ),
    "list": (lambda lines: lines.insert(3, b"[1, 2]"), "line 4, is no event"),
    "deep": (lambda lines: lines.insert(3, b"[" * 100_000), "line 4, is no JSON"),
    "digits": (
        lambda lines: lines.insert(3, b'{"event": "reopen", "point": ' + b"9" * 5000 + b"}"),
        "line 4, is no JSON",
    ),
    "unknown point": (
        lambda lines: lines.insert(3, b'{"event": "reopen", "point": 9}'),
        "line 4, is of point 9, which has not begun",
    ),
    "lengths": (
        lambda lines: lines.__setitem__(3, with_metrics(lines[3], {"a": [1.0, 2.0], "b": [1.0]})),
        "line 4, has a metrics that it cannot have",
    ),
    "another length": (
        lambda lines: lines.__setitem__(6, with_metrics(lines[6], {"reward_mean": [1.0]})),
        "line 7, has 1 values a metric, unlike the lines before it",
    ),
    "word": (
        lambda lines: lines.__setitem__(3, with_metrics(lines[3], {"a": ["one", "two"]})),
        "line 4, has a metrics that it cannot have",
    ),
    "after the end": (
        lambda lines: lines.append(lines[6]),
        "is of point 0 after its end",
    ),
    "ends twice": (lambda lines: lines.append(lines[-1]), "which has ended before"),
    "not lost": (
        lambda lines: lines.append(b'{"event": "reopen", "point": 1}'),
        "reopens point 1, which is not lost",
    ),
    "still runs": (
        lambda lines: lines.insert(6, b'{"event": "grow", "point": 1, "seeds": [9]}'),
        "adds seeds to point 1, which has not ended",
    ),
}


def with_metrics(line: bytes, metrics: dict) -> bytes:
    return json.dumps(json.loads(line) | {"metrics": metrics}).encode()


@pytest.mark.parametrize(("change", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_damage_of_a_ledger_without_checksums_is_named_and_mended(tmp_path, change, reason):
    lines = list(recorded(checked=False))
    change(lines)
    folder = sweep(tmp_path, joined(lines))
    with pytest.raises(DamagedError) as raised:
        read_ledger(folder, CONFIG)
    assert reason in str(raised.value) and str(folder.ledger) in str(raised.value)
    assert f"luceloop resume {folder.id}" in str(raised.value)
    assert mend(folder, CONFIG)
    ledger = Ledger(folder.ledger)
    for point in ledger.points.values():
        assert repr(point.rows) == repr({t: row(point.index, t) for t in range(len(point.rows))})
    record(ledger)
    rows = {i: repr(point.rows) for i, point in read_ledger(folder, CONFIG).points.items()}
    assert rows == {
        i: repr({t: row(i, t) for t in range(2 if i == 1 else LAST + 1)}) for i in range(3)
    }


def test_points_beside_the_damage_stay_whole_where_they_depend_on_nothing(tmp_path):
    lines = list(recorded())
    at = next(i for i, line in enumerate(lines) if b'"point": 0, "iteration": 2' in line)
    lines[at] = b"garbage"
    folder = sweep(tmp_path, joined(lines))
    assert mend(folder, CONFIG)
    points = Ledger(folder.ledger, writable=False).points
    assert [point.last for point in points.values()] == [1, 1, LAST]
    assert [point.status for point in points.values()] == [None, None, "done"]


def test_where_points_learn_from_others_only_what_came_before_the_damage_stays(tmp_path):
    lines = list(recorded())
    lines[6] = b"garbage"
    folder = sweep(tmp_path, joined(lines), LEARNING)
    assert mend(folder, LEARNING)
    assert len(Ledger(folder.ledger, writable=False).events) == 6


@pytest.mark.parametrize("config", [CONFIG, LEARNING], ids=["grid", "tpe"])
def test_a_line_written_twice_or_moved_or_inserted_costs_nothing(tmp_path, config):
    lines = list(recorded())
    lines[4], lines[7] = lines[7], lines[4]
    lines.insert(2, lines[9])
    lines.insert(6, b"garbage")
    lines.insert(0, b"")
    folder = sweep(tmp_path, joined(lines), config)
    assert mend(folder, config)
    assert folder.ledger.read_bytes() == joined(list(recorded()))


def test_rows_that_are_computed_again_stand_in_mlflow_once(output: Path):
    """Their times are others, and MLflow deletes no row of a run."""
    folder = damaged_after_delivery(output)
    assert mend(folder, CONFIG)
    assert_each_row_once_after_the_rest(folder)


def test_wherever_mending_is_cut_short_mlflow_has_each_row_once(output: Path, monkeypatch):
    """The process is killed whenever a file of the folder has just been replaced."""
    for cut in range(3):
        folder = damaged_after_delivery(output)
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", killed_after(cut))
            with pytest.raises(KilledError):
                mend(folder, CONFIG)
        mend(folder, CONFIG)
        assert_each_row_once_after_the_rest(folder)


def killed_after(cut: int) -> Callable[[Path, Path], None]:
    replaced = itertools.count()

    def replace(source: Path, target: Path) -> None:
        os.rename(source, target)
        if next(replaced) == cut:
            raise KilledError

    return replace


class KilledError(BaseException):
    """Ends a process as a signal would."""


def test_a_ledger_is_not_mended_where_that_cannot_be_noted(output: Path, monkeypatch):
    folder = damaged_after_delivery(output)
    before = folder.ledger.read_bytes()
    (folder.path / "delivered").unlink()
    (folder.path / "delivered").mkdir()
    with pytest.raises(OSError):
        mend(folder, CONFIG)
    assert folder.ledger.read_bytes() == before


def test_a_machine_that_goes_on_after_another_has_mended_clears_mlflow(
    output: Path, tmp_path: Path, monkeypatch
):
    """The first one is lost before MLflow has forgotten the rows that were computed before."""
    folder = damaged_after_delivery(output, storage=tmp_path / "storage")
    with mirrored(folder, lambda: mend(folder, CONFIG)):
        pass
    record_of = tmp_path / "storage" / "sweeps" / folder.id / "record"
    assert (record_of / "anew").exists()
    other = Output(tmp_path / "other", tmp_path / "storage")
    fetched = find_or_fetch(other, folder.id)
    with mirrored(fetched):
        pass
    monkeypatch.setenv("MLFLOW_TRACKING_URI", Output(output).tracking_uri)
    assert sync(fetched, other).is_whole
    assert not (record_of / "anew").exists()
    assert_each_row_once_after_the_rest(fetched)
    with mirrored(fetched) as mirror:
        assert mirror is not None
        mirror.copy()
    with mirrored(folder):  # and the first one comes back
        pass
    assert_each_row_once_after_the_rest(folder)


def damaged_after_delivery(output: Path, storage: Path | None = None) -> SweepFolder:
    """A sweep whose ledger has lost a line since MLflow was given all of it."""
    lines = list(recorded())
    folder = sweep(output, joined(lines))
    if storage is not None:
        folder.keep_storage(storage)
        with mirrored(folder) as mirror:
            assert mirror is not None
            mirror.copy()
    assert sync(folder, Output(output)).is_whole
    del lines[6]
    folder.ledger.write_bytes(joined(lines))
    if storage is not None:
        [piece] = storage.rglob("*.jsonl")
        piece.write_bytes(joined(lines))
    return folder


def assert_each_row_once_after_the_rest(folder: SweepFolder) -> None:
    """Compute what a ledger lacks, deliver it, and look at what the store has."""
    ledger = Ledger(folder.ledger)
    record(ledger)
    ledger.close()
    output = Output(folder.path.parents[1])
    assert sync(folder, output).is_whole
    client = MlflowClient(output.tracking_uri)
    [experiment] = client.search_experiments(filter_string=f"name LIKE '%/{folder.id}'")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1 + 3 + 6
    for run in runs:
        for metric in run.data.metrics:
            steps = [each.step for each in client.get_metric_history(run.info.run_id, metric)]
            assert sorted(steps) == sorted(set(steps))


def test_a_damaged_copy_and_a_sound_ledger_are_told_apart(tmp_path):
    content = joined(list(recorded()))
    folder = sweep(tmp_path, content)
    folder.keep_storage(tmp_path / "storage")
    with mirrored(folder) as mirror:
        assert mirror is not None
        mirror.copy()
    damaged = content[:300] + b"#" + content[301:]
    folder.ledger.write_bytes(damaged)
    with mirrored(folder):  # the copy is sound
        assert folder.ledger.read_bytes() == content
    assert [file.read_bytes() for file in folder.path.glob("ledger.damaged-*")] == [damaged]
    [piece] = (tmp_path / "storage").rglob("*.jsonl")
    piece.write_bytes(damaged)
    with mirrored(folder):  # now it is not
        assert [p.read_bytes() for p in (tmp_path / "storage").rglob("*.jsonl")] == [content]
    piece.write_bytes(damaged)
    folder.ledger.write_bytes(damaged)
    with mirrored(folder, lambda: mend(folder, CONFIG)):  # both
        kept = folder.ledger.read_bytes()
        assert [p.read_bytes() for p in (tmp_path / "storage").rglob("*.jsonl")] == [kept]
    assert len(Ledger(folder.ledger, writable=False).events) > 5


@pytest.mark.parametrize("damage", ["garbage", "lost lines", "a point twice"])
def test_resume_comes_to_the_undisturbed_numbers(local_ray, tiny, output, cli: Cli, damage):
    shutil.copytree(tiny / "sweeps", output / "sweeps")
    folder = Output(output).find("latest")
    lines = folder.ledger.read_bytes().splitlines()
    kinds = [Ledger(folder.ledger, writable=False).events]
    at = [i for i, event in enumerate(kinds[0]) if isinstance(event, IterationDone)]
    if damage == "garbage":
        lines[at[5]] = b"\0\0\0"
    elif damage == "lost lines":
        del lines[at[-1]], lines[at[7]]
    else:
        lines.insert(at[9], lines[0])
    folder.ledger.write_bytes(joined(lines))
    where = ["--output", str(output)]
    refused = cli("export", "latest", "-o", str(output / "table.csv"), *where)
    assert refused.code == 2 and refused.err.count("\n") == 1 and str(folder.ledger) in refused.err
    listed = cli("list", *where)
    assert listed.code == 0 and str(folder.ledger) in listed.err
    assert cli("resume", "latest", QUICK, *where).code == 0
    assert curves(output).equals(curves(tiny))
    assert (folder.path / "ledger.damaged-1.jsonl").read_bytes() == joined(lines)
    assert cli("export", "latest", "-o", str(output / "table.csv"), *where).code == 0
