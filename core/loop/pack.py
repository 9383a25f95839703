"""Packs: loops of several points whose rows train and sample as one ensemble.

Rows never depend on each other, so every loop of a pack yields the bits that it would alone. What
an ensemble saves is calls: a GPU that one small network leaves idle takes a thousand rows as fast.

Axes: R rows.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence

from luceloop.core.config.point import PointConfig
from luceloop.core.device import Stopwatch
from luceloop.core.errors import ConfigError, LoopError
from luceloop.core.io.fingerprints import fingerprint
from luceloop.core.learners.base import (
    Fitted,
    State,
    TrainingSet,
    select_rows,
    stack_rows,
    to_device,
)
from luceloop.core.learners.gaussian import Gaussian
from luceloop.core.learners.regression.regression import Regression
from luceloop.core.loop.executor import Executor
from luceloop.core.loop.initial import initial_key
from luceloop.core.loop.loop import Loop
from luceloop.core.loop.state import IterationResult, LoopState
from luceloop.core.pool.shards import ShardResult

FAILURES = LoopError, ConfigError, torch.OutOfMemoryError
"""What a loop comes to: repeating it would only fail again."""


def pack_key(config: PointConfig) -> str:
    """Equal for points that may share an ensemble: the same learner, of samples of one shape."""
    plain = config.model_dump(mode="json")
    # How much data there is may differ, what it is may not: its shape would have to be asked for.
    data = {key: value for key, value in plain["data"].items() if key != "size"}
    same = {key: plain[key] for key in ("learner", "resources", "sampling")}
    return fingerprint(same | {"data": data})


@dataclass
class Member:
    """A loop of a pack, and where it stands."""

    loop: Loop
    state: LoopState | None

    @property
    def iteration(self) -> int:
        """The next iteration, t."""
        return 0 if self.state is None else self.state.iteration + 1


def iterate_all(
    members: Mapping[int, Member], executor: Executor | None = None
) -> dict[int, IterationResult | Exception]:
    """The next iteration of every loop, or the error that ends it, by the same keys.

    A loop's own error ends that loop alone. Where memory does not suffice for all, parts are tried.

    Args:
        members: loops of one `pack_key`.
        executor: who computes the shards and trains the rows of the only loop, where there is one;
            this process if not given.
    """
    found: dict[int, IterationResult | Exception] = {}
    for _, group in itertools.groupby(
        sorted(members, key=lambda key: members[key].iteration),
        key=lambda key: members[key].iteration,
    ):
        found |= _tried([(key, members[key]) for key in group], executor)
    return found


def _tried(
    members: Sequence[tuple[int, Member]], executor: Executor | None = None
) -> dict[int, IterationResult | Exception]:
    """The next iteration of loops at the same t: together, or in halves where that fails."""
    if len(members) > 1 and not _joins(members[0][1].loop):
        return {key: result for one in members for key, result in _tried([one]).items()}
    try:
        results = _iterate([member for _, member in members], executor)
    except FAILURES as error:
        if len(members) == 1:
            return {members[0][0]: error}
        half = len(members) // 2
        return _tried(members[:half]) | _tried(members[half:])
    return {key: result for (key, _), result in zip(members, results, strict=True)}


def _joins(loop: Loop) -> bool:
    """Whether states of several loops can be put together: they are small, all of one shape."""
    learner = loop.learner
    if isinstance(learner, Regression):
        return not learner.one_by_one
    return isinstance(learner, Gaussian)


def _iterate(members: Sequence[Member], executor: Executor | None) -> list[IterationResult]:
    if len(members) == 1:
        return [members[0].loop.iterate(members[0].state, executor)]
    watch = Stopwatch(members[0].loop.device)
    fitted = _fit(members)
    watch.lap("fit")
    rows = sum(len(member.loop.rows.seeds) for member in members)
    results = _run_shards(members, fitted)
    return [
        member.loop.conclude(
            member.state, own, watch.seconds["fit"] * len(member.loop.rows.seeds) / rows, shards
        )
        for member, own, shards in zip(members, fitted, results, strict=True)
    ]


def _fit(members: Sequence[Member]) -> list[Fitted]:
    """The next model of every loop."""
    if members[0].state is None:
        return _fit_initial(members)
    states, sets = [], list[TrainingSet]()
    for member in members:
        assert member.state is not None
        states.append(to_device(member.state.learner, member.loop.device))
        sets.append(member.loop.fitter.training_set(member.state))
    samples = pad_sequence([row for each in sets for row in each.samples], batch_first=True)
    joint = TrainingSet(samples, torch.cat([each.sizes for each in sets]))
    seeds = [seed for member in members for seed in member.loop.rows.seeds]
    first = members[0]
    fitted = first.loop.learner.fit(stack_rows(states), joint, seeds, first.iteration)
    return [
        Fitted(select_rows(fitted.state, own), None if fitted.loss is None else fitted.loss[own])
        for own in _rows(members)
    ]


def _fit_initial(members: Sequence[Member]) -> list[Fitted]:
    """p_0 of every loop, which those of the same data and seeds share."""
    found: dict[tuple[str, tuple[int, ...]], Fitted] = {}
    fitted = []
    for member in members:
        loop = member.loop
        name = initial_key(loop.config, loop.device), loop.rows.seeds
        if name not in found:
            found[name] = loop.fitter.fit(None)
        fitted.append(found[name])
    return fitted


def _run_shards(members: Sequence[Member], fitted: Sequence[Fitted]) -> list[list[ShardResult]]:
    """What comes of every loop's shards; those of the same size are generated together."""
    models = [
        m.loop.learner.model(to_device(f.state, m.loop.device))
        for m, f in zip(members, fitted, strict=True)
    ]
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    tasks = [member.loop.tasks(member.iteration) for member in members]
    for position, own in enumerate(tasks):
        for task in own:
            alike[task.shard.index, task.shard.stop - task.shard.start].append(position)
    results: list[list[ShardResult]] = [[] for _ in members]
    joined: dict[tuple[int, ...], State] = {}
    for (index, count), positions in sorted(alike.items()):
        some = [members[position] for position in positions]
        group = tuple(positions)
        if group not in joined:
            joined[group] = stack_rows([models[position] for position in positions])
        watch = Stopwatch(some[0].loop.device)
        seeds = [seed for member in some for seed in member.loop.rows.seeds]
        learner, iteration = some[0].loop.learner, some[0].iteration
        x = learner.sample(joined[group], count, seeds, iteration, index)
        watch.lap("generate")
        for position, rows in zip(positions, _rows(some), strict=True):
            own_watch = Stopwatch(some[0].loop.device)
            share = (rows.stop - rows.start) / len(seeds)
            own_watch.seconds["generate"] = watch.seconds["generate"] * share
            sampler = members[position].loop.sampler
            results[position].append(sampler.measure(x[rows], tasks[position][index], own_watch))
    return results


def _rows(members: Sequence[Member]) -> list[slice]:
    """The rows of each member in their joint ensemble."""
    ends = list(itertools.accumulate((len(m.loop.rows.seeds) for m in members), initial=0))
    return [slice(first, end) for first, end in itertools.pairwise(ends)]
