"""The output folder: where everything a sweep writes lives, and how a sweep is found again.

mlflow.db  artifacts/  cache/  files/  forecasts/
sweeps/<id>/{config.yaml, ledger.jsonl, provenance.json, provenance/, previews/, initial/,
              tune/, states/, figures/, report.html}

What workers need, too (cache/, files/, tune/, states/), lies in the storage, which is the output
folder unless another place that all nodes see was named.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from luceloop.analysis.reading import labels
from luceloop.analysis.reading.store import is_database
from luceloop.core.config.naming import describe
from luceloop.core.config.parsing import parse_config, plain_config
from luceloop.core.config.sweep import SweepConfig
from luceloop.core.errors import ConfigError, one_line, without_password
from luceloop.core.io.files import write_atomically
from luceloop.core.io.places import Folder, check_path, open_folder
from luceloop.core.io.plain import read_yaml
from luceloop.sweeps.record.versions import SCHEMA, headed, migrated, schema_of

LATEST = "latest"
"""What stands for the newest sweep, where one is named."""

_NAME = re.compile(r"^name:[ \t]+(\S.*(?:\n[ \t]+.*)*)$", re.MULTILINE)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepFolder:
    """The files of one sweep."""

    path: Path

    @property
    def id(self) -> str:
        """The sweep's id, unique and sorted by time."""
        return self.path.name

    @property
    def config_file(self) -> Path:
        """The full configuration, overrides applied."""
        return self.path / "config.yaml"

    @property
    def ledger(self) -> Path:
        """The append-only record of what happened."""
        return self.path / "ledger.jsonl"

    @property
    def study(self) -> Path:
        """A copy of the search for optuna-dashboard."""
        return self.path / "study.journal"

    @property
    def environment(self) -> Path:
        """What the last run of the sweep ran on."""
        return self.path / "environment.json"

    @property
    def answers(self) -> Path:
        """How its claims were answered when a run of it ended."""
        return self.path / "answers.json"

    @property
    def note(self) -> Path:
        """What the user has written about the sweep."""
        return self.path / "note.json"

    @property
    def address(self) -> str:
        """Whom the sweep tells of itself, a URL; empty if nobody was named."""
        return self._address_file.read_text() if self._address_file.exists() else ""

    def keep_address(self, address: str) -> None:
        """Put that where its owner alone can read it; it goes to no storage and no MLflow."""
        write_atomically(address, self._address_file, private=True)

    @property
    def _address_file(self) -> Path:
        return self.path / "notify"

    @property
    def told(self) -> Path:
        """What of the sweep has been told there."""
        return self.path / "told.json"

    @property
    def provenance(self) -> Path:
        """What the sweep's numbers come from; see `sweeps.record.provenance`."""
        return self.path / "provenance.json"

    @property
    def provenance_files(self) -> Path:
        """Copies of the user's code, and what git has of it."""
        return self.path / "provenance"

    @property
    def figures(self) -> Path:
        """Drawn figures."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """The report, an HTML page."""
        return self.path / "report.html"

    @property
    def storage(self) -> Folder:
        """What its workers share; see `Output.storage`."""
        if self._storage_file.exists():
            return open_folder("--storage", self._storage_file.read_text())
        return self.path.parents[1]

    @property
    def has_own_storage(self) -> bool:
        """Whether that is another place than the output folder."""
        return self.storage != self.path.parents[1]

    def keep_storage(self, storage: Folder) -> None:
        """Put on record where that is, for this run of the sweep and later ones."""
        write_atomically(str(storage), self._storage_file)

    @property
    def _storage_file(self) -> Path:
        return self.path / "storage.txt"

    @property
    def cache(self) -> Folder:
        """Trained p_0 and classifiers, shared by all sweeps."""
        return self.storage / "cache"

    @property
    def tune(self) -> Folder:
        """Ray Tune's own files, checkpoints among them."""
        return self.storage / "sweeps" / self.id / "tune"

    @property
    def states(self) -> Folder:
        """The last states of points, from which `luceloop extend` goes on."""
        return self.storage / "sweeps" / self.id / "states"

    def preview(self, point: int, iteration: int) -> Path:
        """Some samples of one pool."""
        return self.path / "previews" / f"point-{point:04d}" / f"iteration-{iteration:04d}.npz"

    def initial_reward(self, point: int) -> Path:
        """The rewards of p_0's pool, of which a forecast can start."""
        return self.path / "initial" / f"point-{point:04d}" / "reward.npz"

    def real_rewards(self, point: int) -> Path:
        """The rewards of the real data that stand for its law, where the sweep records them."""
        return self.path / "initial" / f"point-{point:04d}" / labels.REAL_REWARDS

    def iteration_files(self, point: int, iteration: int) -> list[tuple[Path, str]]:
        """The files that an iteration may have, each with the folder of its run's artifacts."""
        files = [(self.preview(point, iteration), labels.SAMPLES)]
        if iteration == 0:
            files.append((self.initial_reward(point), labels.INITIAL))
            files.append((self.real_rewards(point), labels.INITIAL))
        return files

    def config(self) -> SweepConfig:
        """The sweep's configuration.

        Raises:
            ConfigError: if it cannot be read, such as one of another version.
        """
        refusal = f"{self.config_file} is not YAML"
        try:
            text = self.config_file.read_text()
            schema = schema_of(text)
            if schema > SCHEMA:
                allowed = f"schema {schema}, of which this one reads up to {SCHEMA}; update it"
                raise ConfigError("SWEEP", self.id, f"was made by a newer Luceloop ({allowed})")
        except OSError as error:
            raise ConfigError("SWEEP", self.id, f"{self.config_file}: {one_line(error)}") from None
        except UnicodeDecodeError:
            raise ConfigError("SWEEP", self.id, refusal) from None
        try:
            plain = read_yaml(text, "SWEEP", self.id, "is not YAML", recorded=True)
        except ConfigError as error:
            raise ConfigError("SWEEP", self.id, f"{self.config_file} {error.allowed}") from None
        if not isinstance(plain, dict):
            raise ConfigError("SWEEP", self.id, f"{self.config_file} holds no configuration")
        try:
            return parse_config(migrated(plain, schema), recorded=True)
        except ConfigError as error:
            reason = f"{self.config_file} is of another version: {error}"
            raise ConfigError("SWEEP", self.id, reason) from None

    def upgrade(self) -> None:
        """Write the configuration as this version does, before the sweep goes on."""
        text = self.config_file.read_text()
        if schema_of(text) < SCHEMA:
            config, first = self.config(), text.split("\n")[0]
            comment = first if first.startswith("#") else f"# {describe(config)}"
            write_atomically(headed(_dumped(comment, config)), self.config_file)

    def try_config(self) -> SweepConfig | None:
        """The sweep's configuration; None if it cannot be read."""
        try:
            return self.config()
        except ConfigError:
            return None

    def try_name(self) -> str | None:
        """The configuration's name; of one that cannot be read, what its file seems to say."""
        config = self.try_config()
        if config is not None:
            return config.name
        try:
            found = _NAME.search(self.config_file.read_text(errors="replace"))
            return str(read_yaml(found[1], "name", found[1])) if found else None
        except (OSError, ConfigError):
            return None


@dataclass(frozen=True)
class Output:
    """The output folder: `--output`, else `$LUCELOOP_OUTPUT`, else ./luceloop-out."""

    path: Path
    named_storage: Folder | None = None
    """Where new sweeps keep what their workers share, if not in the output folder."""

    @classmethod
    def of(cls, given: Path | None, storage: str | None = None) -> Output:
        """Choose the folders; nothing is created.

        Args:
            given: the output folder.
            storage: `--storage`, a path or an fsspec URL; else `$LUCELOOP_STORAGE`.

        Raises:
            ConfigError: if the storage cannot be that.
        """
        chosen = given or Path(os.environ.get("LUCELOOP_OUTPUT") or "luceloop-out")
        check_path("--output", str(chosen))
        named = storage or os.environ.get("LUCELOOP_STORAGE")
        return cls(
            chosen.expanduser().absolute(), open_folder("--storage", named) if named else None
        )

    @property
    def storage(self) -> Folder:
        """What the workers of new sweeps share."""
        return self.named_storage or self.path

    @property
    def cache(self) -> Folder:
        """Trained p_0 and classifiers, shared by all sweeps."""
        return self.storage / "cache"

    @property
    def files(self) -> Folder:
        """Files that configurations of submitted sweeps name."""
        return self.storage / "files"

    @property
    def forecasts(self) -> Path:
        """Figures of forecasts."""
        return self.path / "forecasts"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifacts, where the tracking store is a database."""
        return self.path / "artifacts"

    @property
    def tracking_uri(self) -> str:
        """`$MLFLOW_TRACKING_URI`, else SQLite in this folder."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self._database}"

    @property
    def has_no_store(self) -> bool:
        """Whether MLflow's store is that of this folder, and is not there."""
        return not os.environ.get("MLFLOW_TRACKING_URI") and not self._database.exists()

    @property
    def _database(self) -> Path:
        return self.path / "mlflow.db"

    @property
    def shown_uri(self) -> str:
        """The same without a password."""
        return without_password(self.tracking_uri)

    @property
    def is_database(self) -> bool:
        """Whether MLflow's store is a database without a server, which keeps no artifacts."""
        return is_database(self.tracking_uri)

    def create_sweep(
        self,
        config: SweepConfig,
        description: str,
        identity: str | None = None,
        address: str = "",
    ) -> SweepFolder:
        """A new sweep's folder, its configuration written.

        Args:
            config: of the sweep.
            description: what the sweep varies, in a line.
            identity: its id, where one was chosen before; a new one if not given.
            address: whom it tells of itself; empty for nobody.

        Raises:
            ConfigError: if the id has another form than ours, or is taken.
        """
        identity = new_sweep_id() if identity is None else check_sweep_id("--id", identity)
        folder = SweepFolder(self.path / "sweeps" / identity)
        try:
            folder.path.mkdir(parents=True)
        except FileExistsError:
            raise ConfigError("--id", identity, f"there is such a sweep in {self.path}") from None
        if self.named_storage is not None:
            folder.keep_storage(self.named_storage)
        if address:
            folder.keep_address(address)
        write_atomically(headed(_dumped(f"# {description}", config)), folder.config_file)
        return folder

    def sweeps(self) -> list[SweepFolder]:
        """All sweeps, oldest first."""
        found = (self.path / "sweeps").glob("*/config.yaml")
        return [SweepFolder(file.parent) for file in sorted(found)]

    def find(self, wanted: str) -> SweepFolder:
        """The sweep that `wanted` names: `latest`, an unambiguous prefix of an id, or a name.

        `latest` is the newest sweep, and of several sweeps with the same name it is the newest, be
        it one that cannot be read here: whatever is done to a sweep is done to no other one.

        Raises:
            ConfigError: if there is none, or the prefix fits several.
        """
        sweeps = self.sweeps()
        if not sweeps:
            raise ConfigError("SWEEP", wanted, f"there are no sweeps under {self.path}")
        if wanted == LATEST:
            return sweeps[-1]
        by_id = [sweep for sweep in sweeps if sweep.id.startswith(wanted)] if wanted else []
        by_name = [sweep for sweep in sweeps if sweep.try_name() == wanted]
        if by_name:
            return by_name[-1]
        if len(by_id) == 1:
            return by_id[0]
        known = ", ".join(sweep.id for sweep in (by_id or sweeps)[-5:])
        reason = "fits several sweeps" if by_id else "is no sweep's name or start of an id"
        raise ConfigError("SWEEP", wanted, f"{reason}; there are {known}")

    def find_readable(self, wanted: str) -> SweepFolder:
        """The sweep that `wanted` names, as `find`, but the newest of those that can be read here.

        Raises:
            ConfigError: if there is none, or the prefix fits several.
        """
        newest = self.find(wanted)
        if newest.id.startswith(wanted):
            return newest
        meant = [s for s in self.sweeps() if wanted in (LATEST, s.try_name())]
        found = next((sweep for sweep in reversed(meant) if sweep.try_config()), newest)
        if found.id != newest.id:
            logger.warning("%s cannot be read here; %s is %s", newest.id, wanted, found.id)
        return found


def _dumped(comment: str, config: SweepConfig) -> str:
    """A configuration as text, after a comment that says what it varies."""
    text = yaml.safe_dump(plain_config(config), sort_keys=False, allow_unicode=True)
    return f"{comment}\n{text}"


def new_sweep_id() -> str:
    """An id that no other sweep has; ids sort by time."""
    now = time.time()
    moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now)) + f"{int(now % 1 * 1000):03d}"
    return f"{moment}-{secrets.token_hex(2)}"


def is_sweep_id(text: str) -> bool:
    """Whether `text` has the form of a whole id; it becomes a folder's name."""
    return re.fullmatch(r"[0-9]{8}-[0-9]{9}-[0-9a-f]{4}", text) is not None


def check_sweep_id(key: str, text: str) -> str:
    """`text`, if it is a whole id.

    Raises:
        ConfigError: naming `key`, if it is not.
    """
    if not is_sweep_id(text):
        raise ConfigError(key, text, "must read like 20251231-235959000-0af1")
    return text
