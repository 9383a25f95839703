"""Notes, lists, and what is deleted: a sweep with all its traces, or what no result needs."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from luceloop.sweeps.record.folders import Output
from luceloop.sweeps.record.holding import held
from luceloop.sweeps.run.summary import in_words
from tests.support import Cli, Finished, curves


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the finished sweep's output folder."""
    return Path(shutil.copytree(finished.output, tmp_path / "copied"))


def test_list_says_when_how_long_how_large_and_which_point_is_best(copied: Path, cli: Cli):
    where = ["--output", str(copied)]
    cli("note", "latest", "kept for the paper", "--tag", "figure-2", *where)
    [listed] = json.loads(cli("list", "--json", *where).out)
    folder = Output(copied).find("latest")
    assert (listed["id"], listed["points"], listed["seeds"]) == (folder.id, 4, 3)
    assert listed["state"] == "done" and listed["ended"] == 4 and listed["failed"] == 0
    assert listed["seconds"] > 0 and listed["begun"][:4] == folder.id[:4]
    assert listed["size"] == sum(f.stat().st_size for f in folder.path.rglob("*") if f.is_file())
    table = curves(copied)
    last = table[(table["metric"] == "reward_mean.mean") & (table["iteration"] == 3)]
    best = last.sort_values("value").iloc[-1]
    assert listed["best"]["value"] == pytest.approx(best["value"])
    assert f"β={best['beta']:g}" in listed["best"]["point"]
    assert (listed["note"], listed["tags"]) == ("kept for the paper", ["figure-2"])
    shown = cli("list", *where).out
    assert "figure-2" in shown and "β=10" in shown


def test_show_as_json_has_every_point_and_its_statistics(copied: Path, cli: Cli):
    shown = json.loads(cli("show", "latest", "--json", "--output", str(copied)).out)
    assert [point["status"] for point in shown["points"]] == ["done"] * 4
    table = curves(copied)
    for point in shown["points"]:
        found = table[
            (table["point"] == point["point"])
            & (table["iteration"] == 3)
            & (table["metric"] == "reward_mean.ci_low")
        ]
        assert point["metrics"]["reward_mean.ci_low"] == pytest.approx(found["value"].item())


def test_a_note_is_replaced_and_printed(copied: Path, cli: Cli):
    where = ["--output", str(copied)]
    assert "no note" in cli("note", "latest", *where).out
    cli("note", "latest", "first", "--tag", "a", "--tag", "b", *where)
    cli("note", "latest", "second [/a]", *where)
    assert cli("list", *where).code == 0  # brackets are no markup
    assert cli("note", "latest", *where).out.splitlines() == ["second [/a]", "tags: a, b"]


def test_validate_as_json(cli: Cli):
    found = json.loads(cli("validate", "mog", "search.beta.grid=[0,1,10]", "--json").out)
    assert found["points"] == 6 and "β" in found["description"] and found["remarks"] == []


def test_a_sweep_that_cannot_be_read_hides_no_other(copied: Path, cli: Cli):
    broken = copied / "sweeps" / "20250101-000000000-0000"
    broken.mkdir()
    (broken / "config.yaml").write_text("no_such_key: 1\n")
    ran = cli("list", "--json", "--output", str(copied))
    assert ran.code == 0 and len(json.loads(ran.out)) == 1
    assert ran.err.startswith(f"{broken.name} cannot be read: ") and ran.err.count("\n") == 1
    (broken / "config.yaml").write_text("{")
    ran = cli("list", "--json", "--output", str(copied))
    assert "is not YAML" in ran.err and len(json.loads(ran.out)) == 1
    assert cli("show", "mog", "--output", str(copied)).code == 0


def test_rm_asks_and_deletes_a_sweep_with_its_runs(copied: Path, cli: Cli, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    where, folder = ["--output", str(copied)], Output(copied).find("latest")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    refused = cli("rm", "latest", *where)
    assert refused.code == 130 and folder.path.exists()
    with held(folder):
        busy = cli("rm", "latest", "--yes", *where)
    assert busy.code == 2 and "another process" in busy.err and folder.path.exists()
    assert cli("rm", "latest", "--yes", *where).code == 0
    assert not folder.path.exists() and not (copied / "artifacts" / folder.id).exists()
    client = MlflowClient(Output(copied).tracking_uri)
    assert [e.name for e in client.search_experiments() if folder.id in e.name] == []
    assert cli("list", *where).out.startswith("no sweeps")


def test_gc_deletes_what_no_result_needs(copied: Path, cli: Cli, monkeypatch):
    where, before = ["--output", str(copied)], curves(copied)
    folder = Output(copied).find("latest")
    with held(folder):
        assert cli("gc", "--yes", *where).out.startswith("nothing to delete")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    asked = cli("gc", *where)
    assert asked.code == 130 and "begin anew" in asked.out and folder.states.exists()
    assert cli("gc", "states", "--yes", *where).code == 0
    assert not folder.states.exists() and (copied / "cache").exists()
    assert cli("gc", "--yes", *where).code == 0
    assert not (copied / "cache").exists()
    assert curves(copied).equals(before)
    assert cli("gc", "--yes", *where).out.startswith("nothing to delete")


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456_789, "123.5 MB"), (2e15, "2000.0 TB")],
)
def test_sizes_are_said_as_people_say_them(size, words):
    assert in_words(int(size)) == words
