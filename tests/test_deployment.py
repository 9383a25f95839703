"""The files of a cluster: what Ray and Kubernetes would refuse, and what must not be open."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from luceloop.core.config.parsing import parse_config

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs/cluster.md").read_text()


@pytest.fixture
def launcher() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())


def manifests() -> dict[str, dict[str, Any]]:
    found = yaml.safe_load_all((ROOT / "docs/rayjob.yaml").read_text())
    return {manifest["kind"]: manifest for manifest in found}


def test_ray_accepts_the_launchers_file(launcher):
    prepared = prepare_config(launcher)
    validate_config(prepared)
    types = prepared["available_node_types"]
    assert set(types) == {"head", "cpu", "gpu"} and prepared["head_node_type"] == "head"
    assert types["head"]["max_workers"] == 0 and types["gpu"]["resources"]["GPU"] == 1
    assert types["cpu"]["max_workers"] <= prepared["max_workers"]
    assert 0 < prepared["idle_timeout_minutes"] <= 60


def test_every_node_asks_for_tokens_and_shares_the_output_folder(launcher):
    for part in ("head", "worker"):
        [start] = [line for line in launcher[f"{part}_start_ray_commands"] if "ray start" in line]
        assert "RAY_AUTH_MODE=token" in start.split("ray start")[0]
        assert "LUCELOOP_OUTPUT=/mnt/luceloop" in start.split("ray start")[0]
    assert "--dashboard-host=127.0.0.1" in " ".join(launcher["head_start_ray_commands"])
    assert "/home/ubuntu/.ray/auth_token" in launcher["file_mounts"]
    assert any("/mnt/luceloop" in line and "nfs4" in line for line in launcher["setup_commands"])


def test_nodes_install_what_is_pinned_and_get_no_results(launcher):
    assert any("make -C ~/luceloop install" in line for line in launcher["setup_commands"])
    assert "--require-hashes -r requirements.lock" in (ROOT / "Makefile").read_text()
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().split()}
    assert {".git", "data", *ignored - {"build"}} <= set(launcher["rsync_exclude"])


def test_the_guides_machines_of_ones_own_are_valid_too(launcher):
    [snippet] = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    for key in ("max_workers", "head_node_type", "available_node_types", "head_setup_commands"):
        del launcher[key]
    prepared = prepare_config(launcher | yaml.safe_load(snippet))
    validate_config(prepared)
    assert prepared["max_workers"] == 2


def test_lines_to_edit_say_so(launcher):
    text = (ROOT / "ray_cluster.yaml").read_text() + (ROOT / "docs/rayjob.yaml").read_text()
    for line in text.splitlines():
        if re.search(r"0{8}|us-west|example\.org|storageClassName", line):
            assert line.endswith(("EDIT", "EDIT, or leave out")), line


def pods() -> list[dict[str, Any]]:
    cluster = manifests()["RayJob"]["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_the_manifest_is_of_one_image_one_volume_and_one_version():
    found = manifests()
    assert set(found) == {"ConfigMap", "PersistentVolumeClaim", "RayJob"}
    assert found["RayJob"]["apiVersion"] == "ray.io/v1"
    assert len({pod["containers"][0]["image"] for pod in pods()}) == 1
    for pod in pods():
        [container] = pod["containers"]
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert mounted == {"output": "/mnt/luceloop", "sweep": "/etc/luceloop"}
        claim = volumes["output"]["persistentVolumeClaim"]["claimName"]
        assert claim == found["PersistentVolumeClaim"]["metadata"]["name"]
        assert volumes["sweep"]["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]
        limits, requests = container["resources"]["limits"], container["resources"]["requests"]
        assert requests.keys() == limits.keys()
    assert found["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    version = found["RayJob"]["spec"]["rayClusterSpec"]["rayVersion"]
    assert f"\nray=={version} " in (ROOT / "requirements.lock").read_text()


def test_the_manifest_asks_for_tokens_and_holds_no_secret():
    found = manifests()
    assert found["RayJob"]["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    for pod in pods():
        for variable in pod["containers"][0]["env"]:
            secret = re.search("USERNAME|PASSWORD|TOKEN", variable["name"])
            assert ("secretKeyRef" in variable.get("valueFrom", {})) == bool(secret)


def test_the_manifests_sweep_is_a_configuration_with_its_code():
    files = manifests()["ConfigMap"]["data"]
    entrypoint = manifests()["RayJob"]["spec"]["entrypoint"]
    assert "/etc/luceloop/sweep.yaml --output /mnt/luceloop" in entrypoint
    assert parse_config(yaml.safe_load(files["sweep.yaml"])).point_count == 2
    compile(files["my_rewards.py"], "my_rewards.py", "exec")


def test_the_guide_names_only_commands_that_exist():
    from luceloop.sweeps.cli.app import app

    text = GUIDE + (ROOT / "README.md").read_text()
    named = re.findall(r"^(?:    |\| `)(?:\.venv/bin/)?luceloop ([a-z-]+)", text, re.MULTILINE)
    assert {"submit", "status", "logs", "stop"} <= set(named) <= set(app.commands)
