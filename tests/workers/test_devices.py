"""The device of a process is the one that Ray granted, and a GPU that fails is never a CPU."""

from __future__ import annotations

from typing import Any

import pytest
import ray
import torch

from luceloop.core.device import explain_memory, make_repeatable, own_device
from luceloop.core.loop.loop import Loop
from luceloop.workers import sampler
from luceloop.workers.arrays import from_numpy, to_numpy
from luceloop.workers.devices import NO_CUDA_NEEDED, DeviceError, granted_device
from luceloop.workers.messages import FailureReport, Work, unpack_reports
from luceloop.workers.sampler import Sampler
from luceloop.workers.trial import Trial
from tests.workers.test_executor import model_of
from tests.workers.test_trial import given, point_of


@pytest.fixture
def granted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """GPUs that Ray says it granted, in a process that sees all of the machine's."""
    gpus: list[int] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: gpus)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.delenv(NO_CUDA_NEEDED, raising=False)
    return gpus


def test_without_a_grant_a_process_computes_on_the_cpu_whatever_it_sees(granted, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert granted_device() == "cpu"
    granted.append(3)
    assert granted_device() == "cuda"


def test_a_granted_gpu_that_cuda_cannot_use_is_an_error(granted, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    granted.append(3)
    with pytest.raises(DeviceError, match=r"granted this process GPU 3, which CUDA cannot use"):
        granted_device()
    monkeypatch.setenv(NO_CUDA_NEEDED, "1")
    assert granted_device() == "cpu"


def test_a_node_whose_gpu_cannot_be_used_fails_no_point(granted, monkeypatch, tmp_path):
    """The process dies, so that Tune tries the point elsewhere and `resume` tries it again."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    granted.append(0)
    with pytest.raises(DeviceError, match="CUDA cannot use"):
        Trial(given(tmp_path)).train()


def test_commands_use_a_gpu_where_there_is_one(monkeypatch):
    for there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert own_device() == device


def test_a_full_gpu_fails_the_point_and_says_what_to_change(monkeypatch, tmp_path):
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 …")

    monkeypatch.setattr("luceloop.workers.trial.Loop.iterate", full)
    [report] = unpack_reports(Trial(given(tmp_path)).train())
    assert isinstance(report, FailureReport)
    assert report.reason.startswith("a GPU is out of memory (CUDA out of memory): lower sampling.")
    assert explain_memory(torch.OutOfMemoryError("x")) in report.reason.replace(
        "CUDA out of memory", "x"
    )


def test_fp32_is_not_tf32():
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    make_repeatable(1)
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


def test_weights_are_brought_to_the_device_once_for_all_shards(monkeypatch):
    loop = Loop(point_of())
    model: Any = to_numpy(model_of(loop))
    brought: list[str] = []

    def bring(nested: Any, device: str) -> dict[str, Any]:
        brought.append(device)
        return from_numpy(nested, device)

    monkeypatch.setattr(sampler, "from_numpy", bring)
    actor, work = Sampler(1), Work(loop.config)
    for task in loop.tasks(0):
        actor.generate(work, model, "p_0", task)
    assert brought == ["cpu"]
    actor.generate(work, model, "p_1", loop.tasks(1)[0])
    assert len(brought) == 2
