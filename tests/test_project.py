"""The files around the code: they name what is there, and agree with each other."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import luceloop.testing

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_has_the_version_and_the_licence_of_the_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_what_contributors_are_told_of_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for place in re.findall(r"`((?:core|sweeps|analysis|docs|tests|luceloop)/[\w/.]*)`", text):
        assert (ROOT / place).exists(), place
    for check in re.findall(r"`(check_\w+)`", text):
        assert hasattr(luceloop.testing, check), check
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`?make ([a-z-]+)`?", text)) <= set(targets)


def test_the_workflow_runs_what_ci_runs():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert job["steps"][-1] == {"run": "bash .ci/run"}
    version = next(step["with"]["python-version"] for step in job["steps"] if "with" in step)
    assert PROJECT["requires-python"] == f">={version}"


def test_the_hooks_run_what_make_check_runs_first():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text().replace("$(BIN)", ".venv/bin")
    for hook in hooks:
        assert hook["entry"].removesuffix(" --fix") in makefile


@pytest.mark.parametrize("form", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")))
def test_forms_for_issues_have_what_they_need(form):
    content = yaml.safe_load(form.read_text())
    assert content["name"] and content["description"]
    assert all(part["attributes"]["label"] for part in content["body"])


def test_what_the_image_copies_is_enough_to_run(tmp_path):
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copies = [line.split()[1:] for line in lines if line.startswith("COPY")]
    for *sources, _ in copies:
        for source in sources:
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            copy(ROOT / source, tmp_path / source)
    # The links of the package lead into the copy, as they do in the image.
    for link in (tmp_path / "luceloop").iterdir():
        if link.is_dir() and (tmp_path / link.name).is_dir():
            shutil.rmtree(link)
            link.symlink_to(tmp_path / link.name)
    code = "import luceloop; print(luceloop.__file__); "
    code += "from luceloop.sweeps.cli.app import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", code, "presets"],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0 and "mog" in ran.stdout, ran.stderr
    assert ran.stdout.splitlines()[0] == str(tmp_path / "luceloop" / "__init__.py")
    needed = re.search(r"^\.venv/\.installed: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert needed and all((tmp_path / name).is_file() for name in needed[1].split())
