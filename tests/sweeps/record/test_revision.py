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


def test_files_that_look_like_secrets_are_named_and_nothing_of_them_is_kept(repository: Path):
    key = "-----BEGIN RSA PRIVATE KEY-----\n" + "c2FsdA\n" * 9 + "{}\n"
    files = {"credentials.json": "token {}\n", "my passwd.txt": "token {}\n", "server": key}
    for name, content in files.items():
        (repository / name).write_text(content.format("old-secret"))
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "they should not be here")
    (repository / "mine.py").write_text("value = 2\n")
    for name, content in files.items():
        (repository / name).write_text(content.format("new-secret"))
    (repository / "credentials.json").unlink()
    found = revision_of(repository)
    assert found is not None and "+value = 2" in found.diff
    assert "-secret" not in found.diff
    assert all(name in found.diff for name in files)
    git(repository, "checkout", "mine.py")
    found = revision_of(repository)
    assert found is not None and found.is_dirty


def test_of_a_folder_that_travels_alone_nothing_beside_it_is_kept(repository: Path):
    (repository.parent / "beside.py").write_text("value = 1\n")
    git(repository, "add", "../beside.py")
    (repository / "mine.py").write_text("value = 2\n")
    whole, alone = revision_of(repository), revision_of(repository, alone=True)
    assert whole is not None and "beside.py" in whole.diff
    assert alone is not None and "beside.py" not in alone.diff and "mine.py" in alone.diff


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
