"""The device of a process: what Ray granted it, which is not what it can see."""

from __future__ import annotations

import os

import ray
import torch

NO_CUDA_NEEDED = "LUCELOOP_GPU_OPTIONAL"
"""Environment variable that lets processes with a logical GPU compute on the CPU, for tests."""


class DeviceError(RuntimeError):
    """A GPU that was granted and cannot be used: the node's trouble, so another one may do it."""


def granted_device() -> str:
    """The device this process computes on: the GPU that Ray granted it, else the CPU.

    Ray leaves `CUDA_VISIBLE_DEVICES` as it is in processes without a GPU, so it tells nothing.

    Raises:
        DeviceError: if CUDA cannot use a GPU that was granted; the CPU would be other bits, later.
    """
    granted = ray.get_gpu_ids() if ray.is_initialized() else []
    if not granted:
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if os.environ.get(NO_CUDA_NEEDED):
        return "cpu"
    raise DeviceError(
        f"Ray granted this process GPU {granted[0]}, which CUDA cannot use (torch "
        f"{torch.__version__}, built for CUDA {torch.version.cuda}): look at the node's driver "
        "with nvidia-smi, or run on CPUs with resources.trial.gpus=0"
    )
