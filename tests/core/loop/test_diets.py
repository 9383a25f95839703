"""Which samples a retraining is given, real and kept, and that states go on from there."""

from __future__ import annotations

import io
import itertools
import math

import pytest
import torch

from luceloop.core.loop.loop import Loop, run_loop
from luceloop.core.loop.pack import Member, iterate_all
from luceloop.core.loop.state import IterationResult, LoopState
from tests.core.loop.test_loop import OTCFM, _assert_same

T, REAL = 4, 30
DIETS = list(itertools.product(["fixed", "fresh"], ["replace", "accumulate", "subsample"]))
LEARNERS = [{"name": "empirical"}, {"name": "gaussian"}, OTCFM]


def diet(real: str, synthetic: str) -> dict[str, str]:
    return {"real": real, "synthetic": synthetic}


@pytest.fixture
def loop_of(make_config):
    """A loop of four retrainings, on 30 of 60 real samples."""

    def build(real="fixed", synthetic="replace", **keys) -> Loop:
        size = {} if math.isinf(keys.get("lam", 1)) else {"real_size": REAL}
        defaults = {"lam": 1, "iterations": T, "training": diet(real, synthetic)}
        return Loop(make_config(**defaults | size | keys))

    return build


def _given(result: IterationResult, row: int) -> list[tuple[float, ...]]:
    """The training set of a row with the learner `empirical`."""
    size = int(result.state.learner["sizes"][row])
    return list(map(tuple, result.state.learner["samples"][row, :size].tolist()))


def _kept(results: list[IterationResult], row: int) -> list[list[tuple[float, ...]]]:
    """The kept sets of a row, oldest first."""
    sets = [result.state.kept for result in results]
    return [list(map(tuple, kept[row].tolist())) for kept in sets if kept is not None]


@pytest.mark.parametrize("k", [2, math.inf])
@pytest.mark.parametrize(("lam", "real", "kept"), [(1, 30, 30), (0.5, 30, 15), (math.inf, 0, 60)])
def test_accumulated_sets_stand_behind_the_real_one(loop_of, lam, real, kept, k):
    results = list(loop_of(synthetic="accumulate", lam=lam, curation={"k": k}).run())
    for row in range(2):
        sets = _kept(results, row)
        assert [len(each) for each in sets] == [kept] * T
        for t in range(1, T + 1):
            given = _given(results[t], row)
            assert given[real:] == list(itertools.chain(*sets[:t]))
            assert given[:real] == _given(results[1], row)[:real]


@pytest.mark.parametrize("lam", [1, math.inf])
def test_a_sample_of_all_kept_sets_is_as_large_as_one(loop_of, lam):
    results = list(loop_of(synthetic="subsample", lam=lam).run())
    real, kept = (0, 60) if math.isinf(lam) else (30, 30)
    for row in range(2):
        sets = _kept(results, row)
        for t in range(1, T + 1):
            given = _given(results[t], row)
            assert len(given) == real + kept
            left = list(itertools.chain(*sets[:t]))
            for x in given[real:]:  # without replacement: what was drawn once is gone
                left.remove(x)


def test_a_sample_of_all_kept_sets_draws_from_each_alike(loop_of):
    """Of 40 seeds together, within five standard deviations of the hypergeometric law."""
    loop = loop_of(synthetic="subsample", lam=1, seeds=40)
    which = torch.arange(4.0)[None, :, None, None].expand(40, 4, REAL, 2)
    state = LoopState(3, {}, which[:, 3], {}, which[:, :3])
    given = loop.fitter.training_set(state)
    assert given.sizes.tolist() == [2 * REAL] * 40
    count = torch.stack([(given.samples[:, REAL:, 0] == i).sum(1) for i in range(4)], 1).double()
    variance = REAL * (1 / 4) * (3 / 4) * (3 * REAL) / (4 * REAL - 1)
    assert (count.mean(0) - REAL / 4).abs().max() < 5 * math.sqrt(variance / 40)
    assert (count.var(0) / variance - 1).abs().max() < 5 * math.sqrt(2 / 40)


def test_the_first_retraining_is_the_same_whatever_comes_of_kept_sets_later(loop_of):
    first = [list(loop_of(synthetic=s).run())[:2] for s in ("replace", "accumulate", "subsample")]
    for other in first[1:]:
        _assert_same(other, first[0])


@pytest.mark.parametrize("synthetic", ["accumulate", "subsample"])
def test_without_kept_samples_all_is_as_if_they_were_replaced(loop_of, synthetic):
    found = list(loop_of(synthetic=synthetic, lam=0).run())
    _assert_same(found, list(loop_of(lam=0).run()))
    assert all(result.state.earlier is None for result in found)


def test_states_hold_all_kept_sets_where_they_are_seen_again_and_nothing_else(loop_of):
    for result in loop_of().run():
        assert set(result.state.plain()) == {"iteration", "learner", "kept", "metrics"}
    for synthetic in ("accumulate", "subsample"):
        results = list(loop_of(synthetic=synthetic).run())
        shapes = [None if (e := r.state.earlier) is None else tuple(e.shape) for r in results]
        # Nothing follows the last iteration, whose pool is not curated.
        assert shapes == [None, (2, 1, 30, 2), (2, 2, 30, 2), (2, 3, 30, 2), None]


def _written_and_read(state: LoopState) -> LoopState:
    buffer = io.BytesIO()
    torch.save(state.plain(), buffer)
    buffer.seek(0)
    return LoopState.of(torch.load(buffer, weights_only=True))


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda learner: learner["name"])
@pytest.mark.parametrize(("real", "synthetic"), DIETS)
def test_an_interrupted_loop_goes_on_to_the_same_bits(loop_of, learner, real, synthetic):
    undisturbed = list(loop_of(real, synthetic, learner=learner).run())
    for result in undisturbed[:-1]:
        state = _written_and_read(result.state)
        rest = list(loop_of(real, synthetic, learner=learner).run(state))
        _assert_same(rest, undisturbed[result.iteration + 1 :])


@pytest.mark.parametrize("synthetic", ["accumulate", "subsample"])
def test_a_seed_has_the_same_curve_whatever_the_other_seeds(loop_of, synthetic):
    together = list(loop_of(synthetic=synthetic, seeds=[3, 5, 7]).run())
    for result, alone in zip(together, loop_of(synthetic=synthetic, seeds=[7]).run(), strict=True):
        for name, value in alone.metrics.items():
            if not name.startswith("seconds/"):
                assert torch.equal(result.metrics[name][2:], value), name


@pytest.mark.parametrize("synthetic", ["accumulate", "subsample"])
def test_rows_that_were_computed_apart_go_on_together(loop_of, synthetic):
    together = list(loop_of(synthetic=synthetic, seeds=[3, 5]).run())
    alone = [list(loop_of(synthetic=synthetic, seeds=[seed]).run())[2] for seed in (3, 5)]
    state = LoopState.stack([result.state for result in alone])
    rest = list(loop_of(synthetic=synthetic, seeds=[3, 5]).run(state))
    _assert_same(rest, together[3:])
    for row, result in enumerate(alone):
        split = together[2].state.row(row).earlier
        assert split is not None and result.state.earlier is not None
        assert torch.equal(split, result.state.earlier)


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda learner: learner["name"])
def test_a_pack_of_loops_on_other_diets_computes_what_each_does_alone(loop_of, learner):
    def loops() -> dict[int, Loop]:
        each = itertools.product(DIETS, (1, math.inf))
        return {i: loop_of(*names, learner=learner, lam=lam) for i, (names, lam) in enumerate(each)}

    together, states = loops(), dict[int, LoopState | None]()
    found: dict[int, list[IterationResult]] = {key: [] for key in together}
    for _ in range(T + 1):
        members = {key: Member(loop, states.get(key)) for key, loop in together.items()}
        for key, result in iterate_all(members).items():
            assert isinstance(result, IterationResult), result
            found[key].append(result)
            states[key] = result.state
    for key, loop in loops().items():
        _assert_same(found[key], list(loop.run()))


def test_diets_lead_elsewhere(make_config):
    """Whatever is compared above, it is not one loop six times."""
    ends = set()
    for real, synthetic in DIETS:
        config = make_config(lam=1, real_size=REAL, iterations=3, training=diet(real, synthetic))
        ends.add(tuple(list(run_loop(config))[-1].metrics["reward_mean"].tolist()))
    assert len(ends) == len(DIETS)
