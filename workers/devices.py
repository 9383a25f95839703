"""The device of a process: what Ray granted it, which is not what it can see."""

from __future__ import annotations

import os

import ray
import torch

from luceloop.core.errors import LoopError

NO_CUDA_NEEDED = "LUCELOOP_GPU_OPTIONAL"
"""Environment variable that lets processes with a logical GPU compute on the CPU, for tests."""


def granted_device() -> str:
    """The device this process computes on: the GPU that Ray granted it, else the CPU.

    Ray leaves `CUDA_VISIBLE_DEVICES` as it is in processes without a GPU, so it tells nothing.

    Raises:
        LoopError: if CUDA cannot use a GPU that was granted; the CPU would be other bits, later.
    """
    granted = ray.get_gpu_ids() if ray.is_initialized() else []
    if not granted:
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if os.environ.get(NO_CUDA_NEEDED):
        return "cpu"
    raise LoopError(
        f"Ray granted this process GPU {granted[0]}, which CUDA cannot use (torch "
        f"{torch.__version__}, built for CUDA {torch.version.cuda}): look at the node's driver "
        "with nvidia-smi, or run on CPUs with resources.trial.gpus=0"
    )
