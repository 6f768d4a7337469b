"""The command line as a whole: help, shared options, variables, errors and exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from reconciler import __version__
from reconciler.cli import main
from reconciler.cli.failures import report
from reconciler.cli.main import exit_code
from reconciler.errors import (
    InputRejected,
    LogCorrupt,
    NodeUnreachable,
    NotConverged,
    ReconcilerError,
    SourceError,
    StoreError,
    TimedOut,
    UsageError,
)
from reconciler.settings import load

SETTINGS = """\
data_dir = "data"
[fleets.one]
url = "/nowhere/one"
"""


def run(*arguments: object, env: dict[str, str] | None = None) -> Result:
    return CliRunner(env=env).invoke(main, [str(argument) for argument in arguments])


def verbs(command: click.Command = main, parent: click.Context | None = None) -> Iterator[click.Context]:
    """A context of every verb and group."""
    settings = main.context_settings if parent is None else {}
    context = click.Context(command, parent=parent, info_name=command.name, **settings)
    yield context
    if isinstance(command, click.Group):
        for verb in command.commands.values():
            yield from verbs(verb, context)


VERBS = {context.command_path: context for context in verbs()}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file; no database and no repository is there."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    place = tmp_path / "reconciler.toml"
    place.write_text(SETTINGS)
    return place


@pytest.mark.parametrize("path", VERBS)
def test_every_verb_has_help(path: str) -> None:
    result = run(*path.split()[1:], "--help")
    assert result.exit_code == 0
    assert VERBS[path].command.help
    assert result.stdout.startswith(f"Usage: {path} ")


@pytest.mark.parametrize("path", VERBS)
def test_every_option_shows_its_variable_and_its_default(path: str) -> None:
    context = VERBS[path]
    for option in context.command.params:
        if isinstance(option, click.Option):
            extra = option.get_help_extra(context)
            assert extra["envvars"][0].startswith("RECONCILER_"), option.name
            assert extra.get("default") or extra.get("required"), option.name
            assert option.help, option.name


def test_no_variable_of_an_option_is_mistaken_for_a_setting(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    names = {
        name
        for context in VERBS.values()
        for option in context.command.params
        if isinstance(option, click.Option)
        for name in option.get_help_extra(context)["envvars"]
    }
    for name in names - {"RECONCILER_CONFIG"}:
        monkeypatch.setenv(name, "1")
    assert list(load(file).fleets) == ["one"]


def test_version() -> None:
    assert run("version").stdout.startswith(f"reconciler {__version__} ")
    data = json.loads(run("version", "-o", "json").stdout)
    assert (data["kind"], data["version"]) == ("Version", __version__)


def test_config_show_names_origins_and_hides_passwords(file: Path) -> None:
    url = "postgresql://alice:geheim@db.example.com/reconciler"
    result = run("config", "show", "--config", file, "-o", "json", env={"DATABASE_URL": url})
    items = {item["name"]: item for item in json.loads(result.stdout)["items"]}
    assert items["database.url"]["origin"] == "DATABASE_URL"
    assert items["fleets.one.url"] == {"name": "fleets.one.url", "value": '"/nowhere/one"', "origin": str(file)}
    assert items["log.level"] == {"name": "log.level", "value": '"info"', "origin": "default"}
    assert "geheim" not in result.output


def test_the_strongest_layer_wins(file: Path) -> None:
    environment = {"RECONCILER_LOG__LEVEL": "error", "RECONCILER_SET": "log.format=json"}
    arguments = ["--set", "log.level=debug", "config", "show", "--config", file, "--set", "log.level=warning"]
    result = run(*arguments, "-o", "yaml", env=environment)
    items = {item["name"]: item for item in yaml.safe_load(result.stdout)["items"]}
    assert (items["log.level"]["value"], items["log.level"]["origin"]) == ('"warning"', "flag")
    assert items["log.format"]["value"] == '"json"'


def test_a_shared_option_after_the_verb_wins_but_a_variable_does_not(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("log.level = 'debug'\n")
    before = run("--config", file, "config", "show", "-o", "name", env={"RECONCILER_CONFIG": str(other)})
    assert "setting/fleets.one.url" in before.stdout
    after = run("--config", file, "config", "show", "-o", "name", "--config", other)
    assert "setting/fleets.one.url" not in after.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["sync", "--frobnicate"], "--frobnicate"),
        (["sync", "--timeout", "soon"], "'soon' is no duration; write 90s, 5m or 1h30m"),
        (["status", "-o", "xml"], "'xml' is not one of"),
        (["--set", "log.level", "config", "show"], "'log.level' is not KEY=VALUE"),
        (["config", "show", "--set", "log.colour=red"], "log.colour: no such setting"),
        (["status", "--fleet", "two"], "there is no fleet two"),
        (["cat", "worker-1"], "'worker-1' is not NODE:PATH"),
        (["cat", "worker-1:etc/x"], "'worker-1:etc/x' is not NODE:PATH"),
        (["get", "nodes", "-l", "a b"], "'a b' is no label selector"),
        (["rollback", "--to", "previous"], "--reason: is required"),
        (["approve"], "Missing option '--reason'"),
        (["approve", "--reason", "because"], "say --yes"),
        (["accept", "--reason", "because"], "say --yes"),
        (["hold", "lift", "h-1", "--reason", "because"], "say --yes"),
        (["hold", "lift", "--reason", "because"], "Missing argument 'ID'"),
        (["why", "a.com/x", "--node", "n", "--pool", "p"], "--node, --pool and --all-nodes exclude each other"),
        (["why", "a.com/x", "--strict"], "--strict is about manifests"),
        (["why", "a.com/x", "--from", ".", "--live"], "--live is about a fleet"),
        (["why", "a.com/x", "--files", ".", "--node", "n"], "--node is about a fleet"),
        (["why", "a.com/x", "--files", ".", "--import"], "--files takes the place of manifests"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_ends_with_2_and_says_why(arguments: list[str], says: str, file: Path) -> None:
    result = run("--config", file, *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stdout == ""


def test_a_form_that_only_the_variable_names_does_not_stop_a_verb() -> None:
    assert run("version", env={"RECONCILER_OUTPUT": "wide"}).stdout.startswith("reconciler ")
    assert json.loads(run("version", env={"RECONCILER_OUTPUT": "json"}).stdout)["kind"] == "Version"
    assert run("version", "-o", "wide").exit_code == 2


def test_a_settings_file_that_is_not_there(tmp_path: Path) -> None:
    result = run("status", "--config", tmp_path / "none.toml")
    assert result.exit_code == 2
    assert "cannot be read: No such file or directory" in result.stderr


def test_several_fleets_need_a_choice_and_none_needs_settings(file: Path, tmp_path: Path) -> None:
    several = tmp_path / "several.toml"
    several.write_text(SETTINGS + '[fleets.two]\nurl = "/nowhere/two"\n')
    result = run("status", "--config", several)
    assert (result.exit_code, "one of: one, two" in result.stderr) == (2, True)
    none = tmp_path / "none.toml"
    none.write_text("")
    result = run("status", "--config", none)
    assert (result.exit_code, "no fleet is configured" in result.stderr) == (2, True)


def test_a_database_that_is_down(file: Path) -> None:
    url = "postgresql://alice:geheim@127.0.0.1:1/reconciler"
    for arguments in (["status"], ["sync"], ["log", "verify"], ["db", "check"], ["serve"]):
        result = run("--config", file, *arguments, env={"DATABASE_URL": url})
        assert result.exit_code == 1, arguments
        assert result.stderr.startswith("error: database reconciler at 127.0.0.1:1: no connection to the database")
        assert "geheim" not in result.output
    result = run("--config", file, "diff", env={"DATABASE_URL": url})
    assert result.exit_code == 2  # 1 would say "differs"
    result = run("--config", file, "doctor", "-o", "json", env={"DATABASE_URL": url})
    failed = {item["name"]: item["remedy"] for item in json.loads(result.stdout)["items"] if not item["ok"]}
    assert (result.exit_code, list(failed)) == (1, ["database"])
    assert "check that PostgreSQL runs there" in failed["database"]


def test_doctor_examines_the_settings_first(file: Path) -> None:
    file.write_text("colour = 'red'\n")
    result = run("--config", file, "doctor")
    assert result.exit_code == 1
    head, row = result.stdout.splitlines()
    assert head.split() == ["CHECK", "RESULT", "DETAIL", "REMEDY"]
    assert row.split()[:2] == ["settings", "FAIL"]
    assert "colour: no such setting" in row


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (InputRejected("x"), 4),
        (NotConverged("x"), 3),
        (TimedOut("x"), 124),
        (SourceError("x"), 1),
        (StoreError("x"), 1),
        (LogCorrupt("x"), 1),
        (NodeUnreachable("x"), 1),
        (click.UsageError("x"), 2),
        (click.Abort(), 130),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_a_message_and_a_code(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(error) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err


def test_a_message_has_place_and_remedy_and_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    report(ReconcilerError("cannot read https://alice:geheim@git.example.com/x", where="fleet one", remedy="log in"))
    assert capsys.readouterr().err == ("error: fleet one: cannot read https://***@git.example.com/x\n  → log in\n")


def test_a_bug_is_one_line_and_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def broken() -> None:
        raise LookupError("postgresql://alice:geheim@db/x\nis not there")

    assert exit_code(broken) == 1
    (line,) = capsys.readouterr().err.splitlines()
    (log,) = tmp_path.iterdir()
    assert line == (f"error: LookupError: postgresql://***@db/x — this is a bug; its traceback is in {log}")
    assert "in broken" in log.read_text()
    assert "geheim" not in log.read_text()


def test_what_a_verb_returns_is_the_exit_code() -> None:
    assert (exit_code(lambda: None), exit_code(lambda: 0), exit_code(lambda: 3)) == (0, 0, 3)


def test_init_writes_settings_that_can_be_used_and_overwrites_nothing(tmp_path: Path) -> None:
    url = "ssh://git@git.example.com/fleet.git"
    result = run("init", tmp_path / "new", "--url", url, "--branch", "stable", "--path", "eu", "--name", "eu-west")
    place = tmp_path / "new" / "reconciler.toml"
    assert (result.exit_code, result.stdout) == (0, f"{place}\n")
    fleet = load(place).fleets["eu-west"]
    assert (fleet.url, fleet.branch, fleet.path) == (url, "stable", "eu")
    before = place.read_text()
    again = run("init", tmp_path / "new", "--url", "elsewhere")
    assert (again.exit_code, "is there already" in again.stderr) == (2, True)
    assert place.read_text() == before


@pytest.mark.parametrize(
    "arguments",
    [[], ["--url", "u", "--example"], ["--url", "u", "--name", "Not A Name"], ["--url", "u", "--path", "../up"]],
    ids=lambda value: " ".join(value) or "nothing",
)
def test_init_leaves_nothing_behind_when_it_refuses(arguments: list[str], tmp_path: Path) -> None:
    result = run("init", tmp_path / "new", *arguments)
    assert result.exit_code == 2
    assert not list(tmp_path.glob("new/*"))


def test_init_makes_an_example(tmp_path: Path) -> None:
    result = run("init", tmp_path, "--example")
    assert result.exit_code == 0, result.stderr
    settings = load(tmp_path / "reconciler.toml")
    assert settings.fleets["default"].url == str(tmp_path / "fleet")
    assert settings.data_dir == tmp_path / "data"
    assert (tmp_path / "fleet" / ".git").is_dir()
    assert run("validate", tmp_path / "fleet").exit_code == 0
