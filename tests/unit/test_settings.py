"""Settings: the layers, what is refused, and how it is shown."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.errors import UsageError
from reconciler.settings import Settings, describe, load

FLEET = '[fleets.default]\nurl = "https://git.example.com/fleet.git"\n'


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file and no variable of the machine takes part."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    for name in list(os.environ):
        if name == "DATABASE_URL" or name.startswith("RECONCILER_"):
            monkeypatch.delenv(name)


def write(file: Path, content: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def load_text(tmp_path: Path, content: str) -> Settings:
    return load(write(tmp_path / "given.toml", content))


# --- Layers ---------------------------------------------------------------------------------------------------------


def test_defaults(tmp_path: Path) -> None:
    settings = load()
    assert settings.data_dir == tmp_path / "home/.local/share/reconciler"
    assert settings.database.url == ""
    assert settings.fleets == {}
    assert settings.ssh.connect_timeout == timedelta(seconds=10)
    assert settings.service.address == ("127.0.0.1", 8080)
    assert {origin for _, _, origin in describe(settings)} == {"default"}


def test_flag_over_variable_over_drop_in_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = write(tmp_path / "etc/given.toml", FLEET + 'branch = "file"\npath = "file"\ninterval = "1s"\ntimeout = "1s"')
    first = write(
        tmp_path / "etc/conf.d/10-a.toml", '[fleets.default]\npath = "ten"\ninterval = "10s"\ntimeout = "10s"'
    )
    second = write(tmp_path / "etc/conf.d/20-b.toml", '[fleets.default]\ninterval = "20s"\ntimeout = "20s"\n')
    monkeypatch.setenv("RECONCILER_FLEETS__DEFAULT__INTERVAL", "30s")
    monkeypatch.setenv("RECONCILER_FLEETS__DEFAULT__BRANCH", "variable")
    settings = load(main, {"fleets.default.branch": "flag"})
    assert [row for row in describe(settings) if row[0].startswith("fleets") and row[2] != "default"] == [
        ("fleets.default.url", '"https://git.example.com/fleet.git"', str(main)),
        ("fleets.default.branch", '"flag"', "flag"),
        ("fleets.default.path", '"ten"', str(first)),
        ("fleets.default.interval", '"30s"', "RECONCILER_FLEETS__DEFAULT__INTERVAL"),
        ("fleets.default.timeout", '"20s"', str(second)),
    ]


def test_the_first_file_of_the_known_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "xdg/reconciler/reconciler.toml", 'data_dir = "/xdg"')
    assert load().data_dir == Path("/xdg")
    write(tmp_path / "empty/reconciler.toml", 'data_dir = "/here"')
    assert load().data_dir == Path("/here")
    monkeypatch.setenv("RECONCILER_CONFIG", str(write(tmp_path / "named.toml", 'data_dir = "/named"')))
    assert load().data_dir == Path("/named")
    assert load_text(tmp_path, 'data_dir = "/given"').data_dir == Path("/given")


def test_relative_paths_are_meant_from_their_file(tmp_path: Path) -> None:
    settings = load_text(
        tmp_path,
        'data_dir = "data"\n[ssh]\nidentity_files = ["keys/a", "/abs", "~/b"]\n'
        '[fleets.a]\nurl = "../fleet.git"\n[fleets.b]\nurl = "git@host:x.git"\n[fleets.c]\nurl = "file:///x"\n',
    )
    assert settings.data_dir == tmp_path / "data"
    assert settings.ssh.identity_files == (tmp_path / "keys/a", Path("/abs"), tmp_path / "home/b")
    assert [fleet.url for fleet in settings.fleets.values()] == [
        f"{tmp_path}/../fleet.git",
        "git@host:x.git",
        "file:///x",
    ]


def test_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER_FLEETS__EU_WEST__URL", "https://git.example.com/x")
    monkeypatch.setenv("RECONCILER_SSH__IDENTITY_FILES", "/a, /b")
    monkeypatch.setenv("RECONCILER_SSH__CONFIG_FILE", "/ssh/config")
    monkeypatch.setenv("RECONCILER_DATABASE__URL_FILE", str(write(tmp_path / "secret", "postgresql://a:b@db/log\n")))
    monkeypatch.setenv("RECONCILER_SERVICE_HOST", "10.0.0.1")  # Kubernetes, for a Service named reconciler
    settings = load()
    assert settings.fleets["eu-west"].url == "https://git.example.com/x"
    assert settings.ssh.identity_files == (Path("/a"), Path("/b"))
    assert settings.ssh.config_file == Path("/ssh/config")
    assert settings.database.url == "postgresql://a:b@db/log"
    assert settings.origin("database.url") == "RECONCILER_DATABASE__URL_FILE"


def test_database_url_wins_over_all_but_a_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER_DATABASE__URL", "postgresql://own/log")
    monkeypatch.setenv("DATABASE_URL", "postgresql://common/log")
    assert load_text(tmp_path, '[database]\nurl = "postgresql://file/log"').database.url == "postgresql://common/log"
    assert load(None, {"database.url": "postgresql://flag/log"}).database.url == "postgresql://flag/log"
    monkeypatch.setenv("DATABASE_URL", "")
    assert load().database.url == "postgresql://own/log"


# --- Values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("2h", 7200), ("1h1m1s", 3661), ("0s", 0)]
)
def test_durations(tmp_path: Path, text: str, seconds: int) -> None:
    settings = load_text(tmp_path, f'[service]\nshutdown_grace = "{text}"')
    assert settings.service.shutdown_grace == timedelta(seconds=seconds)
    again = {key: value for key, value, _ in describe(settings)}["service.shutdown_grace"]
    assert load_text(tmp_path, f"[service]\nshutdown_grace = {again}") == settings


@pytest.mark.parametrize(
    ("listen", "address"),
    [(":8080", ("", 8080)), ("[::1]:80", ("::1", 80)), ("192.0.2.1:9", ("192.0.2.1", 9)), ("host:1", ("host", 1))],
)
def test_listen(tmp_path: Path, listen: str, address: tuple[str, int]) -> None:
    assert load_text(tmp_path, f'[service]\nlisten = "{listen}"').service.address == address


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    text = (
        '[database]\nurl = "postgresql://me:s3cret@db/log"\n[fleets.default]\nurl = "https://t0ken@git.example.com/x"'
    )
    shown = str(describe(load_text(tmp_path, text)))
    assert "s3cret" not in shown
    assert "t0ken" not in shown
    assert "postgresql://***@db/log" in shown


# --- What is refused ------------------------------------------------------------------------------------------------

REFUSED = {
    "a = 1": "FILE: a: no such setting",
    'data_dri = "x"': "FILE: data_dri: no such setting\n  → did you mean data_dir?",
    '[flets.default]\nurl = "x"': "FILE: flets: no such setting\n  → did you mean fleets?",
    FLEET + 'brnch = "x"': "FILE: fleets.default.brnch: no such setting\n  → did you mean fleets.default.branch?",
    '[fleets.default]\nbranch = "x"': "FILE: fleets.default.url: is required",
    "[fleets.default]": "FILE: fleets.default.url: is required",
    '[fleets.default]\nurl = " "': "FILE: fleets.default.url: must not be empty",
    '[fleets.Big_Name]\nurl = "x"': "FILE: fleets.Big_Name: a fleet's name has lower-case letters",
    'fleets = "x"': "FILE: fleets: must be a table\n  → write [fleets]",
    "database = 3": "FILE: database: must be a table",
    FLEET + 'path = "../x"': "FILE: fleets.default.path: leaves the repository",
    FLEET + 'path = "/x"': "FILE: fleets.default.path: leaves the repository",
    FLEET + "interval = 60": "FILE: fleets.default.interval: wants a duration such as 90s, 5m or 1h30m",
    FLEET + 'interval = ""': "FILE: fleets.default.interval: wants a duration",
    FLEET + 'interval = "5m1h"': "FILE: fleets.default.interval: wants a duration",
    FLEET + 'interval = "0s"': "FILE: fleets.default.interval: must be at least 1s",
    FLEET + "interval = true": "FILE: fleets.default.interval: wants a duration",
    FLEET + 'interval = "99999999999999h"': "FILE: fleets.default.interval: is too long",
    FLEET + 'verify = "required"': 'FILE: fleets.default: verify = "required" needs keys; set allowed_signers',
    FLEET + 'verify = "maybe"': "FILE: fleets.default.verify: Input should be 'none', 'warn' or 'required'",
    FLEET + 'verify = "warn"\nrevoked_signers = "keys"': 'FILE: fleets.default: verify = "warn" needs keys',
    FLEET + "branch = 3": "FILE: fleets.default.branch: Input should be a valid string",
    'data_dir = ""': "FILE: data_dir: must not be empty",
    '[database]\nurl = "mysql://me:s3cret@x/y"': "FILE: database.url: wants postgresql://",
    '[database]\nurl = "host=x password=s3cret"': "FILE: database.url: wants postgresql://",
    '[service]\nlisten = "8080"': "FILE: service.listen: wants HOST:PORT",
    '[service]\nlisten = "::1:80"': "FILE: service.listen: wants HOST:PORT",
    '[service]\nlisten = ":99999"': "FILE: service.listen: wants HOST:PORT",
    '[log]\nlevel = "loud"': "FILE: log.level: Input should be 'debug', 'info', 'warning' or 'error'",
    "[ssh]\nidentity_files = [3]": "FILE: ssh.identity_files.0: Input is not a valid path",
    "data_dir = ": "FILE: is not valid TOML: Invalid value (at ",
    '[log]\nlevel = "loud"\n[ssh]\nconect_timeout = "1s"': (
        "2 settings cannot be used:\n"
        "  FILE: ssh.conect_timeout: no such setting (did you mean ssh.connect_timeout?)\n"
        "  FILE: log.level: Input should be"
    ),
}  # fmt: skip


@pytest.mark.parametrize("content", REFUSED)
def test_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_text(tmp_path, content)
    said = str(caught.value).replace(str(tmp_path / "given.toml"), "FILE")
    assert said.startswith(REFUSED[content])
    assert "s3cret" not in said


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("RECONCILER_DATABASE_URL", "RECONCILER_DATABASE__URL"),
        ("RECONCILER_DATADIR", "RECONCILER_DATA_DIR"),
        ("RECONCILER_FLEETS_DEFAULT_URL", "RECONCILER_FLEETS__NAME__URL"),
        ("RECONCILER_FLEETS__EU_WEST__BRANHC", "RECONCILER_FLEETS__EU_WEST__BRANCH"),
        ("RECONCILER_SSH__PORT", "see `reconciler config show`"),
    ],
)
def test_a_misspelt_variable(monkeypatch: pytest.MonkeyPatch, name: str, hint: str) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(UsageError, match=f"{name}: no such setting") as caught:
        load()
    assert hint in caught.value.remedy


def test_a_variable_and_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER_DATABASE__URL_FILE", str(tmp_path / "none"))
    with pytest.raises(UsageError, match=r"RECONCILER_DATABASE__URL_FILE: .*none cannot be read: No such file"):
        load()
    monkeypatch.setenv("RECONCILER_DATABASE__URL", "postgresql://x/y")
    with pytest.raises(UsageError, match="both a value and a file"):
        load()


def test_a_variable_is_named_in_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER_SERVICE__SHUTDOWN_GRACE", "soon")
    with pytest.raises(UsageError, match=r"^RECONCILER_SERVICE__SHUTDOWN_GRACE: service\.shutdown_grace: wants"):
        load()


def test_a_flag_is_named_in_its_error() -> None:
    with pytest.raises(UsageError, match=r"^flag: log\.lvel: no such setting\n  → did you mean log\.level\?"):
        load(None, {"log.lvel": "info"})


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "none.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=r"none\.toml: (cannot be read: No such file|is not valid TOML)"):
        load(file)
