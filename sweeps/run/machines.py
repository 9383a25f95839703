"""The memory of the machine, or of the nodes of the Ray session, that a sweep is to run on."""

from __future__ import annotations

import json
import math
import os
import socket
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray._private import ray_constants, worker
from ray.experimental.internal_kv import _internal_kv_get

from luceloop.core.io.memory import machine_memory
from luceloop.sweeps.run.address import LOCAL, session_address

LARGEST_MACHINE = 64e12
"""Bytes beyond which no machine goes, wherever a sweep is sent."""
NODE_TYPE = "ray.io/node-group"
"""Label of a node that an autoscaler has started, or its head."""


@dataclass(frozen=True)
class Room:
    """The memory that trials may take.

    Example:
        Room(25e9, "this machine")
    """

    host: float
    """Bytes of a node."""
    where: str
    """What has it, in words."""
    device: float = math.inf
    """Bytes of a GPU."""
    is_shared: bool = True
    """Whether all processes of all trials lie in it; else each of them in that of some node."""
    is_known: bool = True
    """Whether it is what there will be; nodes may still join, which may be larger."""


def room_here() -> Room:
    """What this machine has."""
    device = math.inf
    if torch.cuda.device_count():
        device = float(torch.cuda.get_device_properties(0).total_memory)
    return Room(machine_memory(), "this machine", device)


def room_anywhere() -> Room:
    """What no machine exceeds, where it is not known which one will run a sweep."""
    return Room(LARGEST_MACHINE, "the largest machine", is_shared=False, is_known=False)


def room_of_session() -> Room:
    """What the largest node of the Ray session has; anything where larger ones may join.

    Of a node elsewhere Ray counts what was free when it began.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    here = [node["NodeManagerHostname"] for node in nodes] == [socket.gethostname()]
    if here and _is_started_here():
        return room_here()
    if not any(node["Resources"].get("CPU") for node in nodes) or _may_grow(nodes):
        return room_anywhere()
    if here:
        return room_here()
    found = [node["Resources"] for node in nodes]
    sizes = [each.get("memory", 0.0) + each.get("object_store_memory", 0.0) for each in found]
    largest = max(sizes) or LARGEST_MACHINE
    return Room(largest, "the cluster's largest node", is_shared=len(nodes) == 1)


def this_machine() -> dict[str, float]:
    """Its resources, as Ray would name them."""
    return {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}


def knows_cluster() -> bool:
    """Whether a Ray session that is not started for this sweep alone is to run it."""
    return ray.is_initialized() or session_address() != LOCAL


def _is_started_here() -> bool:
    """Whether this process has started the session, which then no autoscaler belongs to."""
    node = worker._global_node
    return node is not None and node.is_head()


def _may_grow(nodes: list[dict[str, Any]]) -> bool:
    """Whether an autoscaler may add nodes, for all that the session tells.

    Ray's monitor reports the types of nodes. Where it has no autoscaler, each node is a type of its
    own, named after the node; an autoscaler's have the names of its configuration.
    """
    if any(NODE_TYPE in node["Labels"] for node in nodes):
        return True
    status = _internal_kv_get(ray_constants.DEBUG_AUTOSCALING_STATUS)
    report = (json.loads(status) if status else {}).get("autoscaler_report") or {}
    types = {*(report.get("active_nodes") or {}), *(report.get("idle_nodes") or {})}
    return not types or not types <= {f"node_{node['NodeID']}" for node in ray.nodes()}
