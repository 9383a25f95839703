"""`auto` on machines of several kinds."""

from __future__ import annotations

import pytest

from luceloop.core.config.parts import ResourcesConfig
from luceloop.core.errors import ConfigError
from luceloop.sweeps.run.resources import Allocation, allocate, check_crowd, check_fits

AUTO = ResourcesConfig()
LAPTOP = {"CPU": 2.0}
SERVER = {"CPU": 64.0}
NODE = {"CPU": 96.0, "GPU": 8.0}


def test_a_laptop_runs_a_trial_per_core_without_samplers():
    assert allocate(AUTO, LAPTOP, points=4, shards=5, seeds=5) == Allocation(1, 0, 0, 1, 0)


def test_a_single_point_on_two_cores_gets_the_other_core_as_a_sampler():
    assert allocate(AUTO, LAPTOP, points=1, shards=5).samplers == 1


def test_spare_cpus_of_a_server_become_samplers_but_no_more_than_shards():
    assert allocate(AUTO, SERVER, points=4, shards=5).samplers == 5
    assert allocate(AUTO, SERVER, points=64, shards=5).samplers == 0


def test_a_large_network_has_a_gpu_to_itself():
    for points in (1, 8, 16, 1000):
        assert allocate(AUTO, NODE, points=points, shards=5, large=True).trial_gpus == 1
    assert allocate(AUTO, NODE, points=16, shards=5, large=True).samplers == 0


def test_small_networks_leave_gpus_that_are_too_few_for_cpus():
    many = allocate(AUTO, NODE, points=16, shards=5)
    assert (many.trial_gpus, many.sampler_gpus, many.samplers) == (0, 0, 5)
    assert allocate(AUTO, NODE, points=1000, shards=5, seeds=5) == Allocation(1, 0, 0, 1, 0)
    assert allocate(AUTO, NODE, points=8, shards=5).trial_gpus == 1


@pytest.mark.parametrize("large", [False, True])
def test_few_points_on_a_node_give_their_gpus_to_samplers(large):
    few = allocate(AUTO, NODE, points=2, shards=5, large=large)
    assert (few.trial_gpus, few.samplers, few.sampler_gpus) == (1, 3, 1)
    one = allocate(AUTO, NODE, points=1, shards=50, large=large)
    assert one.trial_gpus + one.samplers * one.sampler_gpus == 8


@pytest.mark.parametrize("cluster", [LAPTOP, SERVER, NODE])
@pytest.mark.parametrize("points", [1, 2, 3, 8, 500])
@pytest.mark.parametrize("large", [False, True])
def test_auto_always_fits(cluster, points, large):
    for samplers in ("auto", 0, 1, 2, 3):
        config = ResourcesConfig(samplers=samplers)
        allocation = allocate(config, cluster, points, shards=7, large=large)
        check_fits(allocation, cluster)
        assert allocation.samplers == samplers or samplers == "auto"


@pytest.mark.parametrize("cluster", [NODE, {"CPU": 8.0, "GPU": 1.0}])
@pytest.mark.parametrize("points", [1, 4, 100])
@pytest.mark.parametrize("samplers", [1, 2, 3])
def test_samplers_of_a_gpu_trial_are_on_gpus_too(cluster, points, samplers):
    config = ResourcesConfig(samplers=samplers)
    allocation = allocate(config, cluster, points, shards=9, large=True)
    assert allocation.trial_gpus > 0 and allocation.sampler_gpus > 0
    used = allocation.trial_gpus + samplers * allocation.sampler_gpus
    assert used >= 0.96  # no other trial fits beside them on their GPU
    check_fits(allocation, cluster)


def test_what_is_given_is_kept_and_refused_where_it_can_never_fit():
    config = ResourcesConfig.model_validate(
        {"samplers": 2, "trial": {"cpus": 0.5, "gpus": 0.5}, "sampler": {"cpus": 1, "gpus": 0.25}}
    )
    allocation = allocate(config, NODE, points=4, shards=9)
    assert allocation == Allocation(0.5, 0.5, 2, 1, 0.25)
    bundles = allocation.bundles().bundles
    assert bundles == [{"CPU": 0.5, "GPU": 0.5}, *[{"CPU": 1.0, "GPU": 0.25}] * 2]
    with pytest.raises(ConfigError, match="there are 0"):
        check_fits(allocate(config, SERVER, points=4, shards=9), SERVER)


def test_samplers_follow_their_trial_to_the_cpu_or_share_what_it_leaves():
    one = {"CPU": 8.0, "GPU": 1.0}
    for gpus, expected in ((0.0, 0.0), (1.0, 0.0), (0.5, 0.25)):
        config = ResourcesConfig.model_validate({"samplers": 2, "trial": {"gpus": gpus}})
        allocation = allocate(config, one, points=4, shards=9, large=True)
        assert (allocation.trial_gpus, allocation.sampler_gpus) == (gpus, expected)
        check_fits(allocation, one)


def test_points_of_few_seeds_share_a_trial_where_every_core_still_has_one():
    def pack(points: int, seeds: int) -> int:
        return allocate(AUTO, LAPTOP, points=points, shards=5, seeds=seeds).pack

    assert [pack(100, seeds) for seeds in (1, 2, 4, 5, 10)] == [8, 4, 2, 1, 1]
    assert [pack(points, 1) for points in (2, 3, 4, 9, 16, 17)] == [1, 1, 2, 4, 8, 8]


def test_on_a_gpu_that_is_asked_for_all_points_share_as_many_trials_as_there_are_gpus():
    config = ResourcesConfig.model_validate({"trial": {"gpus": 1}, "samplers": 0})
    for gpus, expected in ((1, 100), (8, 13)):
        cluster = {"CPU": 16.0, "GPU": float(gpus)}
        allocation = allocate(config, cluster, points=100, shards=5, seeds=10)
        assert (allocation.trial_gpus, allocation.pack) == (1, expected)
    everything = ResourcesConfig(pack=100)
    allocation = allocate(everything, {"CPU": 16.0, "GPU": 1.0}, points=100, shards=5, seeds=10)
    assert allocation == Allocation(1, 1, 0, 1, 1, 100)


def test_large_networks_and_samplers_take_no_pack():
    with pytest.raises(ConfigError, match=r"^resources\.pack=2: .*large network"):
        allocate(ResourcesConfig(pack=2), NODE, points=4, shards=5, large=True)
    with pytest.raises(ConfigError, match=r"^resources\.pack=2: .*samplers"):
        allocate(ResourcesConfig(pack=2, samplers=1), NODE, points=4, shards=5)
    assert allocate(AUTO, NODE, points=1000, shards=5, large=True).pack == 1
    assert allocate(ResourcesConfig(samplers=2), LAPTOP, points=1000, shards=5).pack == 1


@pytest.mark.parametrize(
    ("asked", "cluster", "most"),
    [
        ({"samplers": 31}, LAPTOP, "resources.samplers=32"),
        ({"threads": 32}, LAPTOP, "resources.threads=33"),
        ({"samplers": 15}, {}, "resources.samplers=16"),
        ({"threads": 1024}, SERVER, None),
    ],
)
def test_a_cpu_is_shared_by_so_many_and_no_more(asked, cluster, most):
    def crowd(config: ResourcesConfig) -> None:
        check_crowd(config, cluster)

    crowd(ResourcesConfig(**asked))
    if most is not None:
        [(key, value)] = asked.items()
        with pytest.raises(ConfigError, match="16 can share each of") as error:
            crowd(ResourcesConfig(**{key: value + 1}))
        assert str(error.value).startswith(most)
