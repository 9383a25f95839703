"""How a command ends where Ctrl-C is pressed again and again, or nobody reads what it prints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from luceloop.sweeps.console import PlainConsole
from tests.support import Cli

pytestmark = pytest.mark.external
MAIN = "from luceloop.sweeps.cli.app import main; main()"
STUBBORN = """
import atexit, sys, time
from luceloop.sweeps.cli import running

def validate(*arguments, **settings):
    try:
        print("started", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        try:
            time.sleep(60)
        finally:
            {last}
running.validate = validate
atexit.register(time.sleep, {afterwards})
sys.argv = ["luceloop", "validate", "demo"]
"""


@pytest.mark.parametrize("presses", [2, 5])
@pytest.mark.parametrize(
    ("last", "afterwards", "needed"),
    [
        ("pass", 0, 2),
        ("raise RuntimeError('a lock was held')", 0, 2),
        ("time.sleep(60)", 0, 3),
        ("pass", 60, 3),
    ],
    ids=["in order", "an error of its own", "endless", "endless when leaving"],
)
def test_ctrl_c_however_often_ends_with_130_and_one_line(presses, last, afterwards, needed):
    script = STUBBORN.format(last=last, afterwards=afterwards) + MAIN
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None and process.stdout.readline() == "started\n"
    for _ in range(max(presses, needed)):
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert err == "interrupted\n"
    assert process.returncode in (130, -signal.SIGINT)  # which shells call 130, too


def _until_closed(*arguments: str, folder: str, **variables: str) -> tuple[int, str]:
    """The exit code and the errors of a command whose output is closed before it writes."""
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"LUCELOOP_OUTPUT": folder} | variables,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    return process.wait(), err


@pytest.mark.parametrize("arguments", [["presets"], ["list"], ["list", "--json"], ["--help"]])
@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_closed_output_ends_a_command_quietly(arguments, buffered, tmp_path):
    ended = _until_closed(*arguments, folder=str(tmp_path), PYTHONUNBUFFERED=buffered)
    assert ended == (0, "")


def test_a_command_without_any_output_ends_quietly():
    script = f"exec '{sys.executable}' -c '{MAIN}' presets >&-"
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


TEXTS = [
    "[/b]",
    "[bold]x[/bold]",
    "[red",
    ":smile:",
    "\x1b[31mred",
    "a\ud800b",
    "\u202eback",
    "\\[",
]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_users_text_is_shown_as_it_is_and_obeyed_by_nothing(text, capsys):
    from rich.table import Table

    console = PlainConsole(width=60)
    table = Table(text, title=text, caption=text)
    table.add_row(text)
    console.print(table)
    console.print(text, style="bold")
    out = capsys.readouterr().out
    seen = text.encode("unicode-escape").decode() if not text.isprintable() else text
    assert out.count(seen) == 5 and "\x1b" not in out and "\u202e" not in out


def test_an_output_that_lacks_letters_gets_escapes(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", MAIN, "validate", "demo", "description=Größe 😀", "--json"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "LUCELOOP_OUTPUT": str(tmp_path)},
    )
    assert ran.returncode == 0, ran.stderr
    assert rb"Gr\xf6\xdfe \U0001f600" in ran.stdout


def test_a_description_of_several_lines_is_one_line_wherever_it_stands(cli: Cli, tmp_path):
    given = 'description="[/b] one\\nsearch: {beta: 3}"'
    ran = cli("validate", "demo", given, "--json", "--output", str(tmp_path))
    assert ran.code == 0
    assert json.loads(ran.out)["description"].startswith("[/b] one search: {beta: 3} Sweeps β")
