"""The wheel in a fresh environment, among files of a user's own that bear our names.

The environment has Luceloop from the wheel alone; what Luceloop needs it takes from the environment
of the tests, by a path that does not lead to the checkout.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from tests.support import QUICK, SMALL
from tests.sweeps.cluster.nodes import TOKEN, Nodes

pytestmark = [pytest.mark.slow, pytest.mark.processes]

ROOT = Path(__file__).parents[3]
UV = Path(sys.executable).with_name("uv")
BROKEN = "raise RuntimeError('this is the file of the user, not ours')\n"
REWARD = """
import luceloop
from core.scale import SCALE

print("the package lies in", luceloop.__file__)


def bounded(x):
    return (x[:, 0] / SCALE).tanh()


bounded.supremum = 1.0
"""
SWEEP = ["mog", "reward.name=core.rw:bounded", "seeds=[1,2]", "iterations=2", "name=theirs", *SMALL]


@dataclass(frozen=True)
class Installed:
    """A wheel, and an environment that has it."""

    wheel: Path
    python: Path

    def run(self, *arguments: str, cwd: Path, **environment: str) -> str:
        """What `luceloop ARGUMENTS` prints, started in a folder."""
        command = [str(self.python.with_name("luceloop")), *arguments]
        kept = ("HOME", "PATH", "LANG", "TMPDIR")
        inherited = {name: os.environ[name] for name in kept if name in os.environ}
        ran = subprocess.run(
            command, cwd=cwd, env=inherited | environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, files.split("\0")):
        if (ROOT / name).exists():  # a file may be deleted and not yet committed
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name, follow_symlinks=False)
    # The source distribution first, and the wheel from that.
    build = [str(UV), "build", "--quiet", "--out-dir", str(place), str(source)]
    subprocess.run(build, check=True)
    [wheel] = place.glob("*.whl")
    venv = place / "venv"
    make = [str(UV), "venv", "--quiet", "--python", sys.executable, str(venv)]
    subprocess.run(make, check=True)
    python = venv / "bin" / "python"
    install = [str(UV), "pip", "install", "--quiet", "--no-deps"]
    install += ["--python", str(python), str(wheel)]
    subprocess.run(install, check=True, env={**os.environ, "UV_COMPILE_BYTECODE": "1"})
    [packages] = (venv / "lib").glob("python*/site-packages")
    (packages / "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installed(wheel, python)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder in which every name of ours is one of the user's."""
    folder = tmp_path / "theirs"
    for package in ("core", "analysis", "workers", "sweeps"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("" if package == "core" else BROKEN)
    (folder / "core" / "rw.py").write_text(REWARD)
    (folder / "core" / "scale.py").write_text("SCALE = 5\n")
    (folder / "core" / "config.py").write_text(BROKEN)
    (folder / "luceloop").mkdir()
    (folder / "luceloop" / "notes.txt").write_text("what we found so far\n")
    for file in ("analysis.py", "workers.py", "luceloop.py", "queue.py"):
        (folder / file).write_text(BROKEN)
    return folder


def digests(folder: Path) -> dict[str, str]:
    """Of all files but those that Python keeps of compiled code."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if "__pycache__" not in file.parts
    }


def test_a_wheel_holds_one_package_with_its_types_and_presets(installed: Installed):
    with zipfile.ZipFile(installed.wheel) as wheel:
        names = wheel.namelist()
        [top] = [name for name in names if name.endswith(".dist-info/top_level.txt")]
        assert wheel.read(top).decode().split() == ["luceloop"]
    inside = {name.split("/")[0] for name in names}
    assert {name for name in inside if not name.endswith(".dist-info")} == {"luceloop"}
    assert {"luceloop/py.typed", "luceloop/testing.py", "luceloop/core/rng.py"} <= set(names)
    presets = {f"luceloop/sweeps/presets/{file.name}" for file in ROOT.glob("sweeps/presets/*")}
    assert {name for name in presets if name.endswith(".yaml")} <= set(names)
    assert not [name for name in names if "test" in name and name != "luceloop/testing.py"]


def test_bare_names_lead_nowhere(installed: Installed, tmp_path: Path):
    for name in ("core", "workers", "sweeps", "analysis", "benchmarks", "examples"):
        code = f"import luceloop, importlib.util as u; print(u.find_spec({name!r}))"
        ran = [str(installed.python), "-c", code]
        found = subprocess.run(ran, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert found.stdout == "None\n", name


def test_commands_run_among_files_of_the_same_names(
    installed: Installed, theirs: Path, tmp_path: Path
):
    before, output = digests(theirs), tmp_path / "out"
    where = ["--output", str(output)]

    def luceloop(*arguments: str) -> str:
        return installed.run(*arguments, cwd=theirs)

    said = luceloop("validate", *SWEEP)
    assert f"the package lies in {installed.python.parents[1]}" in said
    assert "ok: 2 points" in said
    assert "2/2 points done" in luceloop("run", *SWEEP, "resources.samplers=1", QUICK, *where)
    table = tmp_path / "table.csv"
    luceloop("export", "latest", "-o", str(table), *where)
    rewards = pd.read_csv(table).query("metric == 'reward_mean' and seed == seed")
    assert len(rewards) == 2 * 2 * 3 and rewards["value"].between(-1, 1).all()
    assert "figure " in luceloop("plot", "latest", "--to", str(tmp_path / "figures"), *where)
    luceloop("report", "latest", "-o", str(tmp_path / "page.html"), *where)
    assert "core.rw:bounded" in (tmp_path / "page.html").read_text()
    assert "2/2" in luceloop("show", "latest", *where)
    assert digests(theirs) == before


def test_a_sweep_is_submitted_among_files_of_the_same_names(
    installed: Installed, theirs: Path, tmp_path: Path, nodes: Nodes
):
    before = digests(theirs)
    cluster = {"RAY_AUTH_TOKEN": TOKEN, "RAY_API_SERVER_ADDRESS": nodes.address}
    said = installed.run(
        "submit", *SWEEP, QUICK, "--output", str(tmp_path / "there"), cwd=theirs, **cluster
    )
    assert said.rstrip().endswith("SUCCEEDED")
    # What ran there is what travelled, beside the user's folder and before what the nodes have.
    [line] = {line for line in said.splitlines() if "the package lies in /" in line} - {
        line for line in said.splitlines() if str(installed.python.parents[1]) in line
    }
    assert "working_dir_files" in line and line.endswith("/luceloop/__init__.py")
    table = tmp_path / "table.csv"
    installed.run(
        "export", "latest", "-o", str(table), "--output", str(tmp_path / "there"), cwd=theirs
    )
    rewards = pd.read_csv(table).query("metric == 'reward_mean' and seed == seed")
    assert len(rewards) == 2 * 2 * 3
    assert digests(theirs) == before
