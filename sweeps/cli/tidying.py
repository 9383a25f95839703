"""The commands that keep an output folder tidy: note, rm, gc."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from luceloop.core.errors import ConfigError
from luceloop.sweeps.cli.lazy import LazyModule
from luceloop.sweeps.cli.options import output_of, output_option, sweep_argument
from luceloop.sweeps.console import console, print_line

if TYPE_CHECKING:
    from luceloop.sweeps.record.folders import SweepFolder
    from luceloop.sweeps.run import summary, tidying
else:
    summary = LazyModule("luceloop.sweeps.run.summary")
    tidying = LazyModule("luceloop.sweeps.run.tidying")

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command()
@sweep_argument
@click.argument("text", required=False)
@click.option("--tag", "tags", multiple=True, metavar="WORD", help="A tag; may be given again.")
@output_option
def note(sweep: str, text: str | None, tags: tuple[str, ...], output: Path | None) -> None:
    """Write a note about a sweep, or tags, in place of earlier ones; without either, print them."""
    folder = output_of(output).find(sweep)
    before = summary.read_note(folder)
    if text is None and not tags:
        print_line(before.text or f"no note about {folder.id}")
        if before.tags:
            print_line(f"tags: {', '.join(before.tags)}")
        return
    kept = before.text if text is None else text
    summary.write_note(folder, summary.Note(kept, tags or before.tags))


@click.command()
@sweep_argument
@yes_option
@click.option("--force", is_flag=True, help="Delete it though its storage does not answer.")
@output_option
def rm(sweep: str, yes: bool, force: bool, output: Path | None) -> None:
    """Delete a sweep: its record, its figures, its checkpoints, and its runs in MLflow."""
    where = output_of(output)
    folder = where.find(sweep)
    print_line(f"{folder.id}  {_described(folder)}")
    for other in tidying.extended_by(where, folder):
        print_line(f"{other} extends it, and keeps what it has taken")
    if not yes:
        click.confirm("Delete it?", abort=True)
    reason = tidying.remove_sweep(where, folder, force=force)
    print_line(f"deleted {folder.id}")
    if reason:
        print_line(f"MLflow at {where.shown_uri} keeps its runs: {reason}")
        sys.exit(1)


def _described(folder: SweepFolder) -> str:
    """What is to be deleted, in words; why that is not known where it cannot be read."""
    size = summary.in_words(summary.size_of(folder.path))
    try:
        told = summary.summarize(folder)
    except ConfigError as error:
        return f"cannot be read: {error.allowed}, {size}"
    return f"{told.name}: {told.points} points, {told.state}, {size}"


@click.command()
@click.argument("kinds", nargs=-1, type=click.Choice(["attempts", "states", "cache"]))
@yes_option
@output_option
def gc(kinds: tuple[str, ...], yes: bool, output: Path | None) -> None:
    """Delete what no result needs: old attempts, kept states, caches; all of them if none is named.

    Says what there is, how much it takes and what is lost with it, and asks. Nothing of a sweep
    that is being run is touched.
    """
    where, chosen = output_of(output), kinds or tidying.KINDS
    found = tidying.unneeded(where, chosen)
    if not found:
        print_line("nothing to delete")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("kind", "size", "folder", "lost with it"):
        table.add_column(column, overflow="fold")
    for each in found:
        cells = each.kind, summary.in_words(each.size), str(each.folder), each.costs
        table.add_row(*cells)
    console.print(table)
    total = summary.in_words(sum(each.size for each in found))
    if not yes:
        click.confirm(f"Delete these {total}?", abort=True)
        still = {str(each.folder) for each in tidying.unneeded(where, chosen)}
        found = [each for each in found if str(each.folder) in still]  # a sweep may have begun
    tidying.remove(found)
    print_line(f"deleted {total}")


COMMANDS = (note, rm, gc)
