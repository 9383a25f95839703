"""Tracking stores: connecting to MLflow's, and finding the runs of a sweep in one."""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from luceloop.analysis.reading import labels
from luceloop.analysis.statistics.seeds import LEVEL
from luceloop.core.errors import ConfigError, one_line, without_password

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""Schemes of MLflow's stores that are databases."""

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run


AUTOFLUSH = re.compile(r"\(raised as a result of Query-invoked autoflush[^)]*\)\s*")
"""What SQLAlchemy puts before the reason, which says nothing of it."""


def connect(uri: str, *, create: bool = True) -> MlflowClient:
    """A client for a tracking store, which fails at once where MLflow would retry for minutes.

    It repeats nothing by itself: a request whose answer was lost may have made a run, which only a
    look at the store can tell.

    Args:
        uri: of the store.
        create: whether a database that is not there is made, which nobody who reads may do.

    Raises:
        ConfigError: if there is none, and none is made.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It would print the traceback of every error that it also raises.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    if not create:
        _check_there(uri)
    elif (database := _sqlite_file(uri)) is not None:
        _create_whole(database)
    return MlflowClient(uri)


def is_database(uri: str) -> bool:
    """Whether a store is a database without a server."""
    return re.split("[:+]", uri)[0] in DATABASES


def _sqlite_file(uri: str) -> Path | None:
    """The file of a store in SQLite; None of any other."""
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy import make_url

    file = make_url(uri).database
    return Path(file) if file else None


def _check_there(uri: str) -> None:
    """Refuse a database that is not there, or has no tables of MLflow's, which it would get."""
    if not is_database(uri):
        return
    from sqlalchemy import create_engine, inspect

    shown, file = without_password(uri), _sqlite_file(uri)
    if file is not None and not file.exists():
        raise ConfigError("MLFLOW_TRACKING_URI", shown, f"there is no database {file}")
    engine = create_engine(uri)
    try:
        if not inspect(engine).has_table("experiments"):
            raise ConfigError("MLFLOW_TRACKING_URI", shown, "the database has no tables of MLflow")
    finally:
        engine.dispose()


def said_by_store(error: Exception, uri: str) -> str:
    """Why a store took or gave nothing, in a line.

    Args:
        error: what it raised.
        uri: of the store.
    """
    text, file = AUTOFLUSH.sub("", str(error)), _sqlite_file(uri)
    if file is not None and not file.exists():
        return f"there is no database {file}"
    if "no such table" in text:
        return "the database has no tables of MLflow: it was deleted, or made anew"
    if file is not None and "attempt to write a readonly database" in text:
        if os.access(file, os.W_OK):
            return f"the database {file} was deleted, or replaced by another, while it was in use"
        return f"the database {file} may not be written"
    if text == str(error):
        return one_line(error)
    return without_password(text.splitlines()[0])[:300]


def _create_whole(database: Path) -> None:
    """Create MLflow's SQLite file unless it is there: all of it, or none.

    MLflow builds a new database by a hundred migrations; a process killed among them would leave a
    file that no process can open again.
    """
    from mlflow import MlflowClient

    if database.exists():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock"):
        if database.exists():
            return
        with tempfile.TemporaryDirectory(dir=database.parent, prefix=".mlflow-") as folder:
            new = Path(folder) / database.name
            MlflowClient(f"sqlite:///{new}")
            new.replace(database)


@dataclass(frozen=True)
class SweepRuns:
    """The runs of one sweep in a tracking store."""

    client: MlflowClient
    sweep: str
    name: str
    """The sweep's name."""
    description: str
    """What is swept."""
    run: Run | None
    """Of the configuration and other files; None if the sweep died before it was there."""
    points: dict[int, Run]
    """By index."""
    seeds: list[Run]
    uri: str = ""
    """Of the tracking store, without a password."""

    @property
    def suprema(self) -> dict[int, float]:
        """r* of the points' rewards, by index, where it is known."""
        tags = {index: run.data.tags.get(labels.SUPREMUM) for index, run in self.points.items()}
        return {index: float(text) for index, text in tags.items() if text is not None}

    @property
    def level(self) -> float:
        """The level of its intervals; 0.95 where the number of seeds was known beforehand."""
        tags = (run.data.tags for run in self.points.values())
        return max(
            (float(each[labels.LEVEL]) for each in tags if labels.LEVEL in each), default=LEVEL
        )

    @property
    def metrics(self) -> list[str]:
        """The metrics that any seed has."""
        return sorted({metric for run in self.seeds for metric in run.data.metrics})

    @property
    def searched(self) -> list[str]:
        """Dotted keys that the sweep varies."""
        tags = next(iter(self.points.values())).data.tags
        return list(json.loads(tags[labels.SEARCHED]))


def find_runs(tracking_uri: str, sweep: str) -> SweepRuns:
    """The runs of the sweep with this id.

    Raises:
        ConfigError: if the store does not answer or has no such sweep.
    """
    shown = without_password(tracking_uri)
    try:
        client = connect(tracking_uri, create=False)
        experiments = _experiments(client, sweep)
        runs = [run for experiment in experiments for run in _all_runs(client, experiment)]
    except ConfigError:
        raise
    except Exception as error:  # stores raise what they like: HTTP, SQL, files
        reason = said_by_store(error, tracking_uri)
        raise ConfigError("MLFLOW_TRACKING_URI", shown, f"no answer: {reason}") from error
    points, seeds, whole = {}, [], None
    for run in runs:
        match run.data.tags.get(labels.KIND):
            case "sweep":
                whole = run
            case "point":
                points[int(run.data.tags[labels.POINT])] = run
            case "seed":
                seeds.append(run)
    if not points:
        raise ConfigError("SWEEP", sweep, f"has no runs in MLflow at {shown}")
    return SweepRuns(
        client=client,
        sweep=sweep,
        name=experiments[0].name.rpartition("/")[0],
        description=experiments[0].tags.get(labels.NOTE, ""),
        run=whole,
        points=dict(sorted(points.items())),
        seeds=seeds,
        uri=shown,
    )


def _experiments(client: MlflowClient, sweep: str) -> list[Experiment]:
    escaped = sweep.replace("'", "")
    return list(client.search_experiments(filter_string=f"name LIKE '%/{escaped}'"))


def _all_runs(client: MlflowClient, experiment: Experiment) -> list[Run]:
    runs: list[Run] = []
    token = None
    while True:
        page = client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs
