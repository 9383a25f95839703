"""The layout of a sweep in MLflow: which runs there are, and what they are labelled with.

One experiment per sweep; in it a run per point with the curves aggregated over seeds, a child run
per seed with the raw curves, and one run named `sweep` for configuration, environment, figures.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from luceloop.analysis.drawing.colors import Palette
from luceloop.analysis.reading import labels
from luceloop.analysis.reading.curves import spelled
from luceloop.analysis.reading.store import connect
from luceloop.analysis.statistics.looks import level_of
from luceloop.core.config.naming import point_name
from luceloop.core.config.parsing import plain_config, values_of
from luceloop.core.config.point import PointConfig
from luceloop.core.config.search import SearchConfig
from luceloop.core.config.sweep import SweepConfig
from luceloop.sweeps.tracking.view import page_view

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run
    from PIL.Image import Image

BATCH = 1000
"""MLflow's limit on metrics, parameters and tags in a call."""
MOST_PARAMS = 100
"""MLflow's limit on parameters among them."""
LONGEST = 5000
"""Characters of a tag or parameter that every version of MLflow takes."""


@dataclass(frozen=True)
class SweepIdentity:
    """What runs are labelled with."""

    sweep: str
    config: SweepConfig
    description: str

    @property
    def experiment(self) -> str:
        """The experiment's name."""
        return labels.experiment_name(self.config.name, self.sweep)

    @property
    def searched(self) -> list[str]:
        """Dotted keys that the sweep varies."""
        return list(self.config.search.space)


class Experiment:
    """The runs of one sweep in a tracking store. Not thread-safe; may raise `MlflowException`."""

    def __init__(self, uri: str, identity: SweepIdentity, artifacts: str | None) -> None:
        self._client = connect(uri)
        self._identity = identity
        self.answered = 0.0
        """When the store last took what is not asked of it again, though its step may be."""
        found = self._client.get_experiment_by_name(identity.experiment)
        if found is None:
            created = self._client.create_experiment(
                identity.experiment,
                artifact_location=artifacts,
                tags={labels.NOTE: sendable(identity.description)},
            )
            self.answered = time.monotonic()
            found = self._client.get_experiment(created)
        self.id = str(found.experiment_id)
        if labels.VIEW not in found.tags:
            self._set_view(pictures=False)
        self._shows_pictures = "IMAGE" in found.tags.get(labels.VIEW, "")
        self.made = f"{found.experiment_id} of {found.creation_time}"
        """Tells this experiment from those of other stores, or of this store made anew."""
        self.is_known = False
        """Whether its runs were looked up since a request may have made one unseen."""
        self._pictured: dict[str, set[int]] = {}
        """Iterations of which a run has a picture."""
        self._palette = Palette(identity.config)
        self._forget_runs()

    def _forget_runs(self) -> None:
        self._params: dict[str, int] = {}
        """Parameters of runs that were found: a process may have died before it had logged all."""
        self._lacking: dict[str, dict[str, Any]] = {}
        """Parameters that runs are still to get."""
        self.repeated: list[str] = []
        """Runs that are there a second time, made by requests whose answers were lost."""
        self._filled: dict[str, bool] = {}
        """Whether a run that was found has metrics: of repeated ones that one is kept."""
        self._seeds: dict[str, int] = {}
        """How many seeds the curves of a point's run are over; 0 where that is not there yet."""
        self._parents: dict[str, str] = {}
        """The run of the point that a seed's run stands beneath."""
        self._runs: dict[tuple[str, str], str] = {}
        self._complete: set[str | None] = set()

    def sweep_run(self) -> str:
        """The run that holds configuration, environment, figures; it never gets a metric."""
        return self._run("sweep", "sweep", {}, {})

    def point_run(self, index: int, point: PointConfig) -> str:
        """The run of a point's aggregate curves."""
        found = self._runs.get(("point", str(index)))
        if found is not None and self._seeds[found] not in (0, len(point.seeds)):
            self._replace_point(index)
        elif self._is_complete("point", str(index)):
            return self._runs["point", str(index)]
        flat, values = point.flat(), values_of(point, self._identity.searched)
        tags = {
            labels.POINT: str(index),
            labels.VALUES: json.dumps(values),
            labels.COLOR: self._palette.color(index, values),
        }
        rule = self._identity.config.seed_rule
        if rule is not None:
            tags[labels.LEVEL] = repr(level_of(rule))
        name = point_name(flat, self._identity.searched)
        run = self._run("point", name, tags, self._params_of(point), key=str(index))
        self._seeds[run] = len(point.seeds)
        self._adopt(index, run)
        return run

    def _replace_point(self, index: int) -> None:
        """Forget the run of a point that has got further seeds: it gets another, with all of them.

        MLflow changes no parameter and deletes no metric of a run.
        """
        self.repeated.append(self._runs.pop(("point", str(index))))

    def _adopt(self, index: int, run: str) -> None:
        """Have the runs of a point's seeds stand beneath this run of the point."""
        for (kind, key), child in self._runs.items():
            if kind == "seed" and key.startswith(f"{index}/") and self._parents[child] != run:
                self._client.set_tag(child, labels.PARENT, run)
                self._parents[child] = run
                self.answered = time.monotonic()

    def seed_run(self, index: int, point: PointConfig, seed: int) -> str:
        """The run of one seed's raw curves, beneath its point's."""
        if self._is_complete("seed", f"{index}/{seed}"):
            return self._runs["seed", f"{index}/{seed}"]
        tags = {
            labels.POINT: str(index),
            labels.SEED: str(seed),
            labels.PARENT: self.point_run(index, point),
            labels.COLOR: self._palette.color(index, values_of(point, self._identity.searched)),
        }
        params = self._params_of(point) | {labels.SEED_PARAM: seed}
        if self._identity.config.seed_rule is not None:
            del params[labels.SEEDS]  # which would be out of date
        run = self._run("seed", f"seed={seed}", tags, params, key=f"{index}/{seed}")
        self._parents.setdefault(run, tags[labels.PARENT])
        return run

    def _is_complete(self, kind: labels.Kind, key: str) -> bool:
        """Whether a run is there with all that `_run` gives it, which takes a while to work out."""
        return self._runs.get((kind, key)) in self._complete

    def _params_of(self, point: PointConfig) -> dict[str, Any]:
        """What tells points apart, and how many seeds they have; all else is in an artifact."""
        searched = tuple(f"{key}." for key in self._identity.searched)
        told = {labels.BETA, labels.LAM, labels.K, *self._identity.searched}
        found = {
            key: value
            for key, value in point.flat().items()
            if key in told or key.startswith(searched)
        }
        return found | {labels.SEEDS: len(point.seeds)}

    def log_config(self, run: str, point: PointConfig) -> None:
        """Attach a point's whole configuration, a file that `luceloop run` takes."""
        config = self._identity.config
        apart = {"search": SearchConfig(), "claims": (), "seed_rule": None}
        alone = config.model_copy(update={"point": point} | apart)
        text = yaml.safe_dump(plain_config(alone), sort_keys=False, allow_unicode=True)
        self._client.log_text(run, text, labels.CONFIG)

    def log(self, run: str, metrics: list[Metric], tags: Mapping[str, str]) -> None:
        """Write metrics and tags, and parameters that a run lacks, in as few calls as MLflow takes.

        Each call costs as much as a hundred metrics.
        """
        from mlflow.entities import Param, RunTag

        lacking = self._lacking.get(run, {})
        params = [Param(key, sendable(spelled(value))) for key, value in lacking.items()]
        labelled = [RunTag(key, sendable(value)) for key, value in tags.items()]
        first = 0
        while params or labelled or first < len(metrics):
            room = BATCH - len(params[:MOST_PARAMS]) - len(labelled)
            rows = metrics[first : first + room]
            self._client.log_batch(run, metrics=rows, params=params[:MOST_PARAMS], tags=labelled)
            first, params, labelled = first + room, params[MOST_PARAMS:], []
        self._lacking.pop(run, None)

    def log_file(self, run: str, path: Path, folder: str | None = None) -> None:
        """Attach a file, or all files of a folder."""
        if path.is_dir():
            self._client.log_artifacts(run, str(path), folder)
        else:
            self._client.log_artifact(run, str(path), folder)

    def log_picture(self, run: str, picture: Image, iteration: int, when: int) -> None:
        """Attach a picture of an iteration's samples, unless the run has one.

        Args:
            run: the run.
            picture: the picture.
            iteration: its step on the chart page's slider.
            when: milliseconds since 1970.
        """
        if run not in self._pictured:
            files = self._client.list_artifacts(run, "images")
            steps = (re.search(r"[+%]step[+%](\d+)", file.path) for file in files)
            self._pictured[run] = {int(found[1]) for found in steps if found}
        if iteration not in self._pictured[run]:
            name = labels.PICTURES
            self._client.log_image(run, picture, key=name, step=iteration, timestamp=when)
            self._pictured[run].add(iteration)
        if not self._shows_pictures:  # an empty card would stand there before
            self._set_view(pictures=True)
            self._shows_pictures = True

    def _set_view(self, *, pictures: bool) -> None:
        view = page_view(self._identity.config, pictures=pictures)
        self._client.set_experiment_tag(self.id, labels.VIEW, view)

    def reopen(self, run: str) -> None:
        """Mark a run as running again."""
        self._client.update_run(run, status="RUNNING")

    def end(self, run: str, status: str) -> None:
        """Mark a run as ended."""
        self._client.set_terminated(run, status)

    def is_ended(self, run: str) -> bool:
        """Whether a run is marked as ended."""
        return str(self._client.get_run(run).info.status) != "RUNNING"

    def delete_repeated(self) -> None:
        """Delete the runs that are there a second time."""
        while self.repeated:
            self._client.delete_run(self.repeated[-1])
            self.repeated.pop()
            self.answered = time.monotonic()

    def look_up(self) -> None:
        """Find runs by kind and key, so that a resumed sweep goes on with them.

        A request whose answer was lost may have made one: none is repeated before this look.
        """
        self._forget_runs()
        token = None
        while True:
            page = self._client.search_runs(
                [self.id], order_by=["start_time ASC"], max_results=1000, page_token=token
            )
            for run in page:
                self._find(run)
            token = page.token
            if not token:
                self.is_known = True
                return

    def forget(self) -> None:
        """Take all runs for repeated ones: others are made in their place."""
        runs = [*self.repeated, *self._runs.values()]
        self._forget_runs()
        self.repeated = runs

    def _find(self, run: Run) -> None:
        tags, identity = run.data.tags, run.info.run_id
        kind, point = tags.get(labels.KIND, ""), tags.get(labels.POINT, "")
        key = f"{point}/{tags[labels.SEED]}" if kind == "seed" else point
        other = self._runs.get((kind, key))
        seeds = int(run.data.params.get(labels.SEEDS, 0))
        if kind and other is not None:
            more = kind == "point" and seeds > self._seeds[other]
            keep = bool(run.data.metrics) and (more or not self._filled[other])
            self.repeated.append(other if keep else identity)
            if not keep:
                return
        self._runs[kind, key] = identity
        self._params[identity] = len(run.data.params)
        self._filled[identity] = bool(run.data.metrics)
        self._seeds[identity] = seeds
        if kind == "seed":
            self._parents[identity] = tags.get(labels.PARENT, "")

    def _run(
        self,
        kind: labels.Kind,
        name: str,
        tags: dict[str, str],
        params: dict[str, Any],
        key: str = "",
    ) -> str:
        if (kind, key) not in self._runs:
            own = {
                labels.KIND: kind,
                labels.SWEEP: self._identity.sweep,
                labels.SEARCHED: json.dumps(self._identity.searched),
            }
            labelled = {tag: sendable(text) for tag, text in (own | tags).items()}
            self.is_known = False
            created = self._client.create_run(self.id, tags=labelled, run_name=sendable(name))
            self.is_known = True
            self._runs[kind, key] = created.info.run_id
            self._pictured[created.info.run_id] = set()
            self.answered = time.monotonic()
        run = self._runs[kind, key]
        if self._params.get(run, 0) < len(params):
            self._lacking[run] = params
        self._complete.add(run)
        return run


def sendable(text: str) -> str:
    """A text that every store takes.

    What UTF-8 cannot hold, such as bytes of a file's name that are no text, is spelled, as is NUL,
    which PostgreSQL refuses; what is too long for MLflow is cut.
    """
    spelled = text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
    return spelled if len(spelled) <= LONGEST else f"{spelled[: LONGEST - 1]}…"
