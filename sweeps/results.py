"""What is made of a sweep that has ended: its figures and its report, for disk and for MLflow."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from luceloop.analysis.drawing.figures import draw_all
from luceloop.analysis.pages.report import write_report
from luceloop.analysis.reading.results import Start, load_results
from luceloop.core.errors import LoopError, StorageError, one_line
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.tracking.delivery import Delivery, attach

if TYPE_CHECKING:
    from luceloop.sweeps.run.driver import Outcome  # brings Ray, which drawing does without


def draw_and_report(
    output: Output,
    folder: SweepFolder,
    file: Path,
    start: Start = "law",
    remark: Callable[[str], None] = lambda text: None,
    figures: Collection[str] | None = None,
) -> list[Path]:
    """Draw a sweep's figures and write its report.

    Args:
        output: the output folder.
        folder: the sweep's folder.
        file: of the report.
        start: where forecasts start.
        remark: is told why there are no forecasts, or an empty text.
        figures: names of those that are drawn; all if not given.

    Returns:
        The files written: the report last, after the figures.
    """
    results = load_results(output.tracking_uri, folder.id, start, folder.cache)
    remark(results.remark)
    drawn = draw_all(results, folder.figures, names=figures)
    files = [path for each in drawn for path in each.files]
    return [*files, write_report(results, drawn, file)]


def finish(
    delivery: Delivery,
    output: Output,
    folder: SweepFolder,
    *,
    figures: bool,
    remark: Callable[[str], None] = lambda text: None,
) -> Delivery:
    """Draw a sweep that has ended, attach what was drawn in MLflow, and mark it there as ended.

    Args:
        delivery: what MLflow has of it; where rows are missing, nothing is drawn.
        output: the output folder.
        folder: the sweep's folder.
        figures: whether to draw.
        remark: is told why there are no forecasts, or an empty text.

    Returns:
        What MLflow has then.
    """
    if not delivery.is_whole or not delivery.figures:
        return delivery
    points = Ledger(folder.ledger, writable=False).points.values()
    drawn: list[Path] = []
    if figures and any(point.rows for point in points):
        try:
            drawn = draw_and_report(output, folder, folder.report, remark=remark)
        except Exception as error:  # what is on record stays; `sync` draws and attaches again
            return replace(delivery, error=one_line(error))
    return attach(delivery, output, folder, drawn)


def check_outcome(outcome: Outcome, delivery: Delivery, output: Output) -> None:
    """Raise, for callers from Python, what the command says by its exit code.

    Raises:
        KeyboardInterrupt: if the sweep was interrupted.
        StorageError: if the tracking store does not have all of it.
        LoopError: if points failed; what the others came to can be loaded.
    """
    sweep, failed = outcome.folder.id, outcome.failed
    if outcome.unfinished and not outcome.stopped:
        raise KeyboardInterrupt(f"go on with: luceloop resume {sweep}")
    if not delivery.is_whole:
        raise StorageError(f"MLflow at {output.shown_uri} lacks a part: {delivery.error}")
    if failed:
        raise LoopError(
            f"{len(failed)} of {len(outcome.points)} points failed, the first because: "
            f"{failed[0].reason}; load the others with luceloop.load({sweep!r})"
        )
