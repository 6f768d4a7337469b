"""Signed commits, with real git, ssh-keygen and gpg: what becomes of them (tests/cases/signatures/commits.yaml)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler import commands, queries
from reconciler.errors import SourceError
from reconciler.ports import EventFilter
from reconciler.source.git_source import GitSource
from reconciler.source.keyring import ALLOWED, GPG, REVOKED, KeyFiles
from reconciler.transport.memory import MemoryTransport
from tests.doors import doors
from tests.signers import Signers, forge, signers
from tests.world import IMAGE, ManualClock, MemoryWorld, image, make_world, site

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases/signatures/commits.yaml").read_text())
DEFAULT: dict[str, Any] = {
    "verify": "required",
    "allowed": [
        "alice@example.com alice",
        "bob@example.com,robert@example.com bob",
        "*@forge.example.com forge",
        'old@example.com valid-before="20210101" old',
    ],
    "revoked": [],
    "gpg": ["grace", "revoked", "expired", "past"],
}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signers]:
    with signers(tmp_path_factory.mktemp("keys")) as found:
        yield found


class Fleet:
    """A memory world whose repository's commits are signed; the settings' files are in `directory`."""

    def __init__(self, directory: Path, people: Signers) -> None:
        self.directory, self.people = directory, people
        clock = ManualClock()
        self.transport = MemoryTransport(clock)
        self.world: MemoryWorld = make_world(directory, self.transport, clock)
        self.repository = self.world.repository.directory

    def set(self, wanted: Mapping[str, Any]) -> None:
        """Write the files of keys, and settings that name them."""
        lines = [line.rpartition(" ") for line in wanted["allowed"]]
        contents = {
            ALLOWED: "".join(f"{before} {self.people.public(name)}\n" for before, _, name in lines).encode(),
            REVOKED: "".join(f"{self.people.public(name)}\n" for name in wanted["revoked"]).encode(),
            GPG: self.people.exported(wanted["gpg"]) if wanted["gpg"] else b"",
        }
        for setting, content in contents.items():
            (self.directory / setting).write_bytes(content)
        files = {name: self.directory / name for name, content in contents.items() if content}
        self.use(KeyFiles(files, self.directory / "keyrings"), wanted["verify"])

    def use(self, key_files: KeyFiles, verify: Any = "required") -> None:
        url = f"file://{self.repository}"
        source = GitSource(url, "main", ".", self.directory / "mirror.git", 30, key_files)
        fleet = replace(self.world.context.fleet, verify=verify)
        self.world.context = replace(self.world.context, source=source, fleet=fleet)

    def write(self, files: Mapping[str, str]) -> None:
        """A commit by alice, signed."""
        self.world.repository.commit(files)
        self.people.commit(
            self.repository,
            "alice",
            "ssh:alice",
            arguments=("commit", "--quiet", "--amend", "--no-edit", "--reset-author"),
        )

    def make(self, commit: Mapping[str, Any]) -> None:
        about = {name: value for name, value in commit.items() if name not in ("merges", "forge")}
        if "merges" in commit:
            self.people.merge(self.repository, topic=commit["merges"], **about)
        else:
            self.people.commit(self.repository, **about)
        if "forge" in commit:
            forge(self.repository, commit["forge"])

    async def became(self, after: int) -> list[str | list[str]]:
        """For each commit recorded after a position: `accepted`, or the problems' names."""
        wanted = EventFilter(after=after, types=("CommitAccepted", "CommitRejected"))
        return [
            [problem["name"] for problem in event.body.as_data()["problems"]]
            if event.type == "CommitRejected"
            else "accepted"
            for event in await self.world.log.read(wanted)
        ]

    async def last(self, event_type: str) -> dict[str, Any]:
        (event,) = await self.world.log.read(EventFilter(types=(event_type,), newest_first=True, limit=1))
        return event.body.as_data()


@pytest.fixture
def fleet(tmp_path: Path, people: Signers) -> Fleet:
    return Fleet(tmp_path, people)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
async def test_what_becomes_of_commits(case: dict[str, Any], fleet: Fleet) -> None:
    wanted = {**DEFAULT, **{name: case[name] for name in DEFAULT if name in case}}
    fleet.set(DEFAULT)
    fleet.write({"image.yaml": IMAGE})
    await fleet.world.run()
    start = await fleet.world.head()
    assert await fleet.became(0) == ["accepted"]
    for commit in case["commits"]:
        fleet.make(commit)
    fleet.set(wanted)

    await fleet.world.run()

    assert await fleet.became(start) == case["becomes"]
    recorded = (await fleet.last("CommitObserved"))["signature"]
    if "signed" in case:
        assert (recorded["verdict"], recorded["signer"]) == ("good", case["signed"])
    if "warnings" in case:
        assert [warning["name"] for warning in (await fleet.last("CommitAccepted"))["warnings"]] == case["warnings"]
    assert (recorded is None) == (wanted["verify"] == "none")

    before = await fleet.world.head()
    await fleet.world.run()
    assert await fleet.world.head() == before, "the same keys, the same judgement: nothing to say"
    if "then" in case:
        fleet.set({**wanted, **case["then"]})
        await fleet.world.run()
        assert await fleet.became(before) == ([case["again"]] if "again" in case else [])


async def test_the_last_good_state_stays_and_status_says_who_signed_it(fleet: Fleet) -> None:
    fleet.set(DEFAULT)
    fleet.write({**site("eu", 1), "image.yaml": image(blockedRegistries=["good.corp"])})
    assert (await fleet.world.sync()).exit_code == 0
    files = dict(fleet.transport.nodes["eu-1"].files)
    smuggled = fleet.world.repository.commit({"image.yaml": image(blockedRegistries=["smuggled.corp"])})

    status = await fleet.world.sync()

    assert status.exit_code == 4
    assert fleet.transport.nodes["eu-1"].files == files
    shown = (await queries.status(fleet.world.context))[1]
    assert shown["signatures"] == "required, last accepted commit signed by alice@example.com"
    (problem,) = shown["problems"]
    assert (problem["name"], problem["object"]) == ("unsigned", f"commit {smuggled[:12]}")
    assert "git commit --amend --no-edit -S" in problem["remedy"]


async def test_a_rewritten_branch_is_judged_from_the_last_accepted_commit_on(fleet: Fleet) -> None:
    """A person's acceptance of the new branch is no signature."""
    fleet.set(DEFAULT)
    fleet.write({"image.yaml": IMAGE})
    root = fleet.world.repository.git("rev-parse", "HEAD")
    fleet.make({"by": "bob", "key": "ssh:bob"})
    await fleet.world.run()
    fleet.world.repository.git("reset", "--quiet", "--hard", root)
    fleet.make({"by": "mallory"})
    fleet.make({"by": "alice", "key": "ssh:alice"})
    await fleet.world.run()
    await commands.accept(fleet.world.context, reason="agreed")
    before = await fleet.world.head()

    await fleet.world.run()

    assert await fleet.became(before) == [["unsigned"]]


async def test_the_first_sync_judges_the_head_alone(fleet: Fleet) -> None:
    fleet.set(DEFAULT)
    fleet.world.repository.commit({"image.yaml": IMAGE}, "Before anybody signed")
    fleet.make({"by": "alice", "key": "ssh:alice"})
    await fleet.world.run()
    assert await fleet.became(0) == ["accepted"]


async def test_the_first_sync_refuses_an_unsigned_head(fleet: Fleet) -> None:
    fleet.set(DEFAULT)
    fleet.world.repository.commit({"image.yaml": IMAGE})
    await fleet.world.run()
    assert await fleet.became(0) == [["unsigned"]]


async def test_a_person_asks_to_judge_again(fleet: Fleet) -> None:
    fleet.set(DEFAULT)
    fleet.world.repository.commit({"image.yaml": IMAGE})
    await fleet.world.run()
    before = await fleet.world.head()
    await fleet.world.run(recheck=True)
    assert await fleet.became(before) == [["unsigned"]]


async def test_many_commits_are_judged_by_few_processes(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.set(DEFAULT)
    fleet.write({"image.yaml": IMAGE})
    await fleet.world.run()
    for _ in range(10):
        fleet.make({"by": "alice", "key": "ssh:alice"})
    trace = fleet.directory / "trace"
    monkeypatch.setenv("GIT_TRACE", str(trace))

    await fleet.world.run()

    judged = [line for line in trace.read_text().splitlines() if "built-in: git" in line and "--no-walk" in line]
    assert len(judged) == 1
    assert (await fleet.became(0)).count("accepted") == 11


async def test_a_great_many_problems_are_counted(fleet: Fleet) -> None:
    fleet.set(DEFAULT)
    fleet.write({"image.yaml": IMAGE})
    await fleet.world.run()
    fleet.world.repository.git("checkout", "--quiet", "-b", "topic")
    for number in range(25):
        fleet.world.repository.git("commit", "--quiet", "--allow-empty", "--message", f"{number}")
    fleet.world.repository.git("checkout", "--quiet", "main")
    merge = ("merge", "--quiet", "--no-ff", "--message", "Merge", "topic")
    fleet.people.commit(fleet.repository, "alice", "ssh:alice", arguments=merge)
    await fleet.world.run()
    problems = (await fleet.last("CommitRejected"))["problems"]
    assert len(problems) == 21
    assert problems[-1]["message"] == "5 more commits are not signed as they should be"


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        ("Bob <bob@example.com> 1790000000 +0000", "accepted"),
        ("Alice <alice@example.com> <bob@example.com> 1790000000 +0000", ["signer-not-committer"]),
        ("B <bob@example.com> 1 +0000\ncommitter A <alice@example.com> 1790000000 +0000", ["signer-not-committer"]),
    ],
)
async def test_who_is_recorded_as_committer_is_who_must_have_signed(
    line: str, becomes: str | list[str], fleet: Fleet
) -> None:
    """A commit made by hand may name two."""
    fleet.set(DEFAULT)
    fleet.write({"image.yaml": IMAGE})
    await fleet.world.run()
    start = await fleet.world.head()
    fleet.make({"by": "bob", "key": "ssh:bob"})
    fleet.people.pretend(fleet.repository, "bob", line)
    await fleet.world.run()
    recorded = (await fleet.last("CommitObserved"))["committer_email"]
    assert await fleet.became(start) == [becomes]
    assert recorded == ("bob@example.com" if becomes == "accepted" else "alice@example.com")


async def test_a_revocation_list_may_be_a_krl(fleet: Fleet) -> None:
    fleet.set({**DEFAULT, "revoked": ["bob"]})
    file = fleet.directory / REVOKED
    keys = file.with_name("bob.pub")
    keys.write_bytes(file.read_bytes())
    subprocess.run(("ssh-keygen", "-q", "-k", "-f", str(file), str(keys)), check=True)
    fleet.write({"image.yaml": IMAGE})
    await fleet.world.run()
    fleet.make({"by": "bob", "key": "ssh:bob"})
    await fleet.world.run()
    assert await fleet.became(0) == ["accepted", ["key-revoked"]]


# --- The user's own configuration ----------------------------------------------------------------------------------


async def test_nothing_of_the_users_configuration_counts(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a program, nor trusted keys, nor gpg's own keyring, by file or by variable."""
    fleet.set({**DEFAULT, "gpg": ["grace"]})
    fleet.write({"image.yaml": IMAGE})
    await fleet.world.run()
    fleet.make({"by": "mallory", "key": "ssh:mallory"})
    fleet.make({"by": "unlisted", "key": "gpg:unlisted"})
    start = await fleet.world.head()
    allowed = fleet.directory / "users_signers"
    allowed.write_text(f"mallory@example.com {fleet.people.public('mallory')}\n")
    config = fleet.directory / "gitconfig"
    config.write_text(f'[gpg "ssh"]\nallowedSignersFile = {allowed}\nprogram = true\n[gpg]\nprogram = true\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "gpg.ssh.allowedSignersFile")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(allowed))
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", f"'gpg.ssh.allowedSignersFile'='{allowed}'")
    monkeypatch.setenv("GNUPGHOME", str(fleet.people.home))

    await fleet.world.run()

    assert await fleet.became(start) == [["signature-untrusted"], ["signature-untrusted", "signature-untrusted"]]


# --- Keys that cannot be used ---------------------------------------------------------------------------------------

UNUSABLE: dict[str, tuple[str, bytes | None, str]] = {
    "missing": (ALLOWED, None, "cannot be read: No such file or directory"),
    "empty": (ALLOWED, b"# nobody\n", "holds no public key"),
    "no key in a line": (ALLOWED, b"\nalice@example.com\n", "has no public key in line 2"),
    "private key": (ALLOWED, b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "holds a private key"),
    "revocations missing": (REVOKED, None, "cannot be read"),
    "revocations without a key": (REVOKED, b"bob@example.com\n", "has no public key in line 1"),
    "gpg missing": (GPG, None, "cannot be read"),
    "gpg rubbish": (GPG, b"rubbish", "holds what gpg cannot import"),
}


@pytest.mark.parametrize("name", UNUSABLE)
async def test_keys_that_cannot_be_used_stop_commits_not_nodes(name: str, fleet: Fleet) -> None:
    setting, content, what = UNUSABLE[name]
    fleet.set({**DEFAULT, "revoked": ["mallory"]})
    fleet.write({**site("eu", 1), "image.yaml": IMAGE})
    await fleet.world.sync()
    fleet.make({"by": "alice", "key": "ssh:alice"})
    file = fleet.directory / setting
    good = file.read_bytes()
    file.unlink()
    if content is not None:
        file.write_bytes(content)

    done = await fleet.world.run()

    assert (done.head, set(done.sights)) == (None, {"eu-1"})
    reason = (await fleet.last("SourceUnreachable"))["reason"]
    assert reason.startswith(f"{file}: {setting} {what}")
    file.write_bytes(good)
    await fleet.world.run()
    assert (await fleet.became(0))[-1] == "accepted"
    assert "SourceRecovered" in await fleet.world.types()


@pytest.mark.parametrize(("program", "setting"), [("ssh-keygen", ALLOWED), ("gpg", GPG)])
async def test_a_missing_program_is_named(
    program: str, setting: str, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.set(DEFAULT)
    fleet.write({"image.yaml": IMAGE})
    only_git = fleet.directory / "bin"
    only_git.mkdir()
    (only_git / "git").symlink_to("/usr/bin/git")
    monkeypatch.setenv("PATH", str(only_git))
    fleet.use(KeyFiles({setting: fleet.directory / setting}, fleet.directory / "elsewhere"))
    with pytest.raises(SourceError, match=f"need the program {program}, which is not there") as raised:
        await fleet.world.context.source.keys()
    assert "install" in raised.value.remedy


async def test_gpg_is_only_needed_for_gpg_keys(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.set({**DEFAULT, "gpg": []})
    fleet.write({"image.yaml": IMAGE})
    programs = fleet.directory / "bin"
    programs.mkdir()
    for name in ("git", "ssh-keygen"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(programs))
    await fleet.world.run()
    assert await fleet.became(0) == ["accepted"]


async def test_the_keyring_is_for_its_owner_only(fleet: Fleet) -> None:
    fleet.set(DEFAULT)
    digest = await fleet.world.context.source.keys()
    store = fleet.directory / "keyrings"
    assert [child.name for child in store.iterdir()] == [digest]
    assert {place.stat().st_mode & 0o777 for place in (store, store / digest, store / digest / "gnupg")} == {0o700}


# --- Through the program -------------------------------------------------------------------------------------------


def test_the_program_tells_how_signatures_stand(
    people: Signers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with doors(tmp_path, monkeypatch, count=1) as ready:
        ready.run("sync")
        assert ready.data("status")["signatures"] == "not checked"
        allowed = tmp_path / "allowed_signers"
        allowed.write_text(f"alice@example.com {people.public('alice')}\n")
        allowed.chmod(0o644)
        with ready.settings.open("a") as settings:
            settings.write('verify = "required"\nallowed_signers = "allowed_signers"\n')
        assert "signatures required, last accepted commit not checked" in ready.run("status").stdout
        signed = people.commit(ready.repository.directory, "alice", "ssh:alice")

        assert ready.run("sync", "--wait").exit_code == 0

        shown = ready.data("status")
        assert (shown["verify"], shown["accepted"]["commit"]) == ("required", signed)
        assert shown["accepted"]["signature"]["signer"] == "alice@example.com"
        assert "required, last accepted commit signed by alice@example.com" in ready.run("status").stdout
        newest = ready.run("history", "--type", "CommitObserved", "--limit", "1").stdout.splitlines()[1]
        assert newest.endswith("alice: By alice, signed by alice@example.com")
        ready.repository.commit({}, "Unsigned")
        refused = ready.run("sync", code=4).stdout
        assert "is not signed; its committer is alice@example.com [unsigned]" in refused
        checks = {item["name"]: item for item in ready.items("doctor")}
        assert checks["fleet default: signatures"]["ok"]
        allowed.chmod(0o666)
        checks = {item["name"]: item for item in ready.data("doctor", code=1)["items"]}
        assert checks["fleet default: signatures"]["detail"] == f"may be written by others: {allowed}"
        allowed.write_text("nobody\n")
        checks = {item["name"]: item for item in ready.data("doctor", code=1)["items"]}
        assert "allowed_signers has no public key in line 1" in checks["fleet default: signatures"]["detail"]
