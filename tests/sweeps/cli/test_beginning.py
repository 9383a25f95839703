"""The commands one begins with, and what a shell completes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from luceloop.sweeps.presets import preset_names
from tests.support import QUICK, Cli

FASTER = ["learner.steps=20", "data.size=200", "iterations=1", "seeds=2"]


def test_what_init_writes_is_valid_and_names_its_schema(tmp_path, monkeypatch, cli: Cli):
    monkeypatch.chdir(tmp_path)
    assert cli("init", "new").code == 0
    monkeypatch.chdir(tmp_path / "new")
    first = Path("sweep.yaml").read_text().splitlines()[0]
    schema = json.loads(Path(first.partition("$schema=")[2]).read_text())
    assert set(yaml.safe_load(Path("sweep.yaml").read_text())) <= set(schema["properties"])
    ran = cli("validate", "sweep.yaml", "--json")
    assert ran.code == 0 and json.loads(ran.out)["points"] == 4, ran.err


@pytest.mark.slow
def test_what_init_writes_runs(local_ray, tmp_path, output, monkeypatch, cli: Cli):
    monkeypatch.chdir(tmp_path)
    assert cli("init").code == 0
    ran = cli("run", "sweep.yaml", *FASTER, QUICK, "--output", str(output))
    assert ran.code == 0, ran.out + ran.err


def test_init_overwrites_nothing(tmp_path, cli: Cli):
    (tmp_path / "my_reward.py").write_text("mine = 1\n")
    ran = cli("init", str(tmp_path))
    assert ran.code == 2 and "is there already" in ran.err and len(ran.err.splitlines()) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["my_reward.py"]
    assert (tmp_path / "my_reward.py").read_text() == "mine = 1\n"


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_printed_with_its_comments(name, cli: Cli):
    ran = cli("presets", name)
    assert ran.code == 0 and ran.out.startswith("#")
    assert yaml.safe_load(ran.out)["description"] in " ".join(ran.out.split())


def test_a_mistyped_preset_is_named_with_the_one_that_is_meant(cli: Cli):
    ran = cli("presets", "mogg")
    assert ran.code == 2 and "did you mean mog?" in ran.err


def test_the_schema_is_json(cli: Cli):
    assert json.loads(cli("schema").out)["title"] == "A Luceloop sweep"


def completed(*words: str, **variables: str) -> list[str]:
    """What bash would offer for the last of the words."""
    environment = dict(os.environ, _LUCELOOP_COMPLETE="bash_complete", **variables)
    environment |= {
        "COMP_WORDS": " ".join(["luceloop", *words]),
        "COMP_CWORD": str(len(words)),
    }
    code = "import sys; sys.argv = ['luceloop']; from luceloop.sweeps.cli.app import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    return [line.partition(",")[2] for line in ran.stdout.splitlines()]


def test_commands_presets_sweeps_and_keys_are_completed(finished, tmp_path):
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    assert completed("for") == ["forecast"]
    assert {"mog", "mog-ddpm", "mog-search"} <= set(completed("run", "mog"))
    assert "latest" in completed("show", "la", LUCELOOP_OUTPUT=str(finished.output))
    (sweep,) = completed("show", "2", LUCELOOP_OUTPUT=str(finished.output))
    assert (finished.output / "sweeps" / sweep).is_dir()
    assert completed("run", "mog", "curation.be", **cache) == ["curation.beta="]
    assert set(completed("run", "mog", "learner.ste", **cache)) == {"learner.steps="}
    assert list(tmp_path.rglob("keys-*.txt"))
