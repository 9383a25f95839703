"""What travels to a cluster, and what a job makes of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

import luceloop
from luceloop.core.config.parsing import parse_config
from luceloop.core.errors import ConfigError, without_password
from luceloop.sweeps.cli import job
from luceloop.sweeps.cluster.selection import select
from luceloop.sweeps.cluster.upload import CONFIG, ENVIRONMENT, FOLDER, REVISION, gather
from luceloop.sweeps.record.folders import Output, is_sweep_id, new_sweep_id
from luceloop.sweeps.record.revision import TRAVELLED, revision_of
from tests.support import SECRETS, Cli


def config(**data: object):
    return parse_config({"name": "mine", "data": {"name": "npz", **data}, "lam": 1})


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    """An empty folder to gather in."""
    target = tmp_path / "upload"
    target.mkdir()
    return target


def touch(folder: Path, *places: str) -> None:
    for place in places:
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).touch()


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_an_upload_holds_code_and_named_files_and_nothing_else(mine: Path, upload, monkeypatch):
    touch(mine, ".git/config", ".venv/x.py", "venv/pyvenv.cfg", "venv/lib.py", "out/mlflow.db",
          "out/x.py", "__pycache__/x.pyc", "data/large.npz", ".env")  # fmt: skip
    touch(mine, "package/__init__.py", "package/weights.pt", "data/loader.py")
    shutil.copy("mine.npz", "data/mine.npz")
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    gather(upload, config(path="data/mine.npz"))
    assert files_of(upload / FOLDER) == {
        "mine.npz", "mine.yaml", "users_own.py", "package/__init__.py", "package/weights.pt",
        "data/loader.py", "data/mine.npz",
    }  # fmt: skip
    ours = {file for file in files_of(upload) if file.startswith("luceloop/")}
    assert files_of(upload) - ours == {
        *(f"{FOLDER}/{file}" for file in files_of(upload / FOLDER)),
        str(CONFIG),
        str(ENVIRONMENT),
    }
    assert "path: data/mine.npz" in (upload / CONFIG).read_text()
    assert json.loads((upload / ENVIRONMENT).read_text()) == SECRETS
    assert (upload / ENVIRONMENT).stat().st_mode & 0o777 == 0o600


def test_the_whole_package_travels_as_files(mine: Path, upload):
    gather(upload, None)
    package = Path(luceloop.__file__).parent
    expected = {
        file.relative_to(package).as_posix()
        for layer in ("", "core", "workers", "sweeps", "analysis")
        for file in [*(package / layer).glob("*"), *(package / layer).glob("*/**/*")]
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert files_of(upload / "luceloop") == expected
    some = {"core/loop/loop.py", "sweeps/presets/mog.yaml", "analysis/pages/report.py", "py.typed"}
    assert some <= expected
    assert not any(path.is_symlink() for path in upload.rglob("*"))


def test_no_file_of_the_users_meets_one_of_ours(mine: Path, upload):
    users = ["luceloop/__init__.py", "luceloop/core/rng.py", "luceloop.py", "core/rw.py",
             "analysis.py", "workers.py", "sweeps/presets/mog.yaml"]  # fmt: skip
    for place in users:
        (mine / place).parent.mkdir(parents=True, exist_ok=True)
        (mine / place).write_text(f"# the user's {place}\n")
    gather(upload, None)
    for place in users:
        assert (upload / FOLDER / place).read_text() == f"# the user's {place}\n"
    ours = Path(luceloop.__file__).parent
    for place in ("__init__.py", "core/rng.py", "sweeps/presets/mog.yaml"):
        assert (upload / "luceloop" / place).read_bytes() == (ours / place).read_bytes()


IGNORED = [
    # .gitignore of the folder, of the folder code, what travels of a.py, code/{a,b}.py, logs/x.txt
    ("", "", {"a.py", "code/a.py", "code/b.py", "logs/x.txt"}),
    ("a.py\n", "", {"code/b.py", "logs/x.txt"}),
    ("/a.py\n", "", {"code/a.py", "code/b.py", "logs/x.txt"}),
    ("*.py\n!b.py\n", "", {"code/b.py", "logs/x.txt"}),
    ("logs/\n", "", {"a.py", "code/a.py", "code/b.py"}),
    ("# logs/\n\ncode/*.py\n", "", {"a.py", "logs/x.txt"}),
    ("", "a.py\n", {"a.py", "code/b.py", "logs/x.txt"}),
    ("a.py\n", "!a.py\n", {"code/a.py", "code/b.py", "logs/x.txt"}),
    ("code/\n", "!a.py\n", {"a.py", "logs/x.txt"}),
]


@pytest.mark.external
@pytest.mark.parametrize(("outer", "inner", "expected"), IGNORED, ids=repr)
def test_what_git_ignores_stays_here(outer, inner, expected, tmp_path):
    """Judged by git itself, too."""
    touch(tmp_path, "a.py", "code/a.py", "code/b.py", "logs/x.txt")
    for place, rules in ((".gitignore", outer), ("code/.gitignore", inner)):
        if rules:
            (tmp_path / place).write_text(rules)
    found = {path.relative_to(tmp_path).as_posix() for path in select(tmp_path).files}
    assert found == expected
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    listed = ["git", "ls-files", "--others", "--exclude-standard"]
    by_git = subprocess.run(listed, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert {file for file in by_git.stdout.split() if "gitignore" not in file} == expected


def test_a_named_file_travels_though_git_ignores_it(mine: Path, upload):
    (mine / ".gitignore").write_text("*.npz\n")
    gather(upload, config(path="mine.npz"))
    assert (upload / FOLDER / "mine.npz").read_bytes() == (mine / "mine.npz").read_bytes()


SECRET = [
    "id_rsa", "keys/id_ed25519", "server.pem", "tls.key", "credentials", "aws_credentials.json",
    "kubeconfig", "kubeconfig.yaml", "secrets.json", "secret.yml", "token.txt", "api-key.txt",
    "my_tokens.json", "prod.env", "passwords.csv", "_netrc", "service-account.json", "x.tfstate",
]  # fmt: skip
PLAIN = [
    "id_rsa.pub", "tokens.py", "secrets/reward.py", "secretary.txt", "tokenizer.json", "keys.npz",
    "data.json", "keynote.txt",
]  # fmt: skip


def test_what_looks_like_a_secret_stays_and_is_named(mine: Path, upload):
    touch(mine, *SECRET, *PLAIN, ".netrc", ".aws/credentials", ".ssh/id_rsa", ".env")
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\n"
    (mine / "deploy.txt").write_text(key)
    found = gather(upload, config(path="mine.npz"))
    assert {str(place) for place in found.secrets} == {*SECRET, "deploy.txt"}
    assert set(map(str, found.sizes)) == files_of(upload / FOLDER)
    assert files_of(upload / FOLDER) == {"mine.npz", "mine.yaml", "users_own.py", *PLAIN}


def test_links_out_of_the_folder_are_not_followed(mine: Path, upload, tmp_path):
    (tmp_path / "elsewhere.txt").write_text("private")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner.txt").write_text("private")
    (mine / "link.txt").symlink_to(tmp_path / "elsewhere.txt")
    (mine / "up.txt").symlink_to("../elsewhere.txt")
    (mine / "folder").symlink_to(tmp_path / "folder")
    (mine / "within.yaml").symlink_to("mine.yaml")
    found = gather(upload, config(path="mine.npz"))
    assert {str(place) for place in found.outside} == {"link.txt", "up.txt"}
    assert files_of(upload / FOLDER) == {"mine.npz", "mine.yaml", "users_own.py", "within.yaml"}
    assert "private" not in "".join(
        path.read_text() for path in (upload / FOLDER).rglob("*.txt") if path.is_file()
    )


def test_what_a_configuration_needs_travels_whatever_it_looks_like(mine: Path, upload, tmp_path):
    shutil.move("mine.npz", tmp_path / "far.npz")
    (mine / "token.npz").symlink_to(tmp_path / "far.npz")
    shutil.copy("users_own.py", "secret_reward.py")
    (mine / ".gitignore").write_text("*.npz\nsecret_reward.py\n")
    reward = {"name": "secret_reward:right"}
    plain = {"name": "mine", "data": {"name": "npz", "path": "token.npz"}, "lam": 1}
    found = gather(upload, parse_config(plain | {"reward": reward}))
    assert {"token.npz", "secret_reward.py"} <= files_of(upload / FOLDER)
    assert not found.secrets and not found.outside


@pytest.mark.external
def test_rules_of_git_that_lie_elsewhere_count_too(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / ".git" / "info" / "exclude").write_text("private*\n")
    touch(tmp_path, "mine/a.py", "mine/a.log", "mine/private.txt", "mine/b.txt")
    found = {path.name for path in select(tmp_path / "mine").files}
    assert found == {"a.py", "b.txt"}


LIST = ["submit", "mine.yaml", "lam=1", "reward={name: 'users_own:right'}", "--list"]


def test_submit_lists_what_it_would_upload_and_takes_what_is_included(mine: Path, cli: Cli):
    touch(mine, "token.txt", ".hidden")
    (mine / "away").symlink_to("/etc/hostname")
    ran = cli(*LIST)
    assert ran.code == 0, ran.err
    assert "users_own.py\n" in ran.out and "  token.txt" not in ran.out
    assert "uploads 3 files of this folder, " in ran.out and "the largest mine.npz (" in ran.out
    assert "look like secrets: token.txt (--include FILE takes one)" in ran.out
    assert "links out of this folder: away" in ran.out
    ran = cli(*LIST, "--include", "token.txt")
    assert "  token.txt" in ran.out and "secrets" not in ran.out
    ran = cli(*LIST, "--include", "../token.txt")
    assert ran.code == 2 and ran.err.startswith("--include='../token.txt': must be a file beneath")


def test_too_large_an_upload_names_the_file_to_move(mine: Path, upload, monkeypatch):
    monkeypatch.setattr("luceloop.sweeps.cluster.upload.MOST_BYTES", 3000)
    with pytest.raises(ConfigError, match=r"mine\.npz: move it"):
        gather(upload, None)


@pytest.mark.parametrize("store", ["sqlite:////home/me/mlflow.db", "./mlruns"])
def test_a_store_that_is_a_file_of_this_machine_is_refused(store, mine, upload, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI"):
        gather(upload, None)


def test_a_job_takes_its_environment_and_keeps_its_files(mine: Path, tmp_path, monkeypatch):
    target, output = tmp_path / "upload", tmp_path / "output"
    target.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        gather(target, config(path="mine.npz"))
    (target / ENVIRONMENT).chmod(0o644)  # as Ray unpacks it
    monkeypatch.chdir(target)
    monkeypatch.setattr("os.environ", dict(os.environ))
    arguments = ["job", "run", str(Path("..") / CONFIG), "--output", str(output)]
    monkeypatch.setattr("sys.argv", arguments)
    seen = []
    monkeypatch.setattr("luceloop.sweeps.cli.app.main", lambda: seen.append(dict(os.environ)))
    job.main()
    [environment] = seen
    assert SECRETS.items() <= environment.items()
    assert Path.cwd() == target / FOLDER
    assert (target / ENVIRONMENT).stat().st_mode & 0o777 == 0o600
    [kept] = Output(output).files.iterdir()
    assert kept.read_bytes() == (mine / "mine.npz").read_bytes()
    assert f"path: {kept}" in (target / CONFIG).read_text()


def test_a_job_without_an_output_folder_ends_with_one_line(monkeypatch, capsys):
    monkeypatch.delenv("LUCELOOP_OUTPUT", raising=False)
    monkeypatch.setattr("sys.argv", ["job", "run", str(CONFIG)])
    with pytest.raises(SystemExit) as end:
        job.main()
    assert end.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_ids_sort_by_time_and_no_other_text_is_one():
    first, second = new_sweep_id(), new_sweep_id()
    assert is_sweep_id(first) and first[:18] <= second[:18] and first != second
    for text in ("", "latest", "..", f"{first}/x", f"{first}\n", f" {first}"):
        assert not is_sweep_id(text)


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("postgresql://me:p%40ss@db/mlflow", "postgresql://db/mlflow"),
        ("request to https://me:pass@host/api failed", "request to https://host/api failed"),
        ("sqlite:////tmp/mlflow.db", "sqlite:////tmp/mlflow.db"),
        ("http://host/a@b", "http://host/a@b"),
        ("http://host:5000/#/x?mail=a@b", "http://host:5000/#/x?mail=a@b"),
        ("postgresql://me:pa/ss@db/mlflow", "postgresql://db/mlflow"),
        ("postgresql://me:p@ss/w@rd@db:5432/mlflow", "postgresql://db:5432/mlflow"),
        ("postgresql://me:12/34@db/mlflow", "postgresql://db/mlflow"),
        ("no answer from http://:p/w@h/x: refused", "no answer from http://h/x: refused"),
        ("postgresql://db/x?user=me&password=p", "postgresql://db/x?user=me&password=***"),
        ("https://h/api?token=abc&x=1 failed", "https://h/api?token=***&x=1 failed"),
        ("https://h/?access_token=abc#top", "https://h/?access_token=***#top"),
        ("s3://b/k?X-Amz-Signature=abc", "s3://b/k?X-Amz-Signature=***"),
        ("host=db password=pw dbname=x", "host=db password=*** dbname=x"),
        ("seeds=3: must be a count", "seeds=3: must be a count"),
        (
            "mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BUID%3Dme%3BPWD%3Dsecret&x=1",
            "mssql+pyodbc:///?odbc_connect=***&x=1",
        ),
        ("SERVER=db;PWD={a;b}}c d};DATABASE=x", "SERVER=db;PWD=***;DATABASE=x"),
        (r"host=db password = 'a b\'c d' dbname=x", "host=db password = *** dbname=x"),
        ("postgresql://u:pa ss@h/db", "postgresql://h/db"),
        ("no URL in 'postgresql://u:pa s@s@h/db': a@b", "no URL in 'postgresql://h/db': a@b"),
        ("postgresql://u:it's@h/db", "postgresql://h/db"),
        ("mysql://a:b@h/x, then mysql://c:d@h/y", "mysql://h/x, then mysql://h/y"),
    ],
)
def test_addresses_are_shown_without_passwords(text, without):
    assert without_password(text) == without


def git(*arguments: str) -> None:
    options = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *options, *arguments], check=True, capture_output=True)


def test_a_configuration_that_the_job_could_not_read_is_not_submitted(mine: Path, upload: Path):
    search = {"search": {"curation.beta": {"grid": [0.1 + i / 7 for i in range(45_000)]}}}
    large = config(path="mine.npz").model_copy(update={"search": parse_search(search)})
    with pytest.raises(ConfigError, match="where it is submitted"):
        gather(upload, large)


def parse_search(search: Mapping[str, object]):
    return parse_config({"name": "mine", "data": {"name": "eight_gaussians"}, **search}).search


def test_a_secret_that_git_tracks_stays_with_its_differences(mine: Path, upload: Path):
    (mine / "credentials.json").write_text("one")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "begun")
    (mine / "credentials.json").write_text("hunter2")
    gather(upload, config(path="mine.npz"))
    revision = json.loads((upload / REVISION).read_text())["diff"]
    assert "credentials.json" in revision and "hunter2" not in revision


def test_what_git_ignores_stays_here_beside_a_submodule_and_within_it(
    mine: Path, upload: Path, tmp_path: Path
):
    inner = tmp_path / "inner"
    touch(inner, "code.py", "own-ignored.py")
    git("init", "-q", str(inner))
    git("-C", str(inner), "add", "code.py")
    git("-C", str(inner), "commit", "-qm", "begun")
    git("init", "-q")
    git("submodule", "add", "-q", str(inner), "a_part")
    touch(mine, "zz_ignored.py", "a_part/own_ignored.py")
    (mine / ".git/info/exclude").write_text("zz_ignored.py\n")
    (mine / ".git/modules/a_part/info/exclude").write_text("own_ignored.py\n")
    gather(upload, config(path="mine.npz"))
    found = files_of(upload / FOLDER)
    assert "a_part/code.py" in found
    assert not {"zz_ignored.py", "a_part/own_ignored.py"} & found


def test_where_git_does_not_say_what_is_ignored_nothing_travels(mine: Path, upload, monkeypatch):
    git("init", "-q")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(ConfigError, match=r"git does not say what is ignored: .*ownership"):
        gather(upload, config(path="mine.npz"))


def test_what_git_has_of_the_folder_travels_though_the_repository_does_not(
    mine: Path, upload: Path, monkeypatch
):
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "begun"]):
        subprocess.run(["git", *command], check=True)
    (mine / "users_own.py").write_text("value = 1\n")
    expected = revision_of(mine)
    assert expected is not None and "+value = 1" in expected.diff
    gather(upload, config(path="mine.npz"))
    assert not list(upload.rglob(".git"))
    assert revision_of(upload / FOLDER) is None
    monkeypatch.setenv(TRAVELLED, str(upload / REVISION))
    assert revision_of(upload / FOLDER) == expected
