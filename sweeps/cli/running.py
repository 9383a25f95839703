"""The commands that run something here: run, resume, sync, validate, train-classifier."""

from __future__ import annotations

import sys

import torch

from luceloop.core.config.budget import BudgetConfig
from luceloop.core.config.naming import describe
from luceloop.core.config.parsing import override, parse_config, plain_config
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.config.webhooks import named_address
from luceloop.core.device import own_device
from luceloop.core.errors import ConfigError
from luceloop.core.io.places import try_writing
from luceloop.core.pool.scoring import build_scorer
from luceloop.sweeps.cli.reading import show
from luceloop.sweeps.cluster.kept import keep_files
from luceloop.sweeps.console import console, print_figures, print_json, print_line, print_remark
from luceloop.sweeps.costs.budget import check_budget, how_to_go_on
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.holding import held
from luceloop.sweeps.record.mirror import check_move, find_or_fetch
from luceloop.sweeps.results import finish
from luceloop.sweeps.run.check import check, lacks_compiler
from luceloop.sweeps.run.driver import Outcome, run_sweep
from luceloop.sweeps.run.foreseen import foresee_here
from luceloop.sweeps.run.progress import duration
from luceloop.sweeps.run.start import choose_address, create, extension
from luceloop.sweeps.run.summary import in_words, write_answers
from luceloop.sweeps.search.space import reached_points
from luceloop.sweeps.tracking import delivery
from luceloop.sweeps.tracking.delivery import Delivery


def start(
    config: SweepConfig, output: Output, *, figures: bool, identity: str | None = None
) -> None:
    """Check a configuration and run it as a new sweep, with an id chosen before if there is one."""
    folder = create(config, output, identity)
    line = f"sweep {folder.id}  {config.name}: {config.point_count} points"
    console.print(line, highlight=False)
    console.print(describe(config), style="dim", highlight=False)
    if config.extends:
        print_line(f"extends {config.extends}")
    run(folder, output, figures=figures)


def extend(
    wanted: str,
    overrides: list[str],
    output: Output,
    *,
    figures: bool,
    identity: str | None = None,
    keep: bool = False,
) -> None:
    """Run the sweep that `wanted` names with other settings, and take its rows where they stand.

    Args:
        wanted: the sweep.
        overrides: `key=value`.
        output: the output folder.
        figures: whether to draw at the end.
        identity: the new sweep's id, where one was chosen before.
        keep: whether files beneath the current folder will be gone, and copies are kept.
    """
    config, where = extension(wanted, overrides, output)
    if keep:
        config = keep_files(config, where)
    start(config, where, figures=figures, identity=identity)


def resume(
    wanted: str,
    output: Output,
    limits: list[str],
    *,
    figures: bool,
    moved: bool,
    accept: bool,
    notify: str | None = None,
) -> None:
    """Run what is left of the sweep that `wanted` names.

    Args:
        wanted: the sweep.
        output: the output folder.
        limits: `budget.KEY=VALUE`, the budget of this run where it is another one.
        figures: whether to draw at the end.
        moved: whether its storage is from now on that of `output`.
        accept: whether to go on although files of the user's have changed since it began.
        notify: whom it tells of itself from now on; whom it told before if not given.
    """
    address = None if notify is None else named_address("--notify", notify)
    if moved:
        try_writing("--storage", output.storage)
    folder = find_or_fetch(output, wanted)
    choose_address(folder, address)
    if moved:
        with held(folder):
            check_move(folder, output.storage)
            folder.keep_storage(output.storage)
    elif folder.has_own_storage:
        try_writing("--storage", folder.storage)
    run(folder, output, figures=figures, accept=accept, limits=_limits(folder, limits))


def _limits(folder: SweepFolder, given: list[str]) -> BudgetConfig:
    """The budget of a sweep with other limits, which are checked."""
    for assignment in given:
        key, _, value = assignment.partition("=")
        if key.partition(".")[0] != "budget":
            allowed = "resume changes nothing but its budget; for all else: luceloop extend"
            raise ConfigError(key, value, allowed)
    config = parse_config(override(plain_config(folder.config()), given), recorded=True)
    check_budget(config, reached_points(config))
    return config.budget or BudgetConfig()  # `budget=null` lifts all limits


def run(
    folder: SweepFolder,
    output: Output,
    *,
    figures: bool,
    accept: bool = False,
    limits: BudgetConfig | None = None,
) -> None:
    """Run what is left of a sweep, show what came of it, and exit by it."""
    outcome = run_sweep(folder, output, console, accept=accept, limits=limits)
    found = finish(outcome.delivery, output, folder, figures=figures, remark=print_remark)
    verdicts = show(folder)
    if verdicts:
        write_answers(folder, verdicts)
    delivered = print_missing(found, folder, output)
    if outcome.unfinished and not outcome.stopped:
        print_line(f"go on with: luceloop resume {folder.id}{_where(output)}")
        sys.exit(130)
    if found.undelivered:
        _print_stopped(outcome, output)
        sys.exit(1)
    print_figures(sorted(folder.figures.glob("*.png")))
    if folder.report.exists():
        console.print(f"report {folder.report}", highlight=False, soft_wrap=True)
    print_line(f"compare the points in MLflow with: luceloop ui{_where(output)}")
    _print_stopped(outcome, output)
    if outcome.failed or not delivered:
        sys.exit(1)


def _print_stopped(outcome: Outcome, output: Output) -> None:
    """Print what limit was reached, if one was, and how to go on: the line that `status` has."""
    if not outcome.stopped:
        return
    raised = how_to_go_on(outcome.stopped)
    command = f"luceloop resume {outcome.folder.id}{_where(output)}{raised}"
    print_line(f"stopped at its budget: {outcome.stopped}; go on with: {command}")


def sync(folder: SweepFolder, output: Output, *, figures: bool) -> None:
    """Give MLflow what it lacks of a sweep, and exit by whether it has all."""
    found = delivery.sync(folder, output)
    found = finish(found, output, folder, figures=figures, remark=print_remark)
    if not print_missing(found, folder, output):
        sys.exit(1)
    print_line(f"MLflow at {output.shown_uri} has all {found.events} events of {folder.id}")


def print_missing(found: Delivery, folder: SweepFolder, output: Output) -> bool:
    """Print in one line what MLflow lacks of a sweep, and how to deliver it; True if nothing."""
    if found.is_whole:
        return True
    print_line(
        f"MLflow at {output.shown_uri} {found.lack} {folder.id} "
        f"({found.error}); deliver them with: luceloop sync {folder.id}{_where(output)}"
    )
    return False


def _where(output: Output) -> str:
    """The option that names an output folder to the next command, where it must be named."""
    return "" if output == Output.of(None) else f" --output {output.path}"


def validate(config: SweepConfig, output: Output, *, as_json: bool = False) -> None:
    """Check a configuration, and say how many points it has and what they will cost."""
    points, remark = check(config), ""
    if lacks_compiler(config):
        remark = (
            "learner.compile=true: torch.compile needs a C compiler on every node, and this "
            "machine has none; install one (apt-get install gcc), or set learner.compile=false"
        )
    estimate = foresee_here(config, output)
    if as_json:
        remarks = [each for each in (remark, estimate.remark) if each]
        told = {"points": points, "description": describe(config), "remarks": remarks}
        print_json(told | {"estimate": estimate.plain()})
        return
    print_remark(remark)
    print_remark(estimate.remark)
    console.print(f"ok: {points} points. {describe(config)}", highlight=False)
    for line in estimate.lines(in_words, duration):
        print_line(line)


def train_classifier(config: SweepConfig, output: Output) -> None:
    """Print the accuracy of a configuration's classifier, which is trained if it never was."""
    torch.set_num_threads(config.point.resources.threads)
    classifier = build_scorer(config.point, own_device(), output.cache).classifier
    if classifier is None:
        raise ConfigError("classifier", None, "must be set, like classifier.name=small_cnn")
    share = 100 * classifier.trained.accuracy
    console.print(
        f"{share:.2f} % of held-out images right; kept in {output.cache}", highlight=False
    )
