"""Same code, same numbers: a sweep goes on with the files it began with, or says what changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from luceloop.core.io import plugins
from luceloop.core.io.fingerprints import file_digest
from luceloop.core.loop.initial import FORMAT
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.provenance import read_provenance
from luceloop.sweeps.run.settle import settle
from tests.support import ALONE, QUICK, Cli, curves, run_main

REWARD = "from helper_of_mine import sign\n\n\ndef first(x):\n    return sign * x[:, 0]\n"
HELPER = "sign = 1.0\n"
SWEEP = ["run", "mog", "learner={name: empirical}", "data={name: npz, path: mine.npz}", "seeds=[1]",
         "reward.name=my_rewards:first", "iterations=1", "search.beta.grid=[3]",
         "search.lam.grid=[1]", ALONE, QUICK]  # fmt: skip


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A git repository with a reward, what it imports, and data; the current folder."""
    folder = tmp_path_factory.mktemp("users")
    before = set(sys.modules)
    (folder / "my_rewards.py").write_text(REWARD)
    (folder / "helper_of_mine.py").write_text("sign = 2.0\n")
    np.savez(folder / "mine.npz", x=np.random.default_rng(0).normal(size=(60, 2)))
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "begun"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    (folder / "helper_of_mine.py").write_text(HELPER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(plugins, "_folder", None)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        yield folder
    for name in set(sys.modules) - before:
        if name in ("my_rewards", "helper_of_mine"):
            del sys.modules[name]


@pytest.fixture(scope="module")
def ended(local_ray, users: Path, tmp_path_factory, empty_store: Path) -> Path:
    """The output folder of a sweep that ran on the user's files; its storage is another place."""
    output = tmp_path_factory.mktemp("ended")
    shutil.copy(empty_store, output / "mlflow.db")
    storage = ["--storage", str(output / "shared")]
    assert run_main(*SWEEP, "--output", str(output), *storage) == 0
    return output


def folder_of(output: Path) -> SweepFolder:
    return Output(output).find("latest")


@contextmanager
def edited(file: Path, content: bytes | None) -> Iterator[None]:
    """Another content of a file, or none; afterwards the old one."""
    before = file.read_bytes()
    file.unlink() if content is None else file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(before)


def test_what_the_numbers_come_from_is_on_record(ended: Path, users: Path):
    found = read_provenance(folder_of(ended))
    assert found is not None and found.accepted == []
    names = ["helper_of_mine.py", str(users / "mine.npz"), "my_rewards.py"]
    assert found.files == {name: file_digest(users / name) for name in names}
    head = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(head, cwd=users, capture_output=True, text=True, check=True).stdout
    assert found.git == {"commit": commit.strip(), "dirty": True}
    assert found.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"luceloop", "torch", "ray"} <= found.versions.keys()


def test_mlflow_has_the_code_and_what_git_lacks_of_it(ended: Path, users: Path, tmp_path):
    client = MlflowClient(f"sqlite:///{ended / 'mlflow.db'}")
    [experiment] = [e for e in client.search_experiments() if "/" in e.name]
    [run] = client.search_runs([experiment.experiment_id], "tags.`luceloop.kind` = 'sweep'")
    there = Path(client.download_artifacts(run.info.run_id, "provenance", str(tmp_path)))
    assert json.loads((there / "provenance.json").read_text())["files"]
    for name in ("my_rewards.py", "helper_of_mine.py"):
        copy = there / "begun" / "sources" / name
        assert copy.read_bytes() == (users / name).read_bytes()
    assert not (there / "begun" / "sources" / "mine.npz").exists()  # data is named, not copied
    # The commit and the diff make the user's folder again.
    again = tmp_path / "again"
    subprocess.run(["git", "clone", "-q", users, again], check=True)
    subprocess.run(["git", "apply", there / "begun" / "diff.patch"], cwd=again, check=True)
    assert (again / "helper_of_mine.py").read_text() == HELPER


EDITS: dict[str, bytes | None] = {
    "my_rewards.py": REWARD.replace("sign *", "-sign *").encode(),
    "helper_of_mine.py": b"sign = -1.0\n",
    "mine.npz": None,
}


@pytest.mark.parametrize("file", EDITS)
def test_resume_refuses_a_changed_file_and_names_it(file, ended: Path, users: Path, cli: Cli):
    where = ["--output", str(ended)]
    with edited(users / file, EDITS[file]):
        refused = cli("resume", "latest", QUICK, *where)
        shown = cli("show", "latest", *where)
    words = "is missing" if EDITS[file] is None else "has changed"
    expected = f"{file} {words} since sweep {folder_of(ended).id} began; "
    assert refused.code == 2 and expected in refused.err and refused.err.count("\n") == 1
    assert refused.err.endswith("restore it, or go on with --accept-changes\n")
    assert shown.code == 0, shown.err
    assert cli("resume", "latest", QUICK, *where).code == 0


def test_data_that_was_written_anew_is_another_file(ended: Path, users: Path, cli: Cli):
    with edited(users / "mine.npz", b""):
        np.savez(users / "mine.npz", x=np.random.default_rng(1).normal(size=(60, 2)))
        refused = cli("resume", "latest", QUICK, "--output", str(ended))
    assert refused.code == 2 and refused.err.startswith(f"{users / 'mine.npz'} has changed")


def test_data_is_the_same_file_wherever_resume_is_run_and_code_is_missed(
    ended: Path, cli: Cli, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("my_rewards", "helper_of_mine"):
        monkeypatch.delitem(sys.modules, name, raising=False)  # as in a new process
    refused = cli("resume", "latest", QUICK, "--output", str(ended))
    assert refused.code == 2 and "mine.npz" not in refused.err
    assert refused.err.startswith("helper_of_mine.py is missing, my_rewards.py is missing since ")
    assert "run this in the folder that holds it" in refused.err


def test_a_machine_that_goes_on_from_the_storage_is_held_to_the_record(
    ended: Path, users: Path, cli: Cli, tmp_path
):
    other, storage = tmp_path / "other", str(ended / "shared")
    identity = folder_of(ended).id
    resume = ["resume", identity, QUICK, "--output", str(other), "--storage", storage]
    with edited(users / "helper_of_mine.py", EDITS["helper_of_mine.py"]):
        refused = cli(*resume)
    assert refused.code == 2 and refused.err.startswith("helper_of_mine.py has changed")
    assert read_provenance(folder_of(other)) == read_provenance(folder_of(ended))
    copies = folder_of(other).provenance_files / "begun" / "sources"
    assert (copies / "helper_of_mine.py").read_text() == HELPER


@pytest.fixture
def copied(ended: Path, tmp_path: Path) -> Path:
    """An output folder with a copy of the sweep, which is its own storage."""
    output = tmp_path / "copied"
    shutil.copytree(ended, output)
    (folder_of(output).path / "storage.txt").unlink()
    return output


def test_accepted_changes_are_on_record_with_what_they_replaced(
    copied: Path, users: Path, cli: Cli
):
    folder, where = folder_of(copied), ["--output", str(copied)]
    before = read_provenance(folder)
    assert before is not None
    with edited(users / "helper_of_mine.py", EDITS["helper_of_mine.py"]):
        assert cli("resume", "latest", QUICK, "--accept-changes", *where).code == 0
        assert cli("resume", "latest", QUICK, *where).code == 0  # it is what is on record now
    after = read_provenance(folder)
    assert after is not None and after.git == before.git
    [accepted] = after.accepted
    [change] = accepted.changes
    assert (change.file, change.kind) == ("helper_of_mine.py", "changed")
    assert change.was == before.files["helper_of_mine.py"] != change.now
    assert after.files == {**before.files, "helper_of_mine.py": change.now}
    kept = {
        name: (folder.provenance_files / name / "sources" / "helper_of_mine.py").read_bytes()
        for name in ("begun", "accepted-1")
    }
    assert kept == {"begun": HELPER.encode(), "accepted-1": EDITS["helper_of_mine.py"]}
    assert cli("resume", "latest", QUICK, *where).err.startswith("helper_of_mine.py has changed")


def test_a_sweep_of_an_older_version_is_resumed_and_held_to_its_files_from_then_on(
    copied: Path, users: Path, cli: Cli
):
    folder, where = folder_of(copied), ["--output", str(copied)]
    folder.provenance.unlink()
    shutil.rmtree(folder.provenance_files)
    assert cli("resume", "latest", QUICK, *where).code == 0
    with edited(users / "my_rewards.py", EDITS["my_rewards.py"]):
        refused = cli("resume", "latest", QUICK, *where)
    assert refused.code == 2 and refused.err.startswith("my_rewards.py has changed")


def test_a_sweep_whose_numbers_would_change_goes_on_only_if_that_is_accepted(
    copied: Path, users: Path, cli: Cli
):
    folder, where = folder_of(copied), ["--output", str(copied)]
    older = json.loads(folder.provenance.read_text()) | {"format": FORMAT - 1}
    folder.provenance.write_text(json.dumps(older))
    *before, _ = folder.ledger.read_bytes().splitlines(keepends=True)
    folder.ledger.write_bytes(b"".join(before))  # as if it had not ended
    refused = cli("resume", "latest", QUICK, *where)
    assert (
        refused.code == 2 and "by an older version, whose numbers this one changes" in refused.err
    )
    assert cli("resume", "latest", QUICK, "--accept-changes", *where).code == 0
    found = read_provenance(folder)
    assert found is not None and found.format == FORMAT and len(found.accepted) == 1


@pytest.mark.slow
def test_a_process_that_finds_another_file_ends_lost_and_is_resumed_to_the_same_table(
    ended: Path, users: Path, cli: Cli, output: Path, monkeypatch
):
    """As on a node whose copy of the folder is another: the driver's own was the right one."""
    where = ["--output", str(output)]

    def then_edit(*arguments: Any, **options: Any) -> Any:
        found = settle(*arguments, **options)
        (users / "helper_of_mine.py").write_bytes(EDITS["helper_of_mine.py"] or b"")
        return found

    with edited(users / "helper_of_mine.py", HELPER.encode()):
        monkeypatch.setattr("luceloop.sweeps.run.driver.settle", then_edit)
        monkeypatch.setattr("luceloop.sweeps.run.trials.RETRIES", 0)
        lost = cli(*SWEEP, *where)
    assert lost.code == 1, lost.out + lost.err
    assert "lost: helper_of_mine.py has changed on node " in lost.out
    assert "restore it there, then resume the sweep" in lost.out
    monkeypatch.setattr("luceloop.sweeps.run.driver.settle", settle)
    resumed = cli("resume", "latest", QUICK, *where)
    assert resumed.code == 0, resumed.out + resumed.err
    pd.testing.assert_frame_equal(curves(output), curves(ended), check_exact=True)
