"""Who may read what is written: whoever the umask lets, but of secrets their owner alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from luceloop.core.io.files import write_atomically
from luceloop.core.io.places import fetch_files, send_files, write_whole
from luceloop.core.io.saved import save_atomically
from luceloop.sweeps.record.folders import SweepFolder


@pytest.fixture(params=[0o022, 0o002, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o777


def test_files_get_what_the_umask_gives(umask: int, tmp_path: Path):
    names = ["text", "tensors.pt", "sent", "fetched", "whole"]
    text, tensors, sent, fetched, whole = (tmp_path / "new" / name for name in names)
    text.parent.mkdir()
    write_atomically("a text", text)
    write_atomically("another", text)
    save_atomically({"weights": torch.zeros(3)}, tensors)  # as trained p_0 are
    send_files({text: sent})
    fetch_files({sent: fetched})
    write_whole(b"bytes", whole)
    assert {mode(file) for file in text.parent.iterdir()} == {0o666 & ~umask}
    assert sorted(file.name for file in text.parent.iterdir()) == sorted(names)
    assert fetched.read_text() == "another"


def test_secrets_are_their_owners_alone(umask: int, tmp_path: Path):
    folder = SweepFolder(tmp_path)
    folder.keep_address("https://me:secret@somewhere/hook")
    assert [mode(file) for file in tmp_path.iterdir()] == [0o600 & ~umask]
    write_atomically("a secret", tmp_path / "private", private=True)
    assert mode(tmp_path / "private") == 0o600 & ~umask
