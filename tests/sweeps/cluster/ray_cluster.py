"""A Ray cluster of three nodes on this machine, in a process of its own that reads commands.

    python ray_cluster.py FOLDER

It prints the dashboard's address once it stands. On its input, `kill` kills the oldest worker node,
`add` starts one, and the end ends it. The head has no CPUs: trials run on worker nodes alone.
"""

from __future__ import annotations

import itertools
import socket
import sys
from pathlib import Path

from ray._common.utils import get_default_ray_temp_dir
from ray.cluster_utils import Cluster


def main() -> None:
    port, agent = free_ports(2)
    head = {
        "num_cpus": 0,
        "include_dashboard": True,
        "dashboard_port": port,
        "dashboard_host": "127.0.0.1",
        "dashboard_agent_listen_port": agent,  # its default is one port for all of a machine
        # A node that is gone is missed after three seconds instead of fifteen.
        "_system_config": {"health_check_period_ms": 1000, "health_check_failure_threshold": 3},
    }
    # Ray notes its newest cluster there, and makes the folder only for nodes that live in it.
    Path(get_default_ray_temp_dir()).mkdir(parents=True, exist_ok=True)
    # Nodes that shared a folder would remove each other's copies of an upload.
    folders = (str(Path(sys.argv[1], str(number))) for number in itertools.count())
    first = next(folders)
    cluster = Cluster(initialize_head=True, head_node_args=head | {"temp_dir": first})
    # As `ray start` leaves it, else a job's driver would ask any Ray of this machine.
    Path(first, "ray_current_cluster").write_text(cluster.address)
    nodes = [cluster.add_node(num_cpus=1, temp_dir=next(folders)) for _ in range(2)]
    print(f"http://127.0.0.1:{port}", flush=True)
    for line in sys.stdin:
        if line.strip() == "kill":
            cluster.remove_node(nodes.pop(0), allow_graceful=False)
        else:
            nodes.append(cluster.add_node(num_cpus=1, temp_dir=next(folders)))
        print("done", flush=True)
    cluster.shutdown()


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


if __name__ == "__main__":
    main()
