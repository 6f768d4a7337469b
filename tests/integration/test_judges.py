"""skopeo and podman do what `resolve` says, on a real node against two real registries."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pytest
import yaml

from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF
from reconciler.registries.references import parse
from reconciler.registries.resolve import Candidate, PullSource, resolve
from reconciler.registries.runtime_config import ROOT_CONFIG, load
from tests.judge_parts import IMAGE
from tests.judge_trials import trial
from tests.judges import (
    ACCEPT,
    Answer,
    Ask,
    Files,
    Judge,
    Program,
    Trial,
    holds,
    need_judges,
    running_judges,
    server_of,
)

JUDGES = 2
"""As many as work side by side on two cores."""
FEW, MANY = range(60), range(60, 360)
"""Seeds of the trials in every run, and in the long one."""
DIGEST = IMAGE.digest


class Court:
    """The judges of this module, working side by side."""

    def __init__(self, judges: list[Judge], authority: bytes) -> None:
        self.judges = judges
        self.authority = authority

    def ask(self, trials: Sequence[Trial]) -> list[list[Answer]]:
        """What the judges did in each trial."""
        self.judges[0].fill(repositories(trials))
        shares = [trials[index::JUDGES] for index in range(JUDGES)]
        with ThreadPoolExecutor(JUDGES) as threads:
            given = list(threads.map(lambda judge, share: judge.ask(share), self.judges, shares))
        return [given[index % JUDGES][index // JUDGES] for index in range(len(trials))]


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    need_judges()
    with running_judges(tmp_path_factory.mktemp("judges"), JUDGES) as (judges, authority):
        yield Court(judges, authority)


# --- what resolve foretells -----------------------------------------------------------------------------------------


def repositories(trials: Sequence[Trial]) -> set[str]:
    """Every repository that may be asked for an image."""
    found = [resolve(load(trial.files), ask.image) for trial in trials for ask in trial.asks]
    names = {source.reference for one in found for candidate in one.candidates for source in candidate.sources}
    return {parse(name).name.partition("/")[2] for name in names}


def foretold(trial: Trial, ask: Ask, authority: bytes) -> tuple[bool, tuple[str, ...]]:
    """What `resolve` leads us to expect: whether the image comes, and which repositories are asked, in order."""
    contacted: list[str] = []
    for candidate in resolve(load(trial.files), ask.image).candidates:
        source = first_with_image(trial.files, candidate, authority, contacted)
        if source and candidate.decision == "pull":
            return True, tuple(contacted)
    return False, tuple(contacted)


def first_with_image(files: Files, candidate: Candidate, authority: bytes, contacted: list[str]) -> PullSource | None:
    """The source that the image is taken from; policy.json is asked after that. `contacted` grows."""
    for source in candidate.sources:
        name, tag, digest = parse(source.reference)
        registry, _, repository = name.partition("/")
        server = server_of(registry)
        trusted = source.insecure or (server == "tls" and trusts(files, registry, authority))
        if server is None or source.blocked or not trusted:
            continue
        if contacted[-1:] != [name]:
            contacted.append(name)
        if holds(server, repository) and (tag in ("v1", "latest") or digest == DIGEST):
            return source
    return None


def trusts(files: Files, registry: str, authority: bytes) -> bool:
    """The first directory that there is for exactly this host[:port] counts, with its *.crt files."""
    for directory in (f"{ROOT_CONFIG}/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d"):
        inside = {path: content for path, content in files.items() if path.startswith(f"{directory}/{registry}/")}
        if inside:
            return any(path.endswith(".crt") and content == authority for path, content in inside.items())
    return False


def differences(court: Court, trials: Sequence[Trial]) -> list[str]:
    """Where the judges did something else than foretold, each with its files."""
    return [
        f"{ask.program} {ask.image}\nforetold {expected}\nfound {answer.done, answer.contacted}: {answer.said}\n"
        + "\n".join(f"--- {path}\n{_text(content)}" for path, content in given.files.items() if "certs.d" not in path)
        for given, answers in zip(trials, court.ask(trials), strict=True)
        for ask, answer in zip(given.asks, answers, strict=True)
        if (expected := foretold(given, ask, court.authority)) != (answer.done, answer.contacted)
    ]


def _text(content: bytes | None) -> str:
    return content.decode() if content else ""


# --- generated trials -----------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_generated(court: Court) -> None:
    found = differences(court, [trial(seed, DIGEST, court.authority) for seed in FEW])
    assert not found, "\n\n".join(found)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_generated(court: Court) -> None:
    found = differences(court, [trial(seed, DIGEST, court.authority) for seed in MANY])
    assert not found, "\n\n".join(found)


def kinds(trial: Trial, ask: Ask) -> Iterator[str]:
    """What happens in a trial, in words of `LEAST`."""
    config = load(trial.files)
    resolution = resolve(config, ask.image)
    if resolution.error and not config.registries_error and not isinstance(config.policy(), str):
        yield "no candidates"
    elif resolution.error:
        yield "not loaded"
    for number, candidate in enumerate(resolution.candidates):
        contacted: list[str] = []
        source = first_with_image(trial.files, candidate, AUTHORITY, contacted)
        yield "not found" if candidate.decision == "pull" and not source else candidate.decision
        if candidate.registry_prefix.startswith("*."):
            yield "wildcard"
        if source and candidate.decision == "pull":
            yield from _success(number, candidate, source, contacted)
            break


def _success(number: int, candidate: Candidate, source: PullSource, contacted: Sequence[str]) -> Iterator[str]:
    yield "by digest" if parse(source.reference).digest else "by tag"
    if source.mirror:
        yield "mirror by digest" if parse(source.reference).digest else "mirror by tag"
    if source.insecure:
        yield "insecure"
    if source != candidate.sources[0]:
        yield "not the first source"
    if len(contacted) > 1:
        yield "after an empty source"
    if any(other.blocked for other in candidate.sources):
        yield "beside a blocked source"
    if not source.mirror and source.reference != candidate.reference:
        yield "rewritten"
    if number:
        yield "later search registry"


AUTHORITY = b"CA"
LEAST = {
    **dict.fromkeys(("by digest", "by tag", "blocked", "rejected_by_policy", "not found", "insecure"), 10),
    **dict.fromkeys(("mirror by digest", "mirror by tag", "not the first source", "wildcard", "error"), 5),
    **dict.fromkeys(("after an empty source", "no candidates", "not loaded"), 5),
    **dict.fromkeys(("beside a blocked source", "rewritten", "later search registry", "pull_if_signed"), 2),
}
"""How often each kind must come in the trials of every run, so that their silence means something."""


def test_generated_trials_are_of_every_kind() -> None:
    trials = [trial(seed, DIGEST, AUTHORITY) for seed in FEW]
    found = Counter(kind for given in trials for ask in given.asks for kind in kinds(given, ask))
    assert {kind: found[kind] for kind, least in LEAST.items() if found[kind] < least} == {}


# --- written trials -------------------------------------------------------------------------------------------------

CASES = Path(__file__).parents[1] / "cases" / "judges"


def written(name: str) -> Any:
    return yaml.safe_load((CASES / f"{name}.yaml").read_text())


def trial_of(case: Mapping[str, Any], authority: bytes) -> Trial:
    files: dict[str, bytes | None] = {POLICY_JSON: ACCEPT}
    for path, text in case.get("files", {}).items():
        files[str(PurePosixPath("/etc/containers", path))] = None if text is None else text.encode()
    for registry in case.get("trusted", ("a.io", "x.a.io", "m.lan")):
        files[f"/etc/docker/certs.d/{registry}/ca.crt"] = authority
    for path, text in case.get("certs", {}).items():
        files[path] = authority if text == "CA" else text.encode()
    return Trial(files, [_ask(text) for text in case["asks"]])


def _ask(text: str) -> Ask:
    program, _, image = text.replace("@D", f"@{DIGEST}").rpartition(" ")
    return Ask(cast("Program", program), image)


def _said(expected: Sequence[str]) -> tuple[bool, tuple[str, ...]]:
    return expected[0] == "done", tuple(expected[1:])


def judged(court: Court, cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the judges did something else than the cases say."""
    trials = [trial_of(case, court.authority) for case in cases]
    return [
        f"{case['name']}: {text}: {answer}"
        for case, answers in zip(cases, court.ask(trials), strict=True)
        for (text, expected), answer in zip(case["asks"].items(), answers, strict=True)
        if _said(expected) != (answer.done, answer.contacted)
    ]


@pytest.mark.parametrize("case", written("pulls"), ids=lambda case: case["name"])
def test_pulls_as_resolve_says(case: dict[str, Any]) -> None:
    given = trial_of(case, AUTHORITY)
    told = {text: foretold(given, ask, AUTHORITY) for text, ask in zip(case["asks"], given.asks, strict=True)}
    assert told == {text: _said(expected) for text, expected in case["asks"].items()}


def test_pulls_as_the_judges_do(court: Court) -> None:
    assert judged(court, written("pulls")) == []


@pytest.mark.parametrize("case", written("limits"), ids=lambda case: case["name"])
def test_limits_as_resolve_says(case: dict[str, Any]) -> None:
    given = trial_of(case, AUTHORITY)
    (ask,), (done,) = given.asks, case["asks"].values()
    assert foretold(given, ask, AUTHORITY) == _said(case["resolve"]) != _said(done)


def test_limits_as_the_judges_do(court: Court) -> None:
    """Fails when a version no longer has a limit: then its case belongs to pulls.yaml."""
    version = subprocess.run(["skopeo", "--version"], capture_output=True, text=True, check=True).stdout
    if not version.startswith("skopeo version 1.9."):
        pytest.skip(f"the limits are those of skopeo 1.9, here is {version.strip()}")
    assert judged(court, written("limits")) == []


# --- odd texts ------------------------------------------------------------------------------------------------------


def odd_texts(*, judged: bool) -> list[tuple[str, str, bool]]:
    """Path, text, and whether a.io/app:v1 can be pulled with it."""
    found = [(REGISTRIES_CONF, text, done) for text, done in _outcomes(written("registries_texts"))]
    sections = written("policy_texts")
    accept = ACCEPT.decode().removesuffix("}")
    for section, form in (
        ("requirements", _SCOPED),
        ("newer", _SCOPED),
        ("transports", '{accept}, "transports": {text}}}'),
    ):
        if section != "newer" or not judged:
            found += [
                (POLICY_JSON, form.format(accept=accept, text=text), done)
                for text, done in _outcomes(sections[section])
            ]
    return found


_SCOPED = '{accept}, "transports": {{"docker": {{"m.lan": [{text}]}}}}}}'


def _outcomes(section: Mapping[str, Sequence[str]]) -> list[tuple[str, bool]]:
    return [(text, outcome == "done") for outcome in ("done", "failed") for text in section[outcome]]


def _with_text(path: str, text: str, authority: bytes) -> Trial:
    files = {POLICY_JSON: ACCEPT, "/etc/docker/certs.d/a.io/ca.crt": authority}
    return Trial(files | {path: text.encode(errors="surrogatepass")}, [Ask("skopeo", "a.io/app:v1")])


@pytest.mark.parametrize(("path", "text", "done"), odd_texts(judged=False))
def test_odd_texts_as_resolve_says(path: str, text: str, done: bool) -> None:
    given = _with_text(path, text, AUTHORITY)
    assert foretold(given, given.asks[0], AUTHORITY)[0] == done


@pytest.mark.slow
def test_odd_texts_as_the_judges_do(court: Court) -> None:
    texts = odd_texts(judged=True)
    answers = court.ask([_with_text(path, text, court.authority) for path, text, _ in texts])
    wrong = [(text, answer) for (_, text, done), (answer,) in zip(texts, answers, strict=True) if answer.done != done]
    assert wrong == []


# --- pushes ---------------------------------------------------------------------------------------------------------


def test_pushes(court: Court) -> None:
    assert judged(court, written("push")) == []


@pytest.mark.docs
def test_the_page_on_pushes_says_what_was_found() -> None:
    page = " ".join((Path(__file__).parents[2] / "docs" / "reference" / "push.md").read_text().split())
    assert [case["says"] for case in written("push") if " ".join(case["says"].split()) not in page] == []
