"""A disk that becomes full ends a sweep in one line; with room again it ends as if undisturbed."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from luceloop.core.io.files import write_atomically
from luceloop.core.io.saved import save_atomically
from luceloop.sweeps.record.folders import Output
from tests.support import ALONE, QUICK, TINY, TINY_ROWS, curves, recorded
from tests.sweeps.notify.listener import listening

pytestmark = pytest.mark.processes


class Disk:
    """A file system of its own, in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Take all the room that is left."""
        with (self.path / "filler").open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 12))
            except OSError:
                return

    def free(self) -> None:
        """Give it back."""
        (self.path / "filler").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(path)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.slow
def test_a_sweep_on_a_full_disk_ends_in_a_line_and_resumes_to_the_same_table(
    tiny, disk, cli, empty_store
):
    shutil.copy(empty_store, disk.path / "mlflow.db")
    where = ["--output", str(disk.path)]

    def fill() -> None:
        while recorded(disk.path) < 7:
            time.sleep(0.01)
        disk.fill()

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    with listening() as listener:
        ran = cli(*TINY, ALONE, *where, "--notify", listener.address)
    thread.join(10)
    [told] = listener.of("end")
    assert told["status"] == "error" and "ENOSPC" in told["reason"]
    assert ran.code == 1, ran.out + ran.err
    assert "Traceback" not in ran.out + ran.err
    [line] = [line for line in ran.err.splitlines() if "ENOSPC" in line]
    folder = Output(disk.path).find("latest")
    assert line.startswith("No space left on device (ENOSPC) under ")
    assert line.endswith(f"luceloop resume {folder.id}")
    done = recorded(disk.path)
    assert 7 <= done < TINY_ROWS
    ran = cli("resume", "latest", QUICK, *where)  # still full
    assert ran.code == 1 and "ENOSPC" in ran.err and "Traceback" not in ran.out + ran.err
    disk.free()
    assert cli("resume", "latest", QUICK, *where).code == 0
    pd.testing.assert_frame_equal(curves(disk.path), curves(tiny), check_exact=True)


def test_a_sweep_that_has_no_room_to_begin_leaves_nothing_behind(disk, cli):
    where = ["--output", str(disk.path)]
    disk.fill()
    ran = cli(*TINY, ALONE, *where)
    assert ran.code == 1 and len(ran.err.splitlines()) == 1 and "ENOSPC" in ran.err
    assert cli("list", *where).out.startswith("no sweeps under")


@pytest.mark.parametrize("size", [1 << 7, 1 << 12, 1 << 16])
def test_no_room_for_a_file_leaves_the_one_before(size, disk):
    file = disk.path / "file"
    write_atomically("before", file)
    disk.fill()
    with pytest.raises(OSError, match="No space left"):
        write_atomically(bytes(size), file)
    with pytest.raises(OSError, match="No space left"):  # of torch's, which has errors of its own
        save_atomically({"x": torch.ones(size), "y": torch.ones(3)}, file)
    assert file.read_text() == "before"
    assert sorted(os.listdir(disk.path)) == ["file", "filler"]
