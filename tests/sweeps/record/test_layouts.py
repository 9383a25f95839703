"""Sweeps of every released layout are read, and one that cannot be stands in nobody's way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from luceloop.analysis.reading.curves import load_table
from luceloop.core.config.parsing import parse_config, plain_config
from luceloop.core.errors import ConfigError
from luceloop.core.io.plain import MOST_CHARACTERS
from luceloop.core.loop.initial import FORMAT
from luceloop.sweeps.costs.pace import NEWEST
from luceloop.sweeps.record.events import decode
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.record.provenance import versions
from luceloop.sweeps.record.table import recorded_table
from luceloop.sweeps.record.versions import MIGRATIONS, SCHEMA
from luceloop.sweeps.run.reuse import Reuse
from luceloop.sweeps.run.start import extension
from luceloop.sweeps.search.space import check_space
from tests.support import ALONE, QUICK, Cli

LAYOUTS = sorted((Path(__file__).parent / "layouts").iterdir())
"""Each an output folder with one sweep, as the version of that day wrote it."""
NEWEST_LAYOUT = LAYOUTS[-1]
REWARDS = {
    0: [-6.051231641570727, -5.90821403414011, -5.729502645631631],
    1: [-6.051231641570727, -5.201739014685154, -4.632433427870273],
}
"""Mean over seeds of reward_mean, by point and iteration, which is the same in all of them."""


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def layout(request: pytest.FixtureRequest, output: Path) -> SweepFolder:
    """A sweep of a layout in an output folder whose store has nothing of it."""
    shutil.copytree(request.param / "sweeps", output / "sweeps")
    return Output(output).find("latest")


@pytest.fixture
def newest(output: Path) -> SweepFolder:
    shutil.copytree(NEWEST_LAYOUT / "sweeps", output / "sweeps")
    folder = Output(output).find("latest")
    plain = json.loads(folder.provenance.read_text())  # as if it were run with today's packages
    folder.provenance.write_text(json.dumps(plain | {"versions": versions(), "format": FORMAT}))
    folder.environment.write_text(json.dumps({"packages": versions()}))
    return folder


def means(table: pd.DataFrame) -> dict[int, list[float]]:
    found = table[table["metric"] == "reward_mean.mean"].sort_values("iteration")
    return {int(str(i)): list(rows["value"]) for i, rows in found.groupby("point")}


def assert_rewards(table: pd.DataFrame) -> None:
    found = means(table)
    assert {i: pytest.approx(values, abs=1e-9) for i, values in found.items()} == REWARDS


def test_there_are_layouts_from_the_first_version_to_this_one():
    assert len(LAYOUTS) >= 3
    first, last = (next(LAYOUTS[i].glob("sweeps/*/config.yaml")) for i in (0, -1))
    assert "schema" not in first.read_text()
    assert last.read_text().startswith(f"# luceloop schema {SCHEMA}\n")


def test_a_sweep_is_listed_shown_and_exported(layout: SweepFolder, cli: Cli, tmp_path: Path):
    where = ["--output", str(layout.path.parents[1])]
    listed = cli("list", "--json", *where)
    assert listed.code == 0 and not listed.err
    [told] = json.loads(listed.out)
    assert (told["name"], told["points"], told["seeds"], told["state"]) == ("mog", 2, 2, "done")
    shown = json.loads(cli("show", "latest", "--json", *where).out)
    ends = [point["metrics"]["reward_mean.mean"] for point in shown["points"]]
    assert ends == pytest.approx([REWARDS[0][-1], REWARDS[1][-1]], abs=1e-9)
    assert cli("show", "mog", *where).code == 0
    assert cli("export", "mog", "-o", str(tmp_path / "table.csv"), *where).code == 0
    assert_rewards(recorded_table(layout))


def test_a_sweep_that_has_ended_is_resumed_to_what_it_is(layout: SweepFolder, cli: Cli):
    """Which gives a store what it lacks, and needs no Ray."""
    output = layout.path.parents[1]
    before = layout.ledger.read_bytes()
    ran = cli("resume", "latest", QUICK, "--output", str(output))
    assert ran.code == 0, ran.err
    assert layout.ledger.read_bytes() == before
    assert layout.config_file.read_text().startswith(f"# luceloop schema {SCHEMA}\n# ")
    assert_rewards(load_table(Output(output).tracking_uri, layout.id))


@pytest.mark.parametrize("older", LAYOUTS[:-1], ids=lambda layout: layout.name)
def test_one_that_has_not_ended_goes_on_if_other_numbers_are_accepted(
    older: Path, output: Path, cli: Cli, local_ray: None
):
    shutil.copytree(older / "sweeps", output / "sweeps")
    folder, where = Output(output).find("latest"), ["--output", str(output)]
    whole, lines = means(recorded_table(folder)), folder.ledger.read_bytes().splitlines(True)
    folder.ledger.write_bytes(b"".join(lines[:-2]))  # without the last iteration and its end
    ran = cli("resume", "latest", QUICK, *where)
    assert ran.code == 2 and ran.err.count("\n") == 1 and "by an older version" in ran.err
    ran = cli("resume", "latest", QUICK, "--accept-changes", *where)
    assert ran.code == 0, ran.err
    assert means(recorded_table(folder)) == whole  # these numbers are no others
    numbers = [decode(line).number for line in folder.ledger.read_bytes().splitlines()]
    assert numbers == [*[None] * (len(lines) - 2), len(lines) - 2, len(lines) - 1]


def test_a_sweep_of_the_first_version_is_extended(output: Path, cli: Cli, local_ray: None):
    shutil.copytree(LAYOUTS[0] / "sweeps", output / "sweeps")
    ran = cli("extend", "latest", "seeds=[1,2,3]", ALONE, QUICK, "--output", str(output))
    assert ran.code == 0, ran.err
    points = Ledger(Output(output).find("latest").ledger, writable=False).points.values()
    assert [len(point.rows[2]["reward_mean"]) for point in points] == [3, 3]


def unknown_key(folder: SweepFolder) -> None:
    text = folder.config_file.read_text()
    folder.config_file.write_text(text.replace("learner:", "lerner:"))


def newer(folder: SweepFolder) -> None:
    text = folder.config_file.read_text().replace(f"schema {SCHEMA}", f"schema {SCHEMA + 1}")
    folder.config_file.write_text(text)


def damaged_ledger(folder: SweepFolder) -> None:
    folder.ledger.write_bytes(b"\0\n" + folder.ledger.read_bytes())


UNREADABLE: dict[str, tuple[Callable[[SweepFolder], object], str]] = {
    "unknown key": (unknown_key, "is of another version: lerner="),
    "newer": (newer, f"was made by a newer Luceloop (schema {SCHEMA + 1}"),
    "garbage": (lambda f: f.config_file.write_bytes(b"\xff\xfe{" * 9), "is not YAML"),
    "not YAML": (lambda f: f.config_file.write_text("a: [1"), "is not YAML"),
    "deep": (lambda f: f.config_file.write_text("[" * 5000), "config.yaml"),
    "empty": (lambda f: f.config_file.write_text(""), "holds no configuration"),
    "a list": (lambda f: f.config_file.write_text("[1, 2]"), "holds no configuration"),
    "ledger": (damaged_ledger, "ledger.jsonl, line 1, is no JSON"),
    "note": (lambda f: f.note.write_text("[]"), "note.json is damaged"),
}


@pytest.fixture(params=UNREADABLE)
def beside(request: pytest.FixtureRequest, newest: SweepFolder) -> tuple[SweepFolder, str, str]:
    """A newer sweep that cannot be read beside one that can, how it is, and why."""
    spoil, reason = UNREADABLE[request.param]
    folder = SweepFolder(newest.path.parent / "20991231-235959000-0af1")
    shutil.copytree(newest.path, folder.path)
    spoil(folder)
    return folder, request.param, reason


@pytest.fixture
def where(newest: SweepFolder) -> list[str]:
    return ["--output", str(newest.path.parents[1])]


def test_what_cannot_be_read_is_listed_with_the_reason(newest, beside, where, cli: Cli):
    spoilt, _, reason = beside
    ran = cli("list", *where)
    assert ran.code == 0 and newest.id in ran.out and spoilt.id not in ran.out
    assert ran.err.startswith(f"{spoilt.id} cannot be read: ") and ran.err.count("\n") == 1
    assert reason in ran.err
    ran = cli("show", spoilt.id, "--json", *where)
    assert ran.code == 2 and reason in ran.err and ran.err.count("\n") == 1


def test_others_are_found_by_name_and_id(newest, beside, where, cli: Cli, tmp_path):
    _, kind, _ = beside
    readable = kind in ("ledger", "note")  # by its configuration, which says what it is
    assert cli("show", newest.id, *where).code == 0
    if not readable:
        assert Output(newest.path.parents[1]).find_readable("latest").id == newest.id
        assert cli("show", "mog", *where).code == 0
        assert cli("export", "latest", "-o", str(tmp_path / "t.csv"), *where).code == 0


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("unknown key", "latest"),
        ("unknown key", "mog"),
        ("newer", "latest"),
        ("newer", "mog"),
        ("not YAML", "latest"),  # which says no name
    ],
)
def test_no_older_sweep_is_changed_in_place_of_one_that_cannot_be_read(
    kind: str, wanted: str, newest, where, cli: Cli
):
    spoil, reason = UNREADABLE[kind]
    spoilt = SweepFolder(newest.path.parent / "20991231-235959000-0af1")
    shutil.copytree(newest.path, spoilt.path)
    spoil(spoilt)
    before = contents(newest.path)
    for command in (["resume", wanted], ["extend", wanted, "seeds=[1,2,3]"], ["sync", wanted]):
        ran = cli(*command, *where)
        assert ran.code == 2 and spoilt.id in ran.err and reason in ran.err
        assert ran.err.count("\n") == 1
    assert cli("note", wanted, "mine", *where).code == 0
    assert spoilt.note.exists()
    ran = cli("rm", wanted, "--yes", *where)
    assert ran.code == 0 and f"deleted {spoilt.id}" in ran.out, ran.err
    assert not spoilt.path.exists() and contents(newest.path) == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_others_are_extended_and_priced_and_their_rows_taken(newest, beside, where, cli: Cli):
    spoilt, _, _ = beside
    output = Output(newest.path.parents[1])
    for i in range(NEWEST):  # more than are ever asked
        shutil.copytree(spoilt.path, spoilt.path.with_name(f"20991231-2359590{i:02d}-0af2"))
    config, _ = extension(newest.id, ["seeds=[1,2,3]"], output)
    grown = output.create_sweep(config, "more", "20991231-235959999-ffff")
    rows = Reuse(grown, config, "cpu").known(check_space(config)[0])
    assert rows == {1: 3, 2: 3}
    file = newest.path.parents[1] / "again.yaml"
    file.write_text(yaml.safe_dump(plain_config(newest.config())))
    ran = cli("validate", str(file), "--json", *where)
    assert ran.code == 0 and "earlier" in json.loads(ran.out)["estimate"]["basis"]


def test_what_cannot_be_read_can_be_deleted_and_keeps_nothing_from_being_tidied(
    newest, beside, where, cli: Cli
):
    spoilt, _, reason = beside
    (newest.tune / "attempt-0001").mkdir(parents=True)
    (newest.tune / "attempt-0001" / "file").write_text("an old checkpoint")
    assert cli("gc", "--yes", *where).code == 0
    assert not newest.tune.exists() and spoilt.path.exists()
    ran = cli("rm", spoilt.id, "--yes", *where)
    assert ran.code == 0 and reason in ran.out, ran.err
    assert not spoilt.path.exists() and newest.path.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"events": 1}', b"\xff" * 9])
def test_a_damaged_file_of_answers_is_left_out(newest, where, cli: Cli, content, caplog):
    newest.answers.write_bytes(content)
    ran = cli("list", "--json", *where)
    assert ran.code == 0 and json.loads(ran.out)[0]["claims"] is None
    assert str(newest.answers) in caplog.text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": 1}', b"\xff" * 9])
def test_a_damaged_file_of_provenance_is_named(newest, where, cli: Cli, content):
    newest.provenance.write_bytes(content)
    ran = cli("resume", "latest", QUICK, *where)
    assert ran.code == 2 and f"{newest.provenance} is damaged" in ran.err
    assert ran.err.count("\n") == 1


def test_an_older_configuration_is_read_by_a_migration(newest, monkeypatch):
    """Should a key be renamed: here `learner` as it might once have been called."""
    text = newest.config_file.read_text().replace("learner:", "lerner:")
    newest.config_file.write_text(text.replace(f"schema {SCHEMA}", "schema 1"))
    with pytest.raises(ConfigError, match=r"lerner=.*did you mean learner"):
        newest.config()

    def rename(plain):
        return {"learner" if key == "lerner" else key: value for key, value in plain.items()}

    monkeypatch.setitem(MIGRATIONS, 1, rename)
    assert newest.config().point.learner.name == "empirical"
    newest.upgrade()
    assert newest.config_file.read_text().startswith(f"# luceloop schema {SCHEMA}\n")
    monkeypatch.undo()
    assert newest.config().point.learner.name == "empirical"


def test_an_older_configuration_without_a_comment_is_written_as_this_version_does(newest):
    lines = newest.config_file.read_text().splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("#"))
    newest.config_file.write_text(text)
    before = newest.config()
    newest.upgrade()
    upgraded = newest.config_file.read_text().splitlines()
    assert upgraded[0] == f"# luceloop schema {SCHEMA}" and upgraded[1].startswith("# ")
    assert newest.config() == before


def test_what_an_older_version_accepted_is_shown_exported_and_resumed(
    output: Path, cli: Cli, tmp_path: Path
):
    """Limits that came since, and that no value is listed twice, hold for new sweeps alone."""
    shutil.copytree(LAYOUTS[0] / "sweeps", output / "sweeps")
    folder, where = Output(output).find("latest"), ["--output", str(output)]
    plain = yaml.safe_load(folder.config_file.read_text())
    plain["search"]["seed"], plain["sampling"]["preview"] = 5_000_000_000, 200_000
    plain["search"]["curation.beta"] = {"grid": [0, 0.0]}
    folder.config_file.write_text(yaml.safe_dump(plain, sort_keys=False))
    ledger = folder.ledger.read_text()
    folder.ledger.write_text(ledger.replace('"curation.beta": 10', '"curation.beta": 0.0'))
    assert cli("show", "latest", *where).code == 0
    assert cli("export", "latest", "-o", str(tmp_path / "t.csv"), *where).code == 0
    ran = cli("resume", "latest", QUICK, *where)
    assert ran.code == 0, ran.err
    again = cli("resume", "latest", QUICK, *where)  # what was written by this version
    assert again.code == 0, again.err
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(plain))
    for options in ([], ["search.seed=0"], ["search.seed=0", "sampling.preview=5"]):
        ran = cli("validate", str(tmp_path / "new.yaml"), *options)
        assert ran.code == 2 and ran.err.count("\n") == 1


def test_the_largest_grid_that_is_accepted_is_read_again(output: Path):
    values = [0.1 + i / 7 for i in range(45_000)]
    config = parse_config(newest_plain() | {"search": {"curation.beta": {"grid": values}}})
    folder = Output(output).create_sweep(config, "large")
    assert len(folder.config_file.read_text()) > MOST_CHARACTERS
    assert folder.config() == config
    with pytest.raises(ConfigError, match="holds more than"):
        parse_config(newest_plain() | {"search": {"curation.beta": {"grid": values * 3}}})


def newest_plain() -> dict[str, Any]:
    [file] = NEWEST_LAYOUT.glob("sweeps/*/config.yaml")
    return dict(yaml.safe_load(file.read_text()))


def test_every_version_before_this_one_has_a_migration():
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA))
