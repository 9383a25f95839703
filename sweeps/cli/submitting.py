"""What the commands that talk to a cluster do."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from luceloop.core.config.parsing import override
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.config.webhooks import named_address
from luceloop.sweeps.cluster import jobs
from luceloop.sweeps.cluster.jobs import Cluster, Job
from luceloop.sweeps.cluster.upload import (
    CONFIG,
    NOTIFY,
    Upload,
    gather,
    included_files,
    named_files,
)
from luceloop.sweeps.console import console, print_json, print_line
from luceloop.sweeps.presets.reading import read_config
from luceloop.sweeps.record.folders import new_sweep_id
from luceloop.sweeps.run.check import check
from luceloop.sweeps.run.summary import in_words


@dataclass(frozen=True)
class Wanted:
    """What a job is to run: a configuration, or what is left of a sweep, or more of one."""

    config: str | None
    """A preset's name or a YAML file."""
    resume: str | None
    """The sweep to go on with."""
    extends: str | None
    """The sweep to extend."""
    overrides: Sequence[str]
    """`key=value`; of a sweep to go on with, of its budget alone."""
    notify: str | None
    """Whom the sweep tells of itself, as it was given beside the overrides."""

    def parse(self) -> SweepConfig | None:
        """The configuration; None where it is on record on the cluster.

        Raises:
            ConfigError: one line naming what is wrong.
        """
        if self.config is None:
            override({}, list(self.overrides))  # which must read key=value at least
            return None
        return read_config(self.config, list(self.overrides))

    def address(self, config: SweepConfig | None) -> str:
        """The address that the sweep tells of itself; empty if the cluster knows it, or nobody.

        Raises:
            ConfigError: if it can be none.
        """
        if self.notify is not None:
            return named_address("--notify", self.notify)
        if config is not None:
            return "" if config.notify is None else config.notify.get_secret_value()
        given = override({}, list(self.overrides)).get("notify")
        return "" if given is None else named_address("notify", str(given))

    def command(self, sweep: str, identity: str) -> list[str]:
        """What the job runs: `sweep` is what it goes on with, `identity` what it makes."""
        # An address is handed over in a file: Ray shows this.
        shown = [each for each in self.overrides if each.partition("=")[0] != "notify"]
        if self.resume is not None:
            return ["resume", sweep, *shown]
        if self.extends is not None:
            return ["extend", sweep, *shown, "--id", identity, "--keep-files"]
        return ["run", str(Path("..") / CONFIG), "--id", identity]  # seen from the user's folder


def submit(
    wanted: Wanted,
    address: str | None,
    *,
    wait: bool,
    build: bool,
    figures: bool,
    accept: bool,
    output: str,
    storage: str | None,
    included: Sequence[str] = (),
) -> None:
    """Run a sweep as a job of a Ray cluster.

    Args:
        wanted: what is run.
        address: of the cluster's dashboard.
        wait: whether to follow the job to its end, and exit by it.
        build: whether to build every part of a new sweep on this machine first.
        figures: whether the job draws at the end.
        accept: whether a resumed sweep goes on although files of the user's have changed.
        output: the output folder on the cluster; empty where the cluster knows it.
        storage: where its nodes find what they share, if elsewhere.
        included: files that travel whatever they look like.
    """
    parsed = wanted.parse()
    told = wanted.address(parsed)
    if parsed is not None and build:
        check(parsed, here=False)
    named = [*named_files(wanted.overrides, parsed), *included_files(included)]
    cluster = Cluster(address)
    sweep, labels = _labels(cluster, wanted, parsed, output)
    options = ["--output", labels[jobs.OUTPUT]] if labels[jobs.OUTPUT] else []
    options += [] if figures else ["--no-figures"]
    options += ["--accept-changes"] if accept else []
    options += ["--storage", storage] if storage else []
    options += ["--notify", f"@{Path('..') / NOTIFY}"] if told else []
    command = [*wanted.command(sweep, labels[jobs.SWEEP]), *options]
    with tempfile.TemporaryDirectory(prefix="luceloop-") as folder:
        upload = gather(Path(folder), parsed, named, told)
        job = cluster.start(Path(folder), command, labels)
    console.print(f"sweep {labels[jobs.SWEEP]}  {labels[jobs.NAME]}: job {job}", highlight=False)
    for line in _upload_lines(upload):
        print_line(line)
    if not wait:
        console.print(f"follow it with: luceloop logs -f {job}", highlight=False)
        return
    _follow(cluster, job)


def list_upload(wanted: Wanted, included: Sequence[str]) -> None:
    """Print every file that would travel, and start nothing.

    Args:
        wanted: what would be run.
        included: files that travel whatever they look like.
    """
    parsed = wanted.parse()
    named = [*named_files(wanted.overrides, parsed), *included_files(included)]
    with tempfile.TemporaryDirectory(prefix="luceloop-") as folder:
        upload = gather(Path(folder), parsed, named)
    for place, size in sorted(upload.sizes.items()):
        print_line(f"{in_words(size):>9}  {place}")
    for line in _upload_lines(upload):
        print_line(line)


def _upload_lines(upload: Upload) -> Iterator[str]:
    """How much travels, and what stays here that might be missed."""
    if upload.sizes:
        count, largest = len(upload.sizes), upload.largest
        size, most = in_words(sum(upload.sizes.values())), in_words(upload.sizes[largest])
        files = f"{count} files" if count > 1 else "1 file"
        yield (
            f"uploads {files} of this folder, {size}, the largest {largest} ({most}); "
            "luceloop submit --list shows all"
        )
    if upload.secrets:
        names = ", ".join(map(str, upload.secrets))
        yield f"not uploaded, as they look like secrets: {names} (--include FILE takes one)"
    if upload.outside:
        names = ", ".join(map(str, upload.outside))
        yield f"not uploaded, as they are links out of this folder: {names}"


def _labels(
    cluster: Cluster, wanted: Wanted, config: SweepConfig | None, output: str
) -> tuple[str, dict[str, str]]:
    """The sweep that a job goes on with, and the labels of the job."""
    if config is not None:
        return "", jobs.metadata(new_sweep_id(), config.name, output)
    if wanted.extends is not None:
        sweep, name, output = jobs.extensible(cluster, wanted.extends, output)
        return sweep, jobs.metadata(new_sweep_id(), name, output)
    labels = jobs.resumable(cluster, wanted.resume or "", output)
    return labels[jobs.SWEEP], labels


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
