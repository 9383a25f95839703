"""The commands that talk to a cluster: submit, status, logs, stop."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from luceloop.core.errors import ConfigError
from luceloop.sweeps.actions import console
from luceloop.sweeps.options import (
    address_option,
    figures_option,
    overrides_argument,
    storage_option,
    sweep_argument,
)

if TYPE_CHECKING:
    from luceloop.core.config import Config
    from luceloop.sweeps.submit import Cluster, Job


@click.command()
@click.argument("config", metavar="CONFIG", required=False)
@overrides_argument
@address_option
@click.option("--resume", metavar="SWEEP", help="Go on with an interrupted sweep, without CONFIG.")
@click.option("--no-wait", is_flag=True, help="Return once the job is there; do not follow it.")
@click.option(
    "--check/--no-check",
    default=True,
    help="Build every part of the sweep on this machine first.  [on]",
)
@figures_option
@click.option(
    "--output",
    metavar="DIR",
    help="Folder of all results on the cluster, which all nodes share unless --storage is given.  "
    "[$LUCELOOP_OUTPUT there]",
)
@storage_option
def submit(
    config: str | None,
    overrides: tuple[str, ...],
    address: str | None,
    resume: str | None,
    no_wait: bool,
    check: bool,
    figures: bool,
    output: str | None,
    storage: str | None,
) -> None:
    """Run a sweep as a job of a Ray cluster.

    This folder's files travel along: code that CONFIG names, and files beneath it.
    """
    if (config is None) == (resume is None):
        raise click.UsageError("Give either CONFIG or --resume SWEEP.")
    if output and not output.startswith("/"):
        raise ConfigError("--output", output, "must be an absolute path on the cluster")
    if storage:
        from luceloop.core.storage import is_url, refuse_password

        refuse_password("--storage", storage)
        if not is_url(storage) and not storage.startswith("/"):
            allowed = "must be a URL or an absolute path on the cluster"
            raise ConfigError("--storage", storage, allowed)
    parsed = None if config is None else _checked(config, list(overrides), check)
    from luceloop.sweeps import submit as jobs
    from luceloop.sweeps.output import new_sweep_id

    cluster = jobs.Cluster(address)
    if parsed is None:
        labels = jobs.resumable(cluster, resume or "", output or "")
    else:
        labels = jobs.metadata(new_sweep_id(), parsed.name, output or "")
    job = _upload(cluster, parsed, labels, storage, figures)
    console.print(f"sweep {labels[jobs.SWEEP]}  {labels[jobs.NAME]}: job {job}", highlight=False)
    if no_wait:
        console.print(f"follow it with: luceloop logs -f {job}", highlight=False)
        return
    _follow(cluster, job)


@click.command()
@sweep_argument
@address_option
def status(sweep: str, address: str | None) -> None:
    """Say how a submitted sweep stands."""
    from luceloop.sweeps.submit import Cluster

    cluster = Cluster(address)
    job = cluster.find(sweep)
    console.print(f"{job.name}  {job.sweep}", style="bold", highlight=False)
    line = f"job {job.id}: {job.details.status}, started {_clock(job.started)}"
    if job.has_ended:
        line += f", ended {_clock((job.details.end_time or 0) / 1000)}, exit code {job.exit_code}"
    console.print(line, highlight=False)
    for line in cluster.log(job.id).splitlines()[-1:]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@click.command()
@sweep_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@address_option
def logs(sweep: str, follow: bool, address: str | None) -> None:
    """Print what a submitted sweep prints."""
    from luceloop.sweeps.submit import Cluster

    cluster = Cluster(address)
    job = cluster.find(sweep)
    if follow:
        cluster.follow(job.id, _write)
    else:
        _write(cluster.log(job.id))


@click.command()
@sweep_argument
@address_option
def stop(sweep: str, address: str | None) -> None:
    """Stop a submitted sweep; what is on record is kept."""
    from luceloop.sweeps.submit import Cluster

    cluster = Cluster(address)
    job = cluster.find(sweep)
    if job.has_ended:
        console.print(f"job {job.id} had ended: {job.details.status}", highlight=False)
        return
    _print_end(cluster.stop(job.id))


COMMANDS = (submit, status, logs, stop)


def _checked(config: str, overrides: list[str], build: bool) -> Config:
    from luceloop.sweeps.presets import read_config

    parsed = read_config(config, overrides)
    if build:
        from luceloop.sweeps.runner import check

        check(parsed, here=False)
    return parsed


def _upload(
    cluster: Cluster,
    config: Config | None,
    labels: dict[str, str],
    storage: str | None,
    figures: bool,
) -> str:
    from luceloop.sweeps import submit as jobs
    from luceloop.sweeps.upload import CONFIG, gather

    sweep, output = labels[jobs.SWEEP], labels[jobs.OUTPUT]
    command = ["resume", sweep] if config is None else ["run", str(CONFIG), "--id", sweep]
    command += ["--output", output] if output else []
    command += ["--storage", storage] if storage else []
    command += [] if figures else ["--no-figures"]
    with tempfile.TemporaryDirectory(prefix="luceloop-") as folder:
        gather(Path(folder), config)
        return cluster.start(Path(folder), command, labels)


def _follow(cluster: Cluster, job: str) -> None:
    try:
        ended = cluster.follow(job, _write)
    except KeyboardInterrupt:
        line = f"the sweep goes on; follow it with: luceloop logs -f {job}"
        console.print(line, highlight=False)
        sys.exit(130)
    _print_end(ended)
    sys.exit(ended.exit_code)


def _print_end(job: Job) -> None:
    console.print(f"job {job.id}: {job.details.status}", highlight=False)
    if job.details.driver_exit_code is None and job.details.message:
        console.print(job.details.message, highlight=False, markup=False, soft_wrap=True)
    if job.exit_code == 130 or (job.exit_code and job.details.driver_exit_code is None):
        line = f"go on with: luceloop submit --resume {job.sweep}"
        console.print(line, highlight=False)


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _write(text: str) -> None:
    print(text, end="", flush=True)
