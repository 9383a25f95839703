"""Ray that dies, does not answer or is not there: the sweep goes on, or ends with a line."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest

from luceloop.core.errors import ConfigError, SessionError
from luceloop.sweeps.presets.reading import read_config
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.run.address import LONGEST_PLACE, check_session
from luceloop.sweeps.run.driver import _persist
from tests.processes import LONG, finish, luceloop, rows
from tests.support import QUICK, curves

LIMIT = 30.0
"""Seconds within which something must be said of a session that has ended."""

HEAD = """
import sys
import ray
from ray._private import ray_constants
ray_constants.ENABLE_RAY_CLUSTER = False  # it listens on loopback
context = ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


def wait_for_rows(process: subprocess.Popen, output: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(rows(output)) < count and process.poll() is None:
        assert time.monotonic() < deadline, "no rows"
        time.sleep(0.05)


def children(pid: int, name: str) -> list[psutil.Process]:
    found = psutil.Process(pid).children(recursive=True)
    return [process for process in found if process.name() == name]


class Lines(threading.Thread):
    """Collects what a process prints, and when."""

    def __init__(self, process: subprocess.Popen) -> None:
        super().__init__(daemon=True)
        self._process = process
        self.lines: list[tuple[float, str]] = []
        self.start()

    def run(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append((time.monotonic(), line))

    @property
    def text(self) -> str:
        return "".join(line for _, line in self.lines)

    def moment_of(self, words: str) -> float:
        return next(when for when, line in self.lines if words in line)


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("server", ["raylet", "gcs_server"])
def test_a_sweep_whose_ray_is_killed_goes_on_in_a_new_session_to_the_same_table(
    server, undisturbed_long, output, orphans
):
    process = luceloop(output, *LONG)
    printed = Lines(process)
    wait_for_rows(process, output, 4)
    orphans += psutil.Process(process.pid).children(recursive=True)
    killed = time.monotonic()
    (found,) = children(process.pid, server)
    found.kill()
    assert process.wait(240) == 0, printed.text
    printed.join(10)
    assert printed.moment_of(f"{server} has ended; the sweep goes on") - killed < LIMIT
    assert "Traceback" not in printed.text and "state-dump" not in printed.text
    pd.testing.assert_frame_equal(curves(output), undisturbed_long, check_exact=True)


@pytest.mark.processes
@pytest.mark.slow
def test_all_that_a_local_sweep_starts_listens_on_loopback_alone(output, orphans):
    process = luceloop(output, *LONG)
    wait_for_rows(process, output, 1)
    started = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    addresses = {
        connection.laddr.ip.removeprefix("::ffff:")
        for each in started
        for connection in each.net_connections("inet")
        if connection.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
    }
    process.send_signal(signal.SIGINT)
    finish(process, 130)
    assert addresses == {"127.0.0.1"}


@pytest.fixture
def head() -> Iterator[tuple[subprocess.Popen, str]]:
    """A Ray that others may join, and its address."""
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "PYTHONPATH")}
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert process.stdin and process.stdout
    yield process, process.stdout.readline().strip()
    process.stdin.close()
    process.wait(60)


@pytest.mark.processes
@pytest.mark.slow
def test_a_sweep_whose_cluster_dies_ends_with_a_line_and_is_resumed_to_the_same_table(
    head, undisturbed_long, output
):
    cluster, address = head
    process = luceloop(output, *LONG, RAY_ADDRESS=address)
    printed = Lines(process)
    wait_for_rows(process, output, 4)
    killed = time.monotonic()
    children(cluster.pid, "gcs_server")[0].kill()
    assert process.wait(120) == 1, printed.text
    printed.join(10)
    moment = printed.moment_of("everything on record is kept; go on with: luceloop resume")
    assert moment - killed < LIMIT + 10  # a thread that is stuck in Ray gets ten seconds
    assert "Traceback" not in printed.text
    before = rows(output)
    finish(luceloop(output, "resume", "latest", QUICK), 0)
    assert rows(output)[: len(before)] == before
    pd.testing.assert_frame_equal(curves(output), undisturbed_long, check_exact=True)


class Mute(threading.Thread):
    """A server on loopback that answers everyone with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(daemon=True)
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.start()

    def run(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            connection.recv(64)
            if self._answer:
                connection.sendall(self._answer)
                connection.close()


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("junk", "must read HOST:PORT"),
        ("http://127.0.0.1:80", "must read HOST:PORT"),
        ("127.0.0.1:99999", "must read HOST:PORT"),
        ("no-such-host.invalid:6379", "no Ray answers there"),
    ],
)
def test_an_address_that_cannot_be_one_is_named(address, words, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError, match=f"^RAY_ADDRESS={re.escape(repr(address))}: {words}"):
        check_session()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.0 400 Bad request\r\n\r\n", "something else than Ray answers"),
        (b"", "no Ray answers there: timed out"),
    ],
)
def test_a_server_that_is_not_rays_is_told_before_anything_is_made(
    answer, words, output, cli, monkeypatch
):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("luceloop.sweeps.run.address.ANSWER", 1.0)
    monkeypatch.setenv("RAY_ADDRESS", Mute(answer).address)
    ran = cli(*LONG, "--output", str(output))
    assert ran.code == 2 and words in ran.err and len(ran.err.splitlines()) == 1
    assert not (output / "sweeps").exists()


def test_a_port_where_nobody_listens_is_told(monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", free_address())
    with pytest.raises(ConfigError, match="no Ray answers there: Connection refused"):
        check_session()


def test_folders_in_which_ray_cannot_keep_its_sockets_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match=r"^TMPDIR=.*must be a folder that can be written"):
        check_session()
    long = tmp_path / ("x" * LONGEST_PLACE)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    with pytest.raises(ConfigError, match=r"^RAY_TMPDIR=.*at most 39 bytes.*shorter one"):
        check_session()
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    check_session()


STUCK = """
import ctypes
from luceloop.sweeps.run.session import at_most
with at_most(1.0, "waited in vain", "do this"):
    ctypes.CDLL(None).sleep(100)  # as within Ray's own code, no exception of Python's gets in
"""


def test_a_thread_that_no_exception_reaches_ends_with_the_process_and_a_line():
    ran = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert ran.stderr == "waited in vain; do this\n"


def test_what_a_session_error_says_survives_pickling():
    import pickle

    error = SessionError("Ray has ended", "go on", True)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "Ray has ended; go on" and again.owned


LOST = """
import signal
import time
import weakref
from luceloop.sweeps.run.session import _no_interrupt_lost

class Thing:
    pass

def callback(reference):
    signal.raise_signal(signal.SIGTERM)

signal.signal(signal.SIGTERM, signal.default_int_handler)
with _no_interrupt_lost():
    try:
        thing = Thing()
        reference = weakref.ref(thing, callback)
        del thing
        time.sleep(60)
        print("forgotten")
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_an_interrupt_in_a_callback_of_a_weak_reference_is_not_forgotten():
    ran = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("interrupted\n", "")


UNREAD = """
import os, sys, threading, time
from luceloop.sweeps.run.watch import end_process
os.close(1)
print("a line that nobody reads")
threading.Thread(target=end_process, args=["it has ended"]).start()
time.sleep(60)
"""


def test_a_process_whose_output_is_closed_is_ended_all_the_same():
    ran = subprocess.run([sys.executable, "-c", UNREAD], stderr=subprocess.PIPE, timeout=50)
    assert ran.returncode == 1


GROUP = """
import os, signal, psutil
from luceloop.sweeps.run.session import ray_session
try:
    with ray_session():
        [raylet] = [each for each in psutil.Process().children() if each.name() == "raylet"]
        raylet.kill()
        raylet.wait()
        os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.processes
def test_who_ends_a_whole_group_of_processes_ends_the_sweep():
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "PYTHONPATH")}
    ran = subprocess.run(
        [sys.executable, "-c", GROUP], capture_output=True, text=True, timeout=200, env=environment
    )
    assert ran.stdout == "interrupted\n", ran.stderr


class Told:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def tell(self, line: str) -> None:
        self.lines.append(line)


def test_a_sweep_gives_up_after_three_sessions_without_a_row(tmp_path):
    config = read_config("mog", [])
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.begin_point(0, {"curation.beta": 10, "lam": 1})
    told, attempts = Told(), list[bool]()

    def attempt(first: bool) -> None:
        attempts.append(first)
        if len(attempts) == 2:
            ledger.add_iteration(0, 0, {"reward_mean": [0.0] * 5})
        ledger.end_point(0, "lost", "its process died")
        raise SessionError("Ray's process raylet has ended", "", owned=True)

    with pytest.raises(SessionError):
        _persist(attempt, config, ledger, told)  # type: ignore[arg-type]
    assert attempts == [True, False, False, False, False]  # a row in the second, then in none
    assert len(told.lines) == 4


def test_a_session_of_others_is_not_started_anew(tmp_path):
    def attempt(first: bool) -> None:
        raise SessionError("Ray's head has not answered", "", owned=False)

    with pytest.raises(SessionError, match="has not answered"):
        _persist(attempt, read_config("mog", []), Ledger(tmp_path / "l"), Told())  # type: ignore[arg-type]
