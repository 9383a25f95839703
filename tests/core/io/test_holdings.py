"""Files by name and digest: what has changed is named, whoever looks and wherever they lie."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from luceloop.core.errors import ChangedFileError
from luceloop.core.io import plugins
from luceloop.core.io.fingerprints import content_digest
from luceloop.core.io.holdings import Guard, changes, digests, in_words, name_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder in use, with a module and a file of data."""
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setattr(plugins, "_folder", None)
    users = tmp_path / "users"
    users.mkdir()
    (users / "mine.py").write_text("value = 1\n")
    (users / "mine.bin").write_bytes(b"x" * 3_000_000)
    plugins.use_folder(users)
    yield users


def test_changes_are_what_differs_and_say_how():
    recorded = {"same": "1", "edited": "2", "gone": "3"}
    found = changes(recorded, {"same": "1", "edited": "9", "gone": None, "more": "4", "no": None})
    assert [(c.file, c.kind, c.was, c.now) for c in found] == [
        ("edited", "changed", "2", "9"),
        ("gone", "missing", "3", None),
        ("more", "new", None, "4"),
    ]
    assert in_words(found) == "edited has changed, gone is missing, more was not there"


def test_a_folder_that_moved_has_the_same_names_and_digests(folder: Path, tmp_path):
    names = ["mine.py", name_of("./mine.bin"), name_of("../users/mine.bin")]
    assert names[1] == "mine.bin"
    before = digests(names)
    assert None not in before.values() and before[names[1]] == before[names[2]]
    plugins.use_folder(folder.rename(tmp_path / "moved"))
    assert digests(names) == before | {names[2]: None}


def test_an_absolute_path_is_the_same_file_wherever_a_command_is_run(folder: Path, tmp_path):
    names = [name_of(folder / "mine.bin"), name_of("s3://bucket/mine.bin")]
    assert names == [str(folder / "mine.bin"), "s3://bucket/mine.bin"]
    before = digests(names[:1])
    (tmp_path / "other").mkdir()
    plugins.use_folder(tmp_path / "other")
    assert digests(names[:1]) == before and None not in before.values()


def test_a_large_file_is_read_again_once_its_time_has_changed(folder: Path):
    before = digests(["mine.bin"])
    status = os.stat(folder / "mine.bin")
    (folder / "mine.bin").write_bytes(b"y" * 3_000_000)
    os.utime(folder / "mine.bin", ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    assert digests(["mine.bin"]) != before


def test_a_folders_digest_is_of_its_files_wherever_and_whenever_written(tmp_path):
    for name, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / name / "in").mkdir(parents=True)
        (tmp_path / name / "in" / "file").write_text(text)
        os.utime(tmp_path / name / "in" / "file", (0, len(name)))
    (tmp_path / "b" / ".hidden").write_text("of a file manager")
    a, b, c = (content_digest(tmp_path / name) for name in "abc")
    assert a == b != c
    (tmp_path / "b" / "in" / "file").rename(tmp_path / "b" / "in" / "other")
    assert content_digest(tmp_path / "b") != a


def test_of_a_folder_that_is_too_large_to_read_names_and_sizes_count(tmp_path, monkeypatch):
    monkeypatch.setattr("luceloop.core.io.fingerprints.READ_AT_MOST", 2)
    file = tmp_path / "file"
    file.write_text("one")
    before = content_digest(tmp_path)
    file.write_text("two")
    assert content_digest(tmp_path) == before
    file.write_text("more")
    assert content_digest(tmp_path) != before


def recorded(*names: str) -> dict[str, str]:
    return {name: digest for name, digest in digests(names).items() if digest is not None}


@pytest.mark.parametrize("file", ["mine.py", "mine.bin"])
@pytest.mark.parametrize("missing", [True, False])
def test_a_process_begins_with_nothing_but_what_is_on_record(file, missing, folder: Path):
    needed = recorded("mine.py", "mine.bin")
    Guard().check(needed)
    if missing:
        (folder / file).unlink()
    else:
        (folder / file).write_text("value = 22\n")
    words = "is missing" if missing else "has changed"
    with pytest.raises(ChangedFileError, match=f"^{file} {words} on node .*; restore it"):
        Guard().check(needed)
    others = {name: digest for name, digest in needed.items() if name != file}
    Guard().check(others)  # a file that a point does not need may be anything


def test_a_process_that_holds_the_code_goes_on_but_reads_data_anew(folder: Path):
    guard, needed = Guard(), recorded("mine.py", "mine.bin")
    guard.check(needed, ["mine.py"])
    (folder / "mine.py").write_text("value = 22\n")
    guard.check(needed, ["mine.py"])
    (folder / "mine.bin").write_bytes(b"less")
    with pytest.raises(ChangedFileError, match=r"^mine\.bin has changed"):
        guard.check(needed)


def test_a_module_that_another_node_finds_besides_is_refused(folder: Path):
    needed = recorded("mine.py")
    (folder / "more.py").write_text("value = 1\n")
    with pytest.raises(ChangedFileError, match=r"^more\.py was not there"):
        Guard().check(needed, ["mine.py", "more.py"])


def test_a_refusal_reaches_another_process_in_one_line():
    error = pickle.loads(pickle.dumps(ChangedFileError("mine.py has changed", "restore it")))
    assert str(error) == "mine.py has changed; restore it"
