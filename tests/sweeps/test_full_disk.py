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

from core.files import write_atomically
from sweeps.ledger import Ledger
from sweeps.output import Output
from tests.support import QUICK, Cli

SWEEP = ["run", "mog", "learner={name: empirical}", "data.size=100", "seeds=[1,2]", "iterations=12"]
SWEEP += ["search.beta.grid=[0,10]", "search.lam.grid=[1]", QUICK]


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


def table(cli: Cli, output: Path) -> pd.DataFrame:
    """The exported table without what may differ between sweeps."""
    file = output / "table.parquet"
    assert cli("export", "latest", "-o", str(file), "--output", str(output)).code == 0
    found = pd.read_parquet(file).drop(columns="sweep")
    return found[~found["metric"].str.startswith("seconds/")].reset_index(drop=True)


def recorded(output: Path) -> int:
    """Iterations on record."""
    folders = Output(output).sweeps()
    if not folders:
        return 0
    return sum(point.last + 1 for point in Ledger(folders[0].ledger, False).points.values())


@pytest.mark.slow
def test_a_sweep_on_a_full_disk_ends_in_a_line_and_resumes_to_the_same_table(
    local_ray, disk, cli, output, empty_store, monkeypatch
):
    assert cli(*SWEEP, "--output", str(output)).code == 0
    shutil.copy(empty_store, disk.path / "mlflow.db")
    where = ["--output", str(disk.path)]

    def fill() -> None:
        while recorded(disk.path) < 7:
            time.sleep(0.01)
        disk.fill()

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    ran = cli(*SWEEP, *where)
    thread.join(10)
    assert ran.code == 1, ran.out + ran.err
    assert "Traceback" not in ran.out + ran.err
    [line] = [line for line in ran.err.splitlines() if "ENOSPC" in line]
    folder = Output(disk.path).find("latest")
    assert line.startswith("No space left on device (ENOSPC) under ")
    assert line.endswith(f"luceloop resume {folder.id}")
    done = recorded(disk.path)
    assert 7 <= done < 26
    ran = cli("resume", "latest", *where)  # still full
    assert ran.code == 1 and "ENOSPC" in ran.err and "Traceback" not in ran.out + ran.err
    disk.free()
    assert cli("resume", "latest", *where).code == 0
    pd.testing.assert_frame_equal(table(cli, disk.path), table(cli, output), check_exact=True)


def test_a_sweep_that_has_no_room_to_begin_leaves_nothing_behind(disk, cli):
    where = ["--output", str(disk.path)]
    disk.fill()
    ran = cli(*SWEEP, *where)
    assert ran.code == 1 and len(ran.err.splitlines()) == 1 and "ENOSPC" in ran.err
    assert cli("list", *where).out.startswith("no sweeps under")


def test_no_room_for_a_file_leaves_the_one_before(disk):
    file = disk.path / "file"
    write_atomically("before", file)
    disk.fill()
    with pytest.raises(OSError, match="No space left"):
        write_atomically(bytes(1 << 16), file)
    assert file.read_text() == "before"
    assert sorted(os.listdir(disk.path)) == ["file", "filler"]
