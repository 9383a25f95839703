"""Servers as teams run them, on loopback: MLflow on its own PostgreSQL, and an object store."""

from __future__ import annotations

import getpass
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

START = 120.0
"""Seconds a server may take to answer."""


def find_postgres() -> Path | None:
    """The folder of PostgreSQL's programs, which Debian keeps off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_version)
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _version(binary: Path) -> float:
    return float(binary.parts[-3])


def _owner() -> str:
    """Who runs PostgreSQL, which refuses to be root."""
    return "postgres" if os.getuid() == 0 else getpass.getuser()


def why_no_postgres() -> str:
    """Why there can be none here; empty if there can."""
    if find_postgres() is None:
        return "no PostgreSQL: apt-get install postgresql"
    if _owner() not in {entry.pw_name for entry in pwd.getpwall()}:
        return f"no user {_owner()} to run PostgreSQL"
    return ""


needs_postgres = pytest.mark.skipif(bool(why_no_postgres()), reason=why_no_postgres())


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(true: Callable[[], bool], what: str, process: subprocess.Popen | None = None):
    """Wait for something to become true."""
    deadline = time.monotonic() + START
    while not true():
        assert time.monotonic() < deadline, f"{what}: not in {START:.0f} s"
        assert process is None or process.poll() is None, f"{what}: it ended"
        time.sleep(0.1)


def _own_folder() -> Path:
    """A folder that PostgreSQL's user can reach, which pytest's are not."""
    return Path(tempfile.mkdtemp(prefix="postgres-"))


@dataclass
class Postgres:
    """A PostgreSQL server with a data directory of its own, ended by its process id."""

    folder: Path = field(default_factory=_own_folder)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    def create(self) -> None:
        """Create the data directory."""
        shutil.chown(self.folder, _owner())
        options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync"]
        self._program("initdb", "-D", str(self.data), *options).check_returncode()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Serve, and wait until it does."""
        options = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={self.port}"]
        options += ["-c", f"unix_socket_directories={self.folder}"]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [self._binary("postgres"), "-D", str(self.data), *options],
                user=_owner() if os.getuid() == 0 else None,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        wait_until(self.answers, "PostgreSQL", self.process)

    def answers(self) -> bool:
        """Whether it takes connections."""
        import psycopg2

        try:
            with closing(psycopg2.connect(self.uri.replace("+psycopg2", ""))):
                return True
        except psycopg2.OperationalError:
            return False

    def remove(self) -> None:
        """End it and delete its data."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder)

    def kill(self) -> None:
        """End it at once, as a power cut would: it recovers from its log when started again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)

    def _program(self, name: str, *arguments: str) -> subprocess.CompletedProcess:
        user = _owner() if os.getuid() == 0 else None
        command = [self._binary(name), *arguments]
        return subprocess.run(command, user=user, cwd=self.folder, capture_output=True)

    def _binary(self, name: str) -> str:
        folder = find_postgres()
        assert folder is not None
        return str(folder / name)


@dataclass
class MlflowServer:
    """`mlflow server`, in a process group of its own."""

    store: str
    artifacts: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve, and wait until it does."""
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.store]
        command += ["--artifacts-destination", str(self.artifacts), "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
        environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # eight processes more
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(
            command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True
        )
        wait_until(self.answers, "mlflow server", self.process)

    def answers(self) -> bool:
        """Whether it takes requests."""
        try:
            urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """End it and the processes it started, at once."""
        if self.process is None or self.process.poll() is not None:
            return
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


class FlakyProxy:
    """Stands before a server, drops some requests and answers some with 500 once they are done."""

    def __init__(self, server: str, *, dropped: float, denied: float) -> None:
        """Begin to serve.

        Args:
            server: the server's address.
            dropped: share of requests that never arrive.
            denied: share of those whose answers are replaced.
        """
        chance, lock = random.Random(0), threading.Lock()
        self.requests = self.failures = 0

        def fate(*_: object) -> float:
            with lock:
                drawn = chance.random()
                self.requests += 1
                self.failures += drawn < dropped + denied
                return drawn

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_request(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                drawn = fate()
                if drawn < dropped:
                    self.close_connection = True
                    return
                headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                sent = (self.command, server + self.path)
                answer = requests.request(*sent, data=body, headers=headers, timeout=60)
                denies = drawn < dropped + denied
                content = b"{}" if denies else answer.content
                self.send_response(500 if denies else answer.status_code)
                self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()


@dataclass
class ObjectStore:
    """A server that speaks S3, with one bucket, in memory."""

    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to know."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "secret-of-someone",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self) -> None:
        """Serve, and wait until it does."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        wait_until(self._has_bucket, "the object store", self.process)

    def _has_bucket(self) -> bool:
        """Make the bucket, as soon as it answers."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/bucket", method="PUT")
        request.add_header("Host", f"127.0.0.1:{self.port}")
        try:
            urllib.request.urlopen(request, timeout=2).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """End it at once, and all that it held."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)
