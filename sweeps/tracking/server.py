"""Serving MLflow's own pages on this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from rich.console import Console

from luceloop.analysis.reading.labels import chart_page, experiment_name
from luceloop.analysis.reading.store import connect, said_by_store
from luceloop.core.errors import ConfigError
from luceloop.sweeps.record.folders import Output

START = 120.0
"""Seconds the server may take to answer."""


def experiment_of(output: Output, sweep: str) -> str:
    """The experiment of a sweep in the tracking store.

    Raises:
        ConfigError: if there is no sweep, or the store does not have it.
    """
    folder = output.find_readable(sweep)
    name = experiment_name(folder.config().name, folder.id)
    try:
        experiment = connect(output.tracking_uri, create=False).get_experiment_by_name(name)
    except ConfigError:
        raise
    except Exception as error:  # stores raise what they like
        reason = said_by_store(error, output.tracking_uri)
        raise ConfigError("MLFLOW_TRACKING_URI", output.shown_uri, reason) from error
    if experiment is None:
        raise ConfigError("MLFLOW_TRACKING_URI", output.shown_uri, f"has no experiment {name}")
    return str(experiment.experiment_id)


def serve(output: Output, sweep: str, port: int, console: Console) -> None:
    """Run `mlflow server` on 127.0.0.1 until interrupted; of a remote store, only say where it is.

    Args:
        output: the output folder.
        sweep: whose page is printed.
        port: of the server.
        console: where its address is printed.

    Raises:
        ConfigError: if the port is taken or the server does not start.
    """
    experiment = experiment_of(output, sweep)
    if output.tracking_uri.startswith("http"):
        page = chart_page(output.shown_uri.rstrip("/"), experiment)
        console.print(page, highlight=False, soft_wrap=True)
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(
                "--port", port, f"is taken ({error.strerror}); give another"
            ) from None
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--host", "127.0.0.1"]
    log = output.path / "mlflow-server.log"
    environment = os.environ | {
        # Not on the command line, which everybody on this machine can read.
        "MLFLOW_BACKEND_STORE_URI": output.tracking_uri,
        # MLflow's jobs score traces of language models: eight processes that no sweep has work for.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with log.open("w") as file:
        server = subprocess.Popen(
            [*command, "--port", str(port)], stdout=file, stderr=file, env=environment
        )
    base = f"http://127.0.0.1:{port}"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server ends with us
    try:
        _wait(base, server, log)
        console.print(chart_page(base, experiment), highlight=False, soft_wrap=True)
        console.print("Ctrl-C ends the server", style="dim")
        server.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.terminate()
        server.wait(10)


def _wait(base: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ConfigError("ui", base, f"mlflow server did not start; see {log}")
        try:
            with urllib.request.urlopen(f"{base}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise ConfigError("ui", base, f"mlflow server did not answer in {START:.0f} s; see {log}")
