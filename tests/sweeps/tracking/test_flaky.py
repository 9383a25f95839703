"""A tracking store that fails now and then, refuses texts, or is deleted while it is in use."""

from __future__ import annotations

import contextlib
import io
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rich.console import Console

from luceloop.core.config.parsing import parse_config
from luceloop.sweeps.record.folders import Output, SweepFolder
from luceloop.sweeps.record.ledger import Ledger
from luceloop.sweeps.tracking import delivery
from luceloop.sweeps.tracking.delivery import attach, build_tracker, sync
from luceloop.sweeps.tracking.experiment import sendable
from tests.servers import FlakyProxy, MlflowServer, free_port

POINTS, SEEDS, ITERATIONS = 4, [3, 4], 12


@pytest.fixture
def folder(output: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """A sweep that has ended, of which no store has anything."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    search = {"beta": {"grid": list(range(POINTS))}}
    data = {"name": "eight_gaussians"}
    config = parse_config({"name": "tracked", "data": data, "seeds": SEEDS, "search": search})
    folder = Output(output).create_sweep(config, "a test")
    ledger = Ledger(folder.ledger)
    for point in range(POINTS):
        ledger.begin_point(point, {"curation.beta": point})
        for t in range(ITERATIONS):
            row = {f"metric/{i}": [point + t / 7, point - t / 9 + i] for i in range(30)}
            ledger.add_iteration(point, t, row)
        ledger.end_point(point, "failed" if point == 1 else "done", "because" if point == 1 else "")
    ledger.close()
    return folder


@pytest.fixture
def proxy(output: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FlakyProxy, str]]:
    """A server behind a proxy that drops and denies 15 % each, and its own address."""
    server = MlflowServer(f"sqlite:///{output / 'mlflow.db'}", output / "served")
    with contextlib.ExitStack() as stack:
        stack.callback(server.kill)
        server.start()
        flaky = FlakyProxy(server.uri, dropped=0.15, denied=0.15)
        stack.callback(flaky.close)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", flaky.uri)
        yield flaky, server.uri


def assert_whole(store: str, folder: SweepFolder) -> None:
    """Every run is there once and ended, with every row that is on record, once."""
    client, points = MlflowClient(store), Ledger(folder.ledger, writable=False).points
    [experiment] = client.search_experiments(filter_string=f"name LIKE '%/{folder.id}'")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1 + POINTS * (1 + len(SEEDS))
    for run in runs:
        point, seed = run.data.tags.get("luceloop.point", ""), run.data.tags.get("luceloop.seed")
        assert run.info.status == ("FAILED" if point == "1" else "FINISHED")
        if seed is None:
            continue
        for t, row in points[int(point)].rows.items():
            assert set(run.data.metrics) == set(row)
            history = client.get_metric_history(run.info.run_id, "metric/7")
            values = [each.value for each in history if each.step == t]
            assert values == [row["metric/7"][SEEDS.index(int(seed))]]


@pytest.mark.external
@pytest.mark.slow
def test_a_server_that_fails_three_requests_in_ten_gets_everything_once(
    folder, output, proxy, monkeypatch
):
    monkeypatch.setattr(delivery, "PATIENCE", 60.0)  # of a busy machine
    flaky, store = proxy
    found = sync(folder, Output(output))
    assert found.is_whole, found
    figures = [output / f"{i}.png" for i in range(5)]
    for figure in figures:
        figure.write_bytes(b"a figure")
    assert attach(found, Output(output), folder, figures).is_whole
    # Each would have begun all of it anew; how many there are depends on how they are sent.
    assert flaky.failures >= 5, (flaky.failures, flaky.requests)
    assert_whole(store, folder)
    client = MlflowClient(store)
    [experiment] = client.search_experiments(filter_string=f"name LIKE '%/{folder.id}'")
    [run] = client.search_runs([experiment.experiment_id], "tags.luceloop.kind = 'sweep'")
    attached = {file.path for file in client.list_artifacts(run.info.run_id, "figures")}
    assert attached == {f"figures/{figure.name}" for figure in figures}


def test_a_store_that_takes_the_first_request_of_a_step_and_never_the_second_is_given_up(
    folder, output, monkeypatch
):
    """That the sweep stopped at its budget is written, and its run is to be marked as running."""
    ledger = Ledger(folder.ledger)
    ledger.stop("hours=1")
    ledger.close()
    written: list[str] = []
    log_batch = MlflowClient.log_batch

    def count(client, run_id, **values):
        written.append(run_id)
        log_batch(client, run_id, **values)

    def refuse(*_, **__):
        raise OSError("it is in maintenance")

    monkeypatch.setattr(MlflowClient, "log_batch", count)
    monkeypatch.setattr(MlflowClient, "update_run", refuse)
    monkeypatch.setattr(delivery, "PATIENCE", 3.0)
    found: list[delivery.Delivery] = []
    thread = threading.Thread(
        target=lambda: found.append(sync(folder, Output(output))), daemon=True
    )
    thread.start()
    thread.join(120)
    assert found, "it is tried for ever"
    assert found[0].undelivered and "maintenance" in found[0].error
    assert max(written.count(run) for run in written) > 2  # the first request was taken again


@pytest.mark.parametrize("reason", ["cannot read data-\udc80.npz", "a NUL: \0", "long " * 4000])
def test_no_text_of_a_failure_keeps_mlflow_from_a_sweep(folder, output, reason):
    ledger = Ledger(folder.ledger)
    ledger.begin_point(POINTS, {"curation.beta": 0})
    ledger.end_point(POINTS, "failed", reason)
    ledger.close()
    assert sync(folder, Output(output)).is_whole
    client = MlflowClient(Output(output).tracking_uri)
    [experiment] = client.search_experiments(filter_string=f"name LIKE '%/{folder.id}'")
    wanted = f"tags.luceloop.point = '{POINTS}' AND tags.luceloop.kind = 'point'"
    [run] = client.search_runs([experiment.experiment_id], wanted)
    said = run.data.tags["mlflow.note.content"]
    assert said[:7] == reason[:7] and said == sendable(reason) and len(said) <= 5000


def test_texts_that_stores_take_are_sent_as_they_are():
    assert sendable("β=10 λ=∞\n🙂") == "β=10 λ=∞\n🙂"
    assert sendable("data-\udc80.npz \0") == "data-\\udc80.npz \\x00"


def test_a_database_that_is_deleted_while_it_is_in_use_is_said_to_be(folder, output):
    ledger = Ledger(folder.ledger)
    tracker = build_tracker(Output(output), folder, ledger)
    assert tracker.try_deliver(3)
    (output / "mlflow.db").unlink()
    ledger.begin_point(POINTS, {"curation.beta": 0})
    assert not tracker.try_deliver(len(ledger.events))
    assert tracker.error == f"there is no database {output / 'mlflow.db'}"
    for _ in range(3):  # it is made anew
        assert not tracker.try_deliver(len(ledger.events))
    assert "mlflow.db was deleted, or replaced by another, while it was in use" in tracker.error


def test_what_a_store_lacks_is_named(folder, output, monkeypatch):
    monkeypatch.setattr(delivery, "PATIENCE", 60.0)  # of a busy machine
    events = len(Ledger(folder.ledger, writable=False).events)
    whole = sync(folder, Output(output))
    assert whole.is_whole
    monkeypatch.setattr(delivery, "PATIENCE", 2.0)
    assert whole.lack == "lacks figures and the report of"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # had it all, if it is the same
    assert sync(folder, Output(output)).lack == (
        f"cannot be asked what it lacks of the {events} events of"
    )
    (folder.path / "delivered").unlink()
    assert sync(folder, Output(output)).lack == f"lacks {events} events of"


@pytest.mark.external
@pytest.mark.slow
def test_no_process_of_the_pages_shows_the_address_of_the_store(output, folder, monkeypatch):
    """On its command line, which everybody on the machine can read."""
    import psutil

    from luceloop.sweeps.tracking import server

    assert sync(folder, Output(output)).is_whole
    (output / "mlflow.db").rename(output / "password-77aa.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{output / 'password-77aa.db'}")
    shown: list[list[str]] = []

    class Looking(Console):
        def print(self, *_: object, **__: object) -> None:
            if not shown:
                children = psutil.Process().children(recursive=True)
                shown.extend(child.cmdline() for child in children)
                raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGTERM)
    try:
        server.serve(Output(output), "latest", free_port(), Looking(file=io.StringIO()))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert any("mlflow" in word for line in shown for word in line)
    assert not [line for line in shown if "password-77aa" in " ".join(line)]


def test_the_page_of_a_server_is_printed_without_a_password(output, folder, monkeypatch):
    from luceloop.sweeps.tracking import server

    monkeypatch.setattr(server, "experiment_of", lambda *_: "7")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:pa/ss@mlflow.internal")
    printed = io.StringIO()
    server.serve(Output(output), "latest", 5000, Console(file=printed))
    assert printed.getvalue().startswith("https://mlflow.internal/#/experiments/7/runs?")
