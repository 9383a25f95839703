"""The documentation as a site, and the commands in it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from luceloop.core.config.parsing import override
from luceloop.sweeps.cli.app import app
from luceloop.sweeps.presets import START, preset_names
from luceloop.sweeps.presets.reading import read_config

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMAND = re.compile(r"(?:^ {4,}(?:\.venv/bin/)?|^\| `|&& )(luceloop [^\n|]+)", re.MULTILINE)
OWN = str(START / "sweep.yaml")
"""Stands for a configuration of the reader's own."""


def commands() -> list[str]:
    """The commands in blocks of code, and at the beginning of rows of tables."""
    found = set()
    for page in PAGES:
        for line in COMMAND.findall(page.read_text()):
            shown = line.partition("`")[0].partition("    #")[0].strip()
            if not re.search(r"…| \[|CONFIG", shown) and (
                len(shown.split()) > 2 or is_whole(shown)
            ):
                found.add(shown)
    return sorted(found)


def is_whole(line: str) -> bool:
    """Whether a command of two words needs no more, so that it can be meant as one."""
    command = app.commands.get(line.split()[-1])
    return command is not None and not any(part.required for part in command.params)


@pytest.mark.parametrize("line", commands())
def test_the_command_line_takes_what_the_documentation_shows(line, monkeypatch):
    monkeypatch.setattr(click.Path, "convert", lambda self, value, *_: Path(value))
    name, *arguments = shlex.split(line, comments=True)[1:]
    if name.startswith("-"):
        return
    command = app.commands[name]
    context = command.make_context(name, arguments)
    given = list(context.params.get("overrides", ()))
    source = context.params.get("config")
    if source is not None:
        monkeypatch.chdir(START)
        read_config(source if source in preset_names() else OWN, given)
    else:
        override({}, given)


def test_there_are_commands_of_every_kind():
    named = {line.split()[1] for line in commands()}
    assert {"run", "submit", "init", "validate", "forecast", "show", "extend", "resume"} <= named


@pytest.mark.slow
def test_the_site_is_built_without_a_broken_link_and_asks_nobody_else(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", str(tmp_path)]
    ran = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    pages = {page.relative_to(tmp_path).as_posix() for page in tmp_path.rglob("*.html")}
    assert {"index.html", "reference/keys.html", "reference/python.html"} <= pages
    text = (tmp_path / "index.html").read_text()
    assert not re.search(r'(?:src|href)="https?://[^"]+\.(?:js|css|woff2?)"', text)
    assert "beta" in (tmp_path / "reference" / "keys.html").read_text()
    assert "run_loop" in (tmp_path / "reference" / "python.html").read_text()


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if f" {page}" not in navigation} == set()
