"""What makes a process compute the same bits as another."""

from __future__ import annotations

import torch


def settle(threads: int) -> None:
    """Fix what the last bits depend on: CPU threads, and how GPU kernels are chosen.

    cuDNN would otherwise choose convolutions by timing them, and add gradients in any order.
    """
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
