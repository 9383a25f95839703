"""A whole sweep tells a real server of itself, and its address is nowhere but in its own file."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from luceloop.sweeps.record.folders import Output
from tests.support import ALONE, QUICK, Cli
from tests.sweeps.notify.listener import TOKEN, Listener

KEYS = {
    "event", "sweep", "name", "status", "points", "ended", "failed", "seconds", "text", "point",
    "claim", "verdict", "reason", "claims", "host",
}  # fmt: skip
LATE = """
def late(x):
    if len(x) == 240:  # a pool of both seeds, not real samples
        raise KeyError("late")
    return x[:, 0]
"""
CONFIG = {
    "data": {"name": "eight_gaussians", "size": 60},
    "learner": {"name": "empirical"},
    "iterations": 2,
    "seeds": 2,
    "lam": 1,
    "search": {"reward.name": {"grid": ["mode_distance", "late_reward:late"]}},
    "claims": [
        {"says": "Nobody gains a million.", "metric": "reward_mean", "below": 1e6},
        {"says": "All do.", "point": {"reward.name": "mode_distance"}, "above": 1e6},
    ],
}


def files_with(token: str, *folders: Path) -> list[Path]:
    """Files whose name or content has a text."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if token in path.name or token.encode() in path.read_bytes()]


@pytest.mark.parametrize("place", ["key", "option", "variable"])
def test_a_sweep_tells_of_a_failed_point_of_claims_and_of_its_end(
    place, local_ray, cli: Cli, output: Path, mine: Path, listener: Listener, monkeypatch, tmp_path
):
    (mine / "late_reward.py").write_text(LATE)
    plain = CONFIG | ({"notify": listener.address} if place == "key" else {})
    (mine / "told.yaml").write_text(yaml.safe_dump(plain))
    subprocess.run(["git", "init", "-q"], cwd=mine, check=True)
    subprocess.run(["git", "add", "-A"], cwd=mine, check=True)
    author = ["-c", "user.name=x", "-c", "user.email=x@y"]
    subprocess.run(["git", *author, "commit", "-qm", "x"], cwd=mine, check=True)
    (mine / "told.yaml").write_text(yaml.safe_dump(plain | {"description": "Changed."}))
    option = ["--notify", listener.address] if place == "option" else []
    if place == "variable":
        monkeypatch.setenv("LUCELOOP_NOTIFY", listener.address)
    storage = tmp_path / "storage"
    where = ["--output", str(output), "--storage", str(storage)]
    ran = cli("run", "told.yaml", ALONE, QUICK, *option, *where)
    assert ran.code == 1, ran.out + ran.err

    folder = Output(output).find("latest")
    assert all(each.keys() == KEYS for each in listener.posted)
    assert {(each["sweep"], each["name"]) for each in listener.posted} == {(folder.id, "told")}
    [failed] = listener.of("point_failed")
    assert "late_reward:late" in failed["point"] and "KeyError" in failed["reason"]
    [decided] = listener.of("claim")
    assert (decided["claim"], decided["verdict"]) == ("All do.", "contradicted")
    assert listener.posted[-1]["event"] == "end"
    [end] = listener.of("end")
    assert (end["status"], end["points"], end["ended"], end["failed"]) == ("failed", 2, 2, 1)
    assert end["claims"] == {"undecided": 1, "contradicted": 1}
    assert end["text"].startswith(f"told ({folder.id}): ended with failed points after ")

    assert TOKEN not in ran.out + ran.err + json.dumps(listener.posted)
    [own] = files_with(TOKEN, output, storage)
    assert own == folder.path / "notify" and stat.S_IMODE(own.stat().st_mode) == 0o600
    assert (folder.provenance_files / "begun" / "diff.patch").exists()
    for command in ("show", "list", "compare"):
        shown = cli(command, *([] if command == "list" else ["latest"]), "--json", *where[:2])
        assert TOKEN not in shown.out + shown.err
    resumed = cli("resume", "latest", QUICK, *where[:2])  # there is nothing left to run
    assert resumed.code == 1
    assert [each["event"] for each in listener.posted].count("end") == 2
    assert len(listener.of("claim")) == len(listener.of("point_failed")) == 1
