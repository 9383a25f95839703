"""What git has of a folder: its commit, and what is not committed, up to a size."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from luceloop.sweeps.record import revision
from luceloop.sweeps.record.revision import revision_of


def git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *author, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder inside a repository with one commit."""
    git(tmp_path, "init", "-q")
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "mine.py").write_text("value = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "begun")
    return folder


def test_a_clean_folder_is_its_commit(repository: Path):
    (repository / "untracked.txt").write_text("output")
    found = revision_of(repository)
    assert found is not None and found.commit == git(repository, "rev-parse", "HEAD")
    assert not found.is_dirty and found.diff == ""


def test_what_is_staged_and_what_is_not_differ_from_the_commit(repository: Path):
    (repository / "mine.py").write_text("value = 2\n")
    (repository / "more.py").write_text("value = 3\n")
    git(repository, "add", "more.py")
    found = revision_of(repository)
    assert found is not None and found.is_dirty
    assert "+value = 2" in found.diff and "+value = 3" in found.diff


def test_a_long_diff_is_cut_off(repository: Path, monkeypatch):
    monkeypatch.setattr(revision, "MOST_BYTES", 1000)
    (repository / "mine.py").write_text("value = 2\n" * 100_000)
    found = revision_of(repository)
    assert found is not None and len(found.diff) < 1100 and found.diff.endswith("[cut off here]\n")


def test_without_a_repository_or_a_commit_there_is_no_revision(tmp_path: Path, monkeypatch):
    assert revision_of(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert revision_of(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision_of(tmp_path) is None
