"""`auto` picks nothing that memory does not do for; only what the user wrote is refused."""

from __future__ import annotations

import itertools
import json
import re

import pytest

from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError
from luceloop.sweeps.presets.reading import read_config
from luceloop.sweeps.run.machines import Room, room_anywhere
from luceloop.sweeps.run.needs import Needs, shapes_of
from luceloop.sweeps.run.resources import Allocation, allocate, check_fits, trials_at_once
from luceloop.sweeps.run.room import check_memory
from luceloop.sweeps.run.sharing import crowding, places_of
from tests.support import Cli

FEW = ["seeds=2", "search={}"]
SWEEPS = {
    "one point": FEW,
    "some points": ["seeds=1", "search={beta: {grid: [0, 1, 2, 3, 4, 5]}}"],
    "many points": ["seeds=1", "search={beta: {uniform: [0, 5]}, sampler: random, trials: 900}"],
    "one of many samples": [*FEW, "data.size=100000"],
}


def needs_of(config: SweepConfig, room: Room) -> Needs:
    return Needs([config.point], shapes_of([config.point]), room)


def allocated(config: SweepConfig, cluster: dict[str, float], needs: Needs | None) -> Allocation:
    fits = None if needs is None else needs.fits
    points, seeds = trials_at_once(config), len(config.point.seeds)
    return allocate(config.point.resources, cluster, points, 9, seeds=seeds, fits=fits)


@pytest.mark.parametrize("kind", SWEEPS)
def test_auto_takes_the_memory_that_there_is_and_as_before_where_there_is_much(kind):
    config = read_config("mog", SWEEPS[kind])
    for cpus, memory in itertools.product((1, 2, 7, 64, 200), (1.3e9, 4e9, 25e9, 1e12)):
        cluster, needs = {"CPU": float(cpus)}, needs_of(config, Room(memory, "this machine"))
        found, usual = allocated(config, cluster, needs), allocated(config, cluster, None)
        trials = found.trials_at_once(cluster, trials_at_once(config))
        check_fits(found, cluster)
        assert found.samplers <= usual.samplers and found.pack <= usual.pack
        assert needs.fits(found.samplers, found.pack, False, trials) or (
            (found.samplers, found.pack, trials) == (0, 1, 1)
        )
        check_memory(config, [config.point], cluster, Room(memory, "this machine"))
        if memory == 1e12:
            assert found == usual


def test_trials_that_memory_is_too_small_for_do_not_run_at_once_on_as_many_cpus_as_there_are():
    config = read_config("mog", SWEEPS["many points"])
    one = needs_of(config, room_anywhere()).together(0, 1, False, 1)
    more = needs_of(config, room_anywhere()).together(0, 1, False, 2) - one
    for trials in (1, 2, 5, 40):
        needs = needs_of(config, Room(one + (trials - 0.5) * more, "this machine"))
        found = allocated(config, {"CPU": 64.0}, needs)
        assert found.trials_at_once({"CPU": 64.0}, 900) == trials
        assert found.trial_cpus == pytest.approx(64 / trials, abs=1e-3)


def test_samplers_are_refused_where_the_user_asked_for_them_alone():
    room, cluster = Room(4e9, "this machine"), {"CPU": 64.0}
    config = read_config("mog", FEW)
    check_memory(config, [config.point], cluster, room)
    assert 0 < allocated(config, cluster, needs_of(config, room)).samplers < 8
    config = read_config("mog", [*FEW, "resources.samplers=8"])
    with pytest.raises(ConfigError, match=r"^resources\.samplers=8: .* this machine has 4\.0 GB"):
        check_memory(config, [config.point], cluster, room)


def test_what_auto_picks_is_never_blamed():
    config = read_config("mog", [*FEW, "learner.width=4096", "learner.batch_size=64"])
    with pytest.raises(ConfigError, match=r"^learner\.width=4096: "):
        check_memory(config, [config.point], {"CPU": 64.0}, Room(2e9, "this machine"))


def test_samplers_of_a_cluster_may_lie_on_several_nodes():
    config = read_config("mog", [*FEW, "resources.samplers=8"])
    node = Room(2e9, "the cluster's largest node", is_shared=False)
    check_memory(config, [config.point], {"CPU": 64.0}, node)
    large = read_config("mog", [*FEW, "learner.width=8192", "learner.batch_size=64"])
    with pytest.raises(ConfigError, match=r"^learner\.width=8192: .*the cluster's largest node"):
        check_memory(large, [large.point], {"CPU": 64.0}, node)


@pytest.mark.parametrize("overrides", [[], ["resources.trial.gpus=1", "resources.samplers=7"]])
def test_images_wait_for_the_nodes_that_an_autoscaler_will_start(overrides):
    config = read_config("digits", ["learner.unet.channels=256", *overrides])
    with pytest.raises(ConfigError):
        check_memory(config, [config.point], {"CPU": 1.0}, Room(1.2e9, "this machine"))
    needs = check_memory(config, [config.point], {}, room_anywhere())
    assert needs.fits(10_000, 10_000, False, 10_000)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["resources.trial.cpus=0.1"], "trials at once take about .*: raise resources.trial.cpus"),
        (["resources.pack=900"], "a trial of 900 points takes about .*: lower resources.pack"),
        ([], None),
    ],
)
def test_trials_that_take_more_than_there_is_together_are_told_of_in_one_line(overrides, line):
    config = read_config("mog", [*SWEEPS["many points"], *overrides])
    room = Room(1.5e9, "this machine")
    needs = needs_of(config, room)
    places = places_of(config, {"CPU": 4.0}, large=False, fits=needs.fits)
    told = crowding(places, needs)
    check_memory(config, [config.point], {"CPU": 4.0}, room)
    if line is None:
        assert told == ""
        return
    assert "\n" not in told and "this machine has 1.5 GB" in told
    assert re.search(line, told)
    assert crowding(places, needs_of(config, Room(1e12, "this machine"))) == ""
    assert crowding(places, needs_of(config, room_anywhere())) == ""


def test_validate_tells_of_trials_that_are_too_many_at_once(cli: Cli, tmp_path, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # judge by this machine alone
    own = [*SWEEPS["many points"], "learner={name: empirical}", "resources.trial.cpus=0.001"]
    ran = cli("validate", "mog", *own, "--json", "--output", str(tmp_path / "out"))
    assert ran.code == 0, ran.err
    [remark] = json.loads(ran.out)["remarks"]
    assert re.match(
        r"\d+ trials( of \d+ points)? at once take about .* GB of memory in all", remark
    )
