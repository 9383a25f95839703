"""Sweeps as jobs of a Ray cluster, through its job API.

A job carries the sweep it runs in its metadata: so `status`, `logs` and `stop` find it by the
sweep's id, a start of it, or the configuration's name. A sweep that is resumed has several jobs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import ClientError
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from luceloop.core.errors import ConfigError, without_password
from luceloop.sweeps.record.folders import is_sweep_id

ANSWER = 10.0
"""Seconds that a cluster may take to answer at all."""
STARTING = 60.0
"""Seconds until a cluster that has just started must take jobs."""
POLL = 1.0
"""Seconds between questions to a cluster."""
STOPPING = 60
"""Seconds that a stopped sweep has to bring its last rows to MLflow, before it is killed."""
CHATTY = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
SWEEP, NAME, OUTPUT = "luceloop.sweep", "luceloop.name", "luceloop.output"


@dataclass(frozen=True)
class Job:
    """A job that runs a sweep, or did."""

    details: JobDetails

    @property
    def id(self) -> str:
        """What Ray calls it."""
        return str(self.details.submission_id)

    @property
    def sweep(self) -> str:
        """The id of its sweep."""
        return str(self.details.metadata[SWEEP])

    @property
    def name(self) -> str:
        """The name of its sweep's configuration."""
        return str(self.details.metadata[NAME])

    @property
    def output(self) -> str:
        """The output folder on the cluster; empty where the cluster knows it."""
        return str(self.details.metadata[OUTPUT])

    @property
    def started(self) -> float:
        """Seconds since the epoch."""
        return float(self.details.start_time or 0) / 1000

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return bool(self.details.status.is_terminal())

    @property
    def exit_code(self) -> int:
        """The sweep's; 130 where it was stopped, 1 where Ray could not run it."""
        if self.details.driver_exit_code is not None:
            return int(self.details.driver_exit_code)
        return {"SUCCEEDED": 0, "STOPPED": 130}.get(str(self.details.status), 1)


class Cluster:
    """The sweeps on a Ray cluster.

    Args:
        address: of its dashboard, http:// or https://.

    Raises:
        ConfigError: where nothing answers there, or refuses our token; so does every method.
    """

    def __init__(self, address: str | None) -> None:
        if urlsplit(address or "").scheme not in ("http", "https"):
            allowed = "must be the URL of the cluster's dashboard, like http://127.0.0.1:8265"
            raise ConfigError("--address", address and without_password(address), allowed)
        assert address is not None
        self.address = address.rstrip("/")
        for name in CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        with self._answering(), _without("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
            _check_reachable(self.address)
            self._client = JobSubmissionClient(self.address, headers=_headers())

    def start(self, folder: Path, arguments: list[str], metadata: dict[str, str]) -> str:
        """Upload a folder and run `luceloop ARGUMENTS` in it.

        Returns:
            The job's id: its sweep's, numbered from the second job on.
        """
        sweep = metadata[SWEEP]
        number = 1 + sum(job.sweep == sweep for job in self.jobs())
        request = {
            "entrypoint": shlex.join(["python", "-m", "luceloop.sweeps.cli.job", *arguments]),
            "submission_id": sweep if number == 1 else f"{sweep}-{number}",
            "runtime_env": {
                "working_dir": str(folder),
                "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOPPING)},
            },
            "metadata": metadata,
        }
        with self._answering():
            return self._submit(request)

    def _submit(self, request: dict[str, Any]) -> str:
        deadline = time.monotonic() + STARTING
        while True:
            try:
                return str(self._client.submit_job(**request))
            except RuntimeError as error:
                if "try again later" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(POLL)

    def jobs(self) -> list[Job]:
        """All jobs that run sweeps, oldest first."""
        with self._answering():
            every = self._client.list_jobs()
        ours = [Job(details) for details in every if SWEEP in (details.metadata or {})]
        return sorted(ours, key=lambda job: job.started)

    def find(self, wanted: str) -> Job:
        """The newest job of the sweep that `wanted` names as in `luceloop show`, or itself."""
        jobs = self.jobs()
        if not jobs:
            raise ConfigError(
                "SWEEP", wanted, f"there are no sweeps at {without_password(self.address)}"
            )
        if wanted == "latest":
            return jobs[-1]
        if named := [job for job in jobs if job.name == wanted]:
            return named[-1]
        if job := next((job for job in jobs if job.id == wanted != job.sweep), None):
            return job
        fits = [job for job in jobs if wanted and job.sweep.startswith(wanted)]
        if len({job.sweep for job in fits}) == 1:
            return fits[-1]
        known = ", ".join(dict.fromkeys(job.sweep for job in jobs[-5:]))
        allowed = f"is no sweep's name or start of one id; there are {known}"
        raise ConfigError("SWEEP", wanted, allowed)

    def job(self, identity: str) -> Job:
        """A job as it stands now."""
        with self._answering():
            return Job(self._client.get_job_info(identity))

    def log(self, identity: str) -> str:
        """What a job has printed."""
        with self._answering():
            return str(self._client.get_job_logs(identity))

    def follow(self, identity: str, write: Callable[[str], Any]) -> Job:
        """Write what a job prints until it has ended; a connection that breaks is made anew."""
        written = 0
        while True:
            written = asyncio.run(self._tail(identity, written, write))
            job = self.job(identity)
            if job.has_ended:
                write(self.log(identity)[written:])
                return job
            time.sleep(POLL)

    async def _tail(self, identity: str, written: int, write: Callable[[str], Any]) -> int:
        """Write what comes after the first `written` characters; how many there are then."""
        seen = 0
        try:
            async for text in self._client.tail_job_logs(identity):
                write(text[max(0, written - seen) :])
                seen += len(text)
        except (RuntimeError, OSError, ClientError):
            pass  # whether the cluster is there, and the job has ended, is asked next
        return max(seen, written)

    def stop(self, identity: str) -> Job:
        """Stop a job and wait until it has ended."""
        with self._answering():
            self._client.stop_job(identity)
        while not (job := self.job(identity)).has_ended:
            time.sleep(POLL)
        return job

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except AuthenticationError:
            allowed = (
                "refuses the token; set RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, "
                "or RAY_AUTH_MODE=token for that in ~/.ray/auth_token"
            )
            raise ConfigError("--address", without_password(self.address), allowed) from None
        except (RuntimeError, OSError) as error:
            raise ConfigError(
                "--address", without_password(self.address), _reason(error)
            ) from error


def metadata(sweep: str, name: str, output: str) -> dict[str, str]:
    """What a job is labelled with."""
    return {SWEEP: sweep, NAME: name, OUTPUT: output}


def resumable(cluster: Cluster, wanted: str, output: str) -> dict[str, str]:
    """The metadata of a job that resumes a sweep.

    Args:
        cluster: where it will run.
        wanted: the sweep; its whole id, where the cluster is new and has no job of it.
        output: the output folder; that of its last job if empty.
    """
    known = cluster.jobs()
    if is_sweep_id(wanted) and all(job.sweep != wanted for job in known):
        return metadata(wanted, wanted, output)
    last = cluster.find(wanted)
    if not last.has_ended:
        allowed = f"is running as job {last.id}; stop it first"
        raise ConfigError("--resume", last.sweep, allowed)
    return metadata(last.sweep, last.name, output or last.output)


def extensible(cluster: Cluster, wanted: str, output: str) -> tuple[str, str, str]:
    """A sweep to extend: its id, what its extension is called, and the output folder.

    Args:
        cluster: where the extension will run.
        wanted: the sweep; its whole id, where the cluster is new and has no job of it.
        output: the output folder; that of its last job if empty.
    """
    if is_sweep_id(wanted) and all(job.sweep != wanted for job in cluster.jobs()):
        return wanted, f"extension of {wanted}", output
    last = cluster.find(wanted)
    return last.sweep, last.name, output or last.output


@contextmanager
def _without(*names: str) -> Iterator[None]:
    """Hide variables that Ray's client would prefer to the address it is given."""
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ |= hidden


def _check_reachable(address: str) -> None:
    """Ray's own client would wait for minutes at an address that swallows packets."""
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=ANSWER):
            pass
    except urllib.error.HTTPError:
        pass  # somebody is there


def _headers() -> dict[str, str]:
    """The token that is set for this process; Ray itself asks for RAY_AUTH_MODE=token besides."""
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    file = os.environ.get("RAY_AUTH_TOKEN_PATH", "")
    if not token and file:
        token = Path(file).expanduser().read_text()
    return {"Authorization": f"Bearer {token.strip()}"} if token.strip() else {}


def _reason(error: Exception) -> str:
    text = without_password(" ".join(str(getattr(error, "reason", error)).split()))
    if isinstance(error, OSError):
        return f"does not answer: {text[-200:]}"
    return text if len(text) < 300 else f"{text[:100]} … {text[-200:]}"
