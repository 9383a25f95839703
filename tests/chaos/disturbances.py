"""What can happen to a sweep: each kind of disturbance, and the processes that it meets."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from tests.servers import MlflowServer, Postgres


@dataclass
class Scene:
    """What runs when a disturbance comes."""

    driver: subprocess.Popen
    server: MlflowServer
    database: Postgres
    nodes: subprocess.Popen | None
    """The process that holds a cluster of several nodes; None if the driver started Ray itself."""

    def find(self, title: str) -> list[psutil.Process]:
        """Processes of the sweep whose name or title begins so, but for the driver."""
        roots = [self.driver.pid] + ([self.nodes.pid] if self.nodes else [])
        found = []
        for root in roots:
            for process in _children(root):
                if _title(process).startswith(title):
                    found.append(process)
        return found

    def tell_nodes(self, command: str) -> None:
        """Have the cluster kill or add a node."""
        assert self.nodes is not None and self.nodes.stdin and self.nodes.stdout
        self.nodes.stdin.write(command + "\n")
        self.nodes.stdin.flush()
        assert self.nodes.stdout.readline().strip() == "done"


Disturb = Callable[[Scene, random.Random], bool]
"""Disturbs a sweep; False if there was nothing of the kind to disturb."""


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _title(process: psutil.Process) -> str:
    """What Ray calls a worker by, else the name of the program."""
    try:
        command = process.cmdline()
        return command[0] if command and command[0].startswith("ray::") else process.name()
    except psutil.Error:
        return ""


def kill(title: str) -> Disturb:
    """SIGKILL one process of those whose title begins so."""

    def disturb(scene: Scene, draw: random.Random) -> bool:
        found = scene.find(title)
        if not found:
            return False
        draw.choice(found).kill()
        return True

    return disturb


def stop(title: str) -> Disturb:
    """SIGSTOP one process for up to 15 seconds; without a title, the driver."""

    def disturb(scene: Scene, draw: random.Random) -> bool:
        found = scene.find(title) if title else [psutil.Process(scene.driver.pid)]
        if not found:
            return False
        chosen = draw.choice(found)
        chosen.suspend()
        time.sleep(draw.uniform(1, 15))
        chosen.resume()
        return True

    return disturb


def signals(*sent: signal.Signals) -> Disturb:
    """Send the driver signals, one shortly after the other."""

    def disturb(scene: Scene, draw: random.Random) -> bool:
        for each in sent:
            scene.driver.send_signal(each)
            time.sleep(draw.uniform(0, 0.5))
        return True

    return disturb


def restart(name: str) -> Disturb:
    """End a server of the scene at once, as a power cut would; it starts some seconds later."""

    def disturb(scene: Scene, draw: random.Random) -> bool:
        server: MlflowServer | Postgres = getattr(scene, name)
        server.kill()
        time.sleep(draw.uniform(0, 10))
        server.start()
        return True

    return disturb


def stop_server(scene: Scene, draw: random.Random) -> bool:
    """Stop all processes of MLflow's server for up to 15 seconds."""
    assert scene.server.process is not None
    found = [psutil.Process(scene.server.process.pid), *_children(scene.server.process.pid)]
    for process in found:
        process.suspend()
    time.sleep(draw.uniform(1, 15))
    for process in found:
        process.resume()
    return True


def kill_node(scene: Scene, draw: random.Random) -> bool:
    """Kill a worker node with all that runs on it; another one joins some seconds later."""
    if scene.nodes is None:
        return False
    scene.tell_nodes("kill")
    time.sleep(draw.uniform(0, 5))
    scene.tell_nodes("add")
    return True


KINDS: dict[str, Disturb] = {
    "driver killed": signals(signal.SIGKILL),
    "driver interrupted, then killed": signals(signal.SIGINT, signal.SIGKILL),
    "driver interrupted twice": signals(signal.SIGINT, signal.SIGINT),
    "driver terminated twice": signals(signal.SIGTERM, signal.SIGTERM),
    "driver stopped for a while": stop(""),
    "trial killed": kill("ray::ResourceTrainable"),
    "trial stopped for a while": stop("ray::ResourceTrainable"),
    "sampler killed": kill("ray::Sampler"),
    "sampler stopped for a while": stop("ray::Sampler"),
    "raylet killed": kill("raylet"),
    "raylet stopped for a while": stop("raylet"),
    "GCS killed": kill("gcs_server"),
    "GCS stopped for a while": stop("gcs_server"),
    "MLflow server killed": restart("server"),
    "MLflow server stopped for a while": stop_server,
    "database killed": restart("database"),
    "node killed": kill_node,
}
"""By what is said of it."""
CLUSTER = {"node killed", "trial killed", "trial stopped for a while"}
CLUSTER |= {name for name in KINDS if name.startswith("driver")}
"""What a sweep on a cluster is made to bear; its head's death ends it, as all work on a cluster."""
