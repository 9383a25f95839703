"""The commands that talk to a cluster: submit, status, logs, stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from luceloop.core.errors import ConfigError
from luceloop.sweeps.cli.lazy import LazyModule
from luceloop.sweeps.cli.options import (
    accept_option,
    address_option,
    figures_option,
    hours_option,
    json_option,
    notify_option,
    overrides_argument,
    storage_option,
    sweep_argument,
    within,
)

if TYPE_CHECKING:
    from luceloop.core.io import places
    from luceloop.sweeps.cli import submitting
else:
    places = LazyModule("luceloop.core.io.places")
    submitting = LazyModule("luceloop.sweeps.cli.submitting")


@click.command()
@click.argument("config", metavar="CONFIG", required=False)
@overrides_argument
@address_option
@click.option("--resume", metavar="SWEEP", help="Go on with an interrupted sweep, without CONFIG.")
@click.option(
    "--extends",
    metavar="SWEEP",
    help="Extend a sweep by KEY=VALUE, without CONFIG: its record is on the cluster.",
)
@click.option("--no-wait", is_flag=True, help="Return once the job is there; do not follow it.")
@click.option(
    "--check/--no-check",
    default=True,
    help="Build every part of the sweep on this machine first.  [on]",
)
@figures_option
@accept_option
@hours_option
@click.option(
    "--output",
    metavar="DIR",
    help="Folder of all results on the cluster, which all nodes share unless --storage is given.  "
    "[$LUCELOOP_OUTPUT there]",
)
@storage_option
@notify_option
@click.option(
    "--include",
    "included",
    multiple=True,
    metavar="FILE",
    help="Also upload this file, though it looks like a secret or git ignores it; may be repeated.",
)
@click.option(
    "--list", "only_list", is_flag=True, help="List the files that would be uploaded, and end."
)
def submit(
    config: str | None,
    overrides: tuple[str, ...],
    address: str | None,
    resume: str | None,
    extends: str | None,
    no_wait: bool,
    check: bool,
    figures: bool,
    accept: bool,
    hours: float | None,
    output: str | None,
    storage: str | None,
    notify: str | None,
    included: tuple[str, ...],
    only_list: bool,
) -> None:
    """Run a sweep as a job of a Ray cluster.

    This folder's files travel along: code that CONFIG names, and files beneath it; not what git
    ignores, what looks like a secret, or what a link leads to elsewhere.
    """
    config, overrides = _arguments(config, overrides, resume, extends)
    if accept and resume is None:
        raise click.UsageError("--accept-changes is for --resume.")
    _check_places(output, storage)
    wanted = submitting.Wanted(config, resume, extends, within(overrides, hours), notify)
    if only_list:
        submitting.list_upload(wanted, included)
        return
    submitting.submit(
        wanted,
        address,
        wait=not no_wait,
        build=check,
        figures=figures,
        accept=accept,
        output=output or "",
        storage=storage,
        included=included,
    )


def _arguments(
    config: str | None, overrides: tuple[str, ...], resume: str | None, extends: str | None
) -> tuple[str | None, tuple[str, ...]]:
    """CONFIG and overrides: where a sweep is named, the first argument is an override, too."""
    first: tuple[str, ...] = ()
    if config is not None and (
        extends is not None or (resume and config.startswith(("budget.", "budget=")))
    ):
        first, config = (config,), None
    if sum(each is not None for each in (config, resume, extends)) != 1:
        raise click.UsageError("Give either CONFIG or --resume SWEEP, or --extends SWEEP.")
    return config, (*first, *overrides)


def _check_places(output: str | None, storage: str | None) -> None:
    if output and not output.startswith("/"):
        raise ConfigError("--output", output, "must be an absolute path on the cluster")
    if storage:
        places.refuse_password("--storage", storage)
        if not places.is_url(storage) and not storage.startswith("/"):
            allowed = "must be a URL or an absolute path on the cluster"
            raise ConfigError("--storage", storage, allowed)


@click.command()
@sweep_argument
@json_option
@address_option
def status(sweep: str, as_json: bool, address: str | None) -> None:
    """Say how a submitted sweep stands."""
    submitting.status(sweep, address, as_json=as_json)


@click.command()
@sweep_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@address_option
def logs(sweep: str, follow: bool, address: str | None) -> None:
    """Print what a submitted sweep prints."""
    submitting.logs(sweep, address, follow=follow)


@click.command()
@sweep_argument
@address_option
def stop(sweep: str, address: str | None) -> None:
    """Stop a submitted sweep; what is on record is kept."""
    submitting.stop(sweep, address)


COMMANDS = (submit, status, logs, stop)
