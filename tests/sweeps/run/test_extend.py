"""Sweeps that grow: what is on record is taken, and the table is that of a fresh run."""

from __future__ import annotations

import contextlib
import math
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from luceloop.core.config.parsing import parse_config, plain_config
from luceloop.core.config.sweep import SweepConfig
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.run.reuse import row_key
from tests.processes import luceloop
from tests.support import QUICK, SMALL, Cli, curves, latest, swept
from tests.sweeps.run.test_kills import Killer

BASE = ["run", "mog", *SMALL, "learner.steps=10", "learner.initial_steps=20", QUICK]
BASE += ["search.lam.grid=[1,inf]"]
SHORT = [*BASE, "seeds=[1,2]", "iterations=3", "search.beta.grid=[0,5]"]
MORE = ["seeds=[2,3,1]", "iterations=5", "search.beta.grid=[0,5,10]"]
SEEDS, LAST, POINTS = (2, 3, 1), 5, 6
TAKEN = 4 * 2 * 3
"""Rows: of four points and two seeds all iterations but the last, whose pool is not curated."""


@pytest.fixture(scope="module")
def short(local_ray, tmp_path_factory) -> Path:
    return swept(tmp_path_factory.mktemp("short"), *SHORT)


@pytest.fixture(scope="module")
def fresh(local_ray, tmp_path_factory) -> Path:
    return swept(tmp_path_factory.mktemp("fresh"), *BASE, *MORE)


@pytest.fixture
def grown(short, output) -> Path:
    """A copy of the short sweep's output folder."""
    shutil.copytree(short, output, dirs_exist_ok=True)
    return output


def computed(output: Path) -> int:
    """Rows that the newest sweep did not take from another."""
    points = Ledger(latest(output).ledger, writable=False).points.values()
    seeds = len(latest(output).config().point.seeds)
    return sum(seeds - len(p.reused.get(t, ())) for p in points for t in p.rows)


def _assert_same(output: Path, fresh: Path) -> None:
    pd.testing.assert_frame_equal(curves(output), curves(fresh), check_exact=True)
    for point in range(POINTS):
        for t in range(LAST + 1):
            files = [latest(folder).preview(point, t) for folder in (output, fresh)]
            if t == 0:
                files += [latest(folder).initial_reward(point) for folder in (output, fresh)]
            for ours, theirs in zip(files[::2], files[1::2], strict=True):
                with np.load(ours) as found, np.load(theirs) as expected:
                    assert found.files == expected.files
                    for name in expected.files:
                        np.testing.assert_array_equal(found[name], expected[name])


def test_more_seeds_points_and_iterations_equal_a_fresh_run(grown, fresh, cli: Cli):
    before = latest(grown).id
    ran = cli("extend", before, *MORE, QUICK, "--output", str(grown))
    assert ran.code == 0, ran.out + ran.err
    assert latest(grown).config().extends == before
    total = POINTS * len(SEEDS) * (LAST + 1)
    assert f"extends {before}" in ran.out
    assert f"{TAKEN} of {total} rows are on record and taken; they took" in ran.out
    assert f"{total - TAKEN} rows are to be run" in ran.out
    assert computed(grown) == total - TAKEN
    _assert_same(grown, fresh)


def test_an_extension_can_be_extended_and_a_run_takes_all_of_it(grown, fresh, cli: Cli):
    ran = cli("extend", "latest", "seeds=[2,3,1]", QUICK, "--output", str(grown))
    assert ran.code == 0, ran.out + ran.err
    assert computed(grown) == 4 * 4  # the third seed's
    ran = cli("extend", "latest", *MORE, QUICK, "--output", str(grown))
    assert ran.code == 0, ran.out + ran.err
    # States of two sweeps go on together: what each had computed itself.
    assert computed(grown) == POINTS * 3 * (LAST + 1) - 4 * 3 * 3
    _assert_same(grown, fresh)
    again = cli(*BASE, *MORE, "--reuse", "--output", str(grown))
    assert again.code == 0, again.out + again.err
    assert computed(grown) == 0
    _assert_same(grown, fresh)


def test_nothing_is_taken_of_other_numbers_and_a_line_says_why(grown, fresh, cli: Cli, caplog):
    folder = latest(grown)
    text = folder.provenance.read_text()
    folder.provenance.write_text(text.replace('"numba": "', '"numba": "0.'))
    ran = cli("extend", folder.id, *MORE, QUICK, "--output", str(grown))
    assert ran.code == 0, ran.out + ran.err
    assert f"no row of {folder.id} is taken: it was run with numba 0." in caplog.text
    assert computed(grown) == POINTS * len(SEEDS) * (LAST + 1)
    pd.testing.assert_frame_equal(curves(grown), curves(fresh), check_exact=True)


def test_without_states_a_longer_loop_begins_anew(grown, fresh, cli: Cli):
    shutil.rmtree(latest(grown).path / "states")
    ran = cli("extend", "latest", *MORE, QUICK, "--output", str(grown))
    assert ran.code == 0, ran.out + ran.err
    assert computed(grown) == POINTS * len(SEEDS) * (LAST + 1)
    pd.testing.assert_frame_equal(curves(grown), curves(fresh), check_exact=True)


def test_a_sweep_that_there_is_not_cannot_be_extended(output, cli: Cli):
    ran = cli(*SHORT, "extends=20250101-000000000-0000", "--output", str(output))
    assert ran.code == 2 and ran.err.count("\n") == 1 and "extends" in ran.err


def test_infinite_arguments_of_plugins_are_told_apart_and_written_down():
    def config(cap: float) -> SweepConfig:
        reward = {"name": "my_rewards:capped", "args": {"cap": cap}}
        return parse_config({"name": "x", "data": {"name": "two_moons"}, "reward": reward})

    keys = {row_key(config(cap).point, "cpu") for cap in (math.inf, -math.inf, 1.0)}
    assert len(keys) == 3
    text = yaml.safe_dump(plain_config(config(-math.inf)))
    assert parse_config(yaml.safe_load(text)) == config(-math.inf)


def test_keep_none_keeps_no_states(output, cli: Cli):
    ran = cli(*SHORT, "learner={name: empirical}", "keep=none", "--output", str(output))
    assert ran.code == 0, ran.out + ran.err
    assert not (latest(output).path / "states").exists()


class LateKiller(Killer):
    """Kills once the newest of two sweeps has some iterations on record."""

    def run(self) -> None:
        while len(Output(self._output).sweeps()) < 2 or _rows(latest(self._output)) < 4:
            time.sleep(0.02)
        super().run()


def _rows(folder: SweepFolder) -> int:
    points = Ledger(folder.ledger, writable=False).points.values()
    return sum(len(point.rows) for point in points)


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("pack", [1, 6])
def test_a_killed_trial_changes_nothing_of_an_extension(pack, grown, fresh, cli: Cli):
    killer = LateKiller(grown, "ray::ResourceTrainable")
    killer.start()
    ran = cli("extend", "latest", *MORE, f"resources.pack={pack}", QUICK, "--output", str(grown))
    killer.join(10)
    assert killer.killed and ran.code == 0, ran.out + ran.err
    assert computed(grown) == POINTS * len(SEEDS) * (LAST + 1) - TAKEN
    _assert_same(grown, fresh)


@dataclass(frozen=True)
class Phase:
    """A phase of an extension, by what is seen of it from outside."""

    begins: Callable[[SweepFolder, psutil.Process], bool]
    """Whether the sweep, which has its folder, is in it or beyond."""
    lasts: Callable[[SweepFolder], bool]
    """Whether it has not left it: asked once the driver is dead."""
    figures: bool = False
    locked: bool = False
    """Whether MLflow's database takes nothing until the driver is dead."""


def _started(driver: psutil.Process) -> bool:
    """Whether a driver has begun to start Ray."""
    names = [child.name() for child in driver.children()]
    return any("gcs_server" in name or "raylet" in name for name in names)


def _ended(folder: SweepFolder) -> int:
    points = Ledger(folder.ledger, writable=False).points.values()
    return sum(point.status is not None for point in points)


def _has(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _lacks_rows(folder: SweepFolder) -> bool:
    return _rows(folder) < POINTS * (LAST + 1)


PHASES = {
    "planning": Phase(lambda sweep, driver: True, lambda sweep: not sweep.ledger.exists()
                      or not sweep.ledger.read_bytes()),
    "starting Ray": Phase(lambda sweep, driver: _started(driver), lambda sweep: not _rows(sweep)),
    "first rows": Phase(lambda sweep, driver: _rows(sweep) >= 1,
                        lambda sweep: _rows(sweep) < POINTS * LAST // 2),
    "amid rows": Phase(lambda sweep, driver: _rows(sweep) >= POINTS * LAST // 2, _lacks_rows),
    "states": Phase(lambda sweep, driver: _has(sweep.path / "states"),
                    lambda sweep: _ended(sweep) < POINTS),
    "delivery": Phase(lambda sweep, driver: _ended(sweep) == POINTS,
                      lambda sweep: not (sweep.path / "delivered").exists(), locked=True),
    "figures": Phase(lambda sweep, driver: _has(sweep.figures),
                     lambda sweep: not sweep.report.exists(), figures=True),
}  # fmt: skip
"""In the order in which they come."""


def _kill_in(phase: Phase, output: Path) -> None:
    """Extend the latest sweep, and kill the driver in a phase of that."""
    options = [] if phase.figures else [QUICK]
    more = [*MORE, f"resources.pack={POINTS}"]  # one trial, which starts sooner than several
    driver = luceloop(output, "extend", "latest", *more, *options)
    process, before = psutil.Process(driver.pid), len(Output(output).sweeps())
    with _locked(output / "mlflow.db") if phase.locked else contextlib.nullcontext():
        while len(Output(output).sweeps()) == before or not phase.begins(latest(output), process):
            assert driver.poll() is None, driver.communicate()[0]
            time.sleep(0.005)
        driver.kill()
        driver.communicate()
    assert phase.lasts(latest(output))


@contextlib.contextmanager
def _locked(database: Path) -> Iterator[None]:
    """Let nobody write to a database."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("name", PHASES)
def test_a_driver_killed_in_any_phase_changes_nothing_of_an_extension(name, grown, fresh, cli: Cli):
    phase = PHASES[name]
    _kill_in(phase, grown)
    ran = cli("resume", "latest", *([] if phase.figures else [QUICK]), "--output", str(grown))
    assert ran.code == 0, ran.out + ran.err
    assert computed(grown) == POINTS * len(SEEDS) * (LAST + 1) - TAKEN
    _assert_same(grown, fresh)
    assert not phase.figures or latest(grown).report.exists()


@pytest.mark.slow
def test_another_machine_extends_what_is_in_the_storage(fresh, tmp_path, cli: Cli):
    there = ["--storage", str(tmp_path / "storage")]
    ran = cli(*SHORT, *there, "--output", str(tmp_path / "first"))
    assert ran.code == 0, ran.out + ran.err
    identity = latest(tmp_path / "first").id
    shutil.rmtree(tmp_path / "first")
    output = tmp_path / "second"
    ran = cli("extend", identity, *MORE, QUICK, *there, "--output", str(output))
    assert ran.code == 0, ran.out + ran.err
    assert computed(output) == POINTS * len(SEEDS) * (LAST + 1) - TAKEN
    _assert_same(output, fresh)
