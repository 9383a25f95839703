"""Print what room a cluster has: its head, with a node, and with one that an autoscaler started."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import ray
from ray._common.utils import get_default_ray_temp_dir
from ray.cluster_utils import Cluster

from luceloop.sweeps.run.machines import Room, room_of_session

GB = 10**9
PATIENCE = 60.0
"""Seconds in which Ray's monitor says what types of nodes there are."""


def settled() -> Room:
    end = time.monotonic() + PATIENCE
    while not (room := room_of_session()).is_known and time.monotonic() < end:
        time.sleep(0.5)
    return room


def main() -> None:
    Path(get_default_ray_temp_dir()).mkdir(parents=True, exist_ok=True)
    folders = (str(Path(sys.argv[1], str(number))) for number in range(3))
    own = {"num_cpus": 0, "include_dashboard": False, "memory": GB, "temp_dir": next(folders)}
    cluster = Cluster(initialize_head=True, head_node_args=own | {"object_store_memory": GB // 10})
    ray.init(address=cluster.address, log_to_driver=False)
    found = [room_of_session()]
    cluster.add_node(
        num_cpus=2, memory=3 * GB, object_store_memory=GB // 10, temp_dir=next(folders)
    )
    found.append(settled())
    os.environ["RAY_NODE_TYPE_NAME"] = "cpu"  # as autoscalers have it
    cluster.add_node(num_cpus=1, memory=GB, temp_dir=next(folders))
    found.append(room_of_session())
    ray.shutdown()
    cluster.shutdown()
    print(json.dumps([asdict(each) for each in found]))


if __name__ == "__main__":
    main()
