"""What the commands that talk to a cluster do."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from luceloop.core.config.sweep import SweepConfig
from luceloop.sweeps.cluster import jobs
from luceloop.sweeps.cluster.jobs import Cluster, Job
from luceloop.sweeps.cluster.upload import CONFIG, gather
from luceloop.sweeps.console import console, print_json, print_line
from luceloop.sweeps.presets.reading import read_config
from luceloop.sweeps.record.folders import new_sweep_id
from luceloop.sweeps.run.check import check


def submit(
    config: str | None,
    overrides: list[str],
    address: str | None,
    *,
    resume: str | None,
    wait: bool,
    build: bool,
    figures: bool,
    accept: bool,
    output: str,
    storage: str | None,
) -> None:
    """Run a sweep as a job of a Ray cluster.

    Args:
        config: a preset's name or a YAML file; None for a sweep that is resumed.
        overrides: `key=value`; of a sweep that is resumed, of its budget alone.
        address: of the cluster's dashboard.
        resume: the sweep to go on with.
        wait: whether to follow the job to its end, and exit by it.
        build: whether to build every part of the sweep on this machine first.
        figures: whether the job draws at the end.
        accept: whether a resumed sweep goes on although files of the user's have changed.
        output: the output folder on the cluster; empty where the cluster knows it.
        storage: where its nodes find what they share, if elsewhere.
    """
    parsed = None
    if config is not None:
        parsed = read_config(config, overrides)
        if build:
            check(parsed, here=False)
    cluster = Cluster(address)
    if parsed is None:
        labels = jobs.resumable(cluster, resume or "", output)
    else:
        labels = jobs.metadata(new_sweep_id(), parsed.name, output)
    options = [] if figures else ["--no-figures"]
    options += ["--accept-changes"] if accept else []
    options += ["--storage", storage] if storage else []
    job = _upload(cluster, parsed, labels, [*overrides, *options] if resume else options)
    console.print(f"sweep {labels[jobs.SWEEP]}  {labels[jobs.NAME]}: job {job}", highlight=False)
    if not wait:
        console.print(f"follow it with: luceloop logs -f {job}", highlight=False)
        return
    _follow(cluster, job)


def status(sweep: str, address: str | None, *, as_json: bool = False) -> None:
    """Print how a submitted sweep stands."""
    cluster = Cluster(address)
    job = cluster.find(sweep)
    last = cluster.log(job.id).splitlines()[-1:]
    if as_json:
        ended = (job.details.end_time or 0) / 1000 if job.has_ended else None
        found = {"sweep": job.sweep, "name": job.name, "job": job.id, "started": job.started}
        found |= {"status": str(job.details.status), "ended": ended}
        found |= {"exit_code": job.exit_code if job.has_ended else None}
        print_json(found | {"says": "".join(last)})
        return
    console.print(f"{job.name}  {job.sweep}", style="bold", highlight=False)
    line = f"job {job.id}: {job.details.status}, started {_clock(job.started)}"
    if job.has_ended:
        line += f", ended {_clock((job.details.end_time or 0) / 1000)}, exit code {job.exit_code}"
    console.print(line, highlight=False)
    for line in last:
        print_line(line)


def logs(sweep: str, address: str | None, *, follow: bool) -> None:
    """Print what a submitted sweep prints, to its end if it is followed."""
    cluster = Cluster(address)
    job = cluster.find(sweep)
    if follow:
        cluster.follow(job.id, _write)
    else:
        _write(cluster.log(job.id))


def stop(sweep: str, address: str | None) -> None:
    """Stop a submitted sweep and wait until it has ended."""
    cluster = Cluster(address)
    job = cluster.find(sweep)
    if job.has_ended:
        console.print(f"job {job.id} had ended: {job.details.status}", highlight=False)
        return
    _print_end(cluster.stop(job.id))


def _upload(
    cluster: Cluster, config: SweepConfig | None, labels: dict[str, str], options: list[str]
) -> str:
    sweep, output = labels[jobs.SWEEP], labels[jobs.OUTPUT]
    command = ["resume", sweep]
    if config is not None:
        command = ["run", str(Path("..") / CONFIG), "--id", sweep]  # seen from the user's folder
    command += (["--output", output] if output else []) + options
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
        print_line(job.details.message)
    if job.exit_code == 130 or (job.exit_code and job.details.driver_exit_code is None):
        line = f"go on with: luceloop submit --resume {job.sweep}"
        console.print(line, highlight=False)


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _write(text: str) -> None:
    print(text, end="", flush=True)
