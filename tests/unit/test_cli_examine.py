"""`why` and `lint`: what they print and end with; the reasons themselves have cases of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from reconciler.cli import main
from reconciler.registries.model import REGISTRIES_CONF

REGISTRIES = """\
unqualified-search-registries = ["quay.io"]
[[registry]]
location = "quay.io/team"
blocked = true
[[registry.mirror]]
location = "mirror.corp/team"
pull-from-mirror = "digest-only"
"""
POLICY = (
    '{"default": [{"type": "reject"}], "transports": {"docker": {"quay.io": [{"type": "insecureAcceptAnything"}]}}}'
)
SIGNED = '{"default": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}]}'
MANIFESTS = """\
apiVersion: config.openshift.io/v1
kind: Image
metadata: {name: cluster}
spec:
  registrySources:
    blockedRegistries:
    - untrusted.com
---
apiVersion: reconciler.dev/v1alpha1
kind: NodePool
metadata: {name: worker}
spec: {nodeSelector: {matchLabels: {pool: worker}}}
"""


def invoke(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=given)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    containers = tmp_path / "etc" / "containers"
    containers.mkdir(parents=True)
    (containers / "registries.conf").write_text(REGISTRIES)
    (containers / "policy.json").write_text(POLICY)
    return tmp_path


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    (tmp_path / "image.yaml").write_text(MANIFESTS)
    return tmp_path


def test_why_on_the_files_of_a_host(host: Path) -> None:
    result = invoke("why", "quay.io/team/app:1", "--files", str(host))
    assert result.exit_code == 1
    assert result.stdout == (
        "not pullable: quay.io/team/app:1\n"
        "  every place that would be asked is blocked, and 1 mirror is skipped\n"
        "decided by /etc/containers/registries.conf:2  [[registry]] quay.io/team\n"
        "pull order of quay.io/team/app:1:\n"
        "  1.   mirror.corp/team/app:1   mirror   skipped   /etc/containers/registries.conf:5   "
        "it serves pulls by digest only, and the image is named by tag\n"
        "  2.   quay.io/team/app:1       source   blocked   /etc/containers/registries.conf:2   "
        "the table for quay.io/team is blocked\n"
        "  policy: docker scope 'quay.io' (/etc/containers/policy.json:1)\n"
        "what would have to change:\n"
        "  - pull by digest: the mirrors are digest-only; or mirror the source with an ImageTagMirrorSet\n"
        "  - remove blocked = true from [[registry]] quay.io/team at /etc/containers/registries.conf:2\n"
    )


def test_why_on_manifests_names_the_field_and_its_line(manifests: Path) -> None:
    result = invoke("why", "untrusted.com/app", "--from", str(manifests), "-o", "json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["kind"], found["verdict"]) == (1, "Explanation", "not pullable")
    origin = {
        "resource": "Image/cluster",
        "field": "spec.registrySources.blockedRegistries[0]",
        "file": "image.yaml",
        "line": 7,
    }
    assert found["decidedBy"]["origins"] == [origin]
    assert found["changes"] == ["remove untrusted.com from spec.registrySources.blockedRegistries of Image/cluster"]
    assert result.stderr == "assumed: the hosts have no registry files of their own\n"


def test_why_on_manifests_reads_the_templates_of_the_pool(manifests: Path) -> None:
    pool = "apiVersion: reconciler.dev/v1alpha1\nkind: NodePool\nmetadata: {name: edge}\nspec: {base: edge}\n"
    (manifests / "edge.yaml").write_text(pool)
    template = manifests / "edge/etc/containers/registries.conf"
    template.parent.mkdir(parents=True)
    template.write_text(
        'unqualified-search-registries = ["a.corp"]\n[[registry]]\nlocation = "b.corp"\nblocked = true\n'
    )
    arguments = ("--from", str(manifests), "--pool", "edge", "-o", "json")
    result = invoke("why", "b.corp/app", "tool", *arguments)
    blocked, short = json.loads(result.stdout)["items"]
    assert (blocked["verdict"], blocked["decidedBy"]["file"]) == ("not pullable", REGISTRIES_CONF)
    assert short["attempts"][0]["reference"] == "a.corp/tool:latest"
    assert "assumed: the hosts have no registry files of their own besides the templates" in result.stderr


def test_why_on_manifests_says_what_it_assumes(tmp_path: Path) -> None:
    result = invoke("why", "a.com/app", "--from", str(tmp_path))
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "pullable: a.com/app")
    assert "assumed: their own /etc/containers/policy.json accepts every image" in result.stderr
    assert invoke("why", "app", "--from", str(tmp_path)).exit_code == 3


def test_why_asks_the_manifests_here_where_no_fleet_is_configured(
    manifests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(manifests)
    monkeypatch.setenv("HOME", str(manifests))
    result = invoke("why", "untrusted.com/app")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (1, "not pullable: untrusted.com/app")
    assert result.stderr.startswith("asked: the manifests in this directory, as no fleet is configured\n")
    result = invoke("why", "a.com/app", "--node", "worker-1")
    assert (result.exit_code, "no fleet is configured" in result.stderr) == (2, True)


def test_why_says_what_becomes_of_an_import_and_a_push(manifests: Path) -> None:
    result = invoke("why", "untrusted.com/app", "--from", str(manifests), "--import", "--push")
    assert result.exit_code == 1
    at = "from Image/cluster spec.registrySources.blockedRegistries[0] (image.yaml:7)"
    assert result.stdout.partition("import into")[2] == (
        " an image stream: forbidden\n"
        "  untrusted.com is blocked, and so the importer refuses it\n"
        f"  {at}\n"
        "  what would have to change:\n"
        "    - remove untrusted.com from spec.registrySources.blockedRegistries of Image/cluster\n"
        "  note: users who may create images or imagestreammappings are not held to the list; on nodes it has no "
        "effect\n"
        "push to untrusted.com/app:latest: not pushable\n"
        "  the table for untrusted.com is blocked\n"
        "  decided by /etc/containers/registries.conf:2  [[registry]] untrusted.com\n"
        f"    {at}\n"
        "  local images for podman push, buildah push: taken (/etc/containers/policy.json:2  default)\n"
        "  local images for skopeo copy oci:…: taken (/etc/containers/policy.json:2  default)\n"
        "  local images for skopeo copy dir:…: taken (/etc/containers/policy.json:2  default)\n"
        "  what would have to change:\n"
        "    - remove untrusted.com from spec.registrySources.blockedRegistries of Image/cluster\n"
    )


def test_a_push_that_is_refused_counts_for_the_exit_code(host: Path) -> None:
    """The default rejects what is on the host itself."""
    assert invoke("why", "quay.io/app:1", "--files", str(host)).exit_code == 0
    assert invoke("why", "quay.io/app:1", "--files", str(host), "--push").exit_code == 1


def test_why_about_many_images(host: Path) -> None:
    listed = "quay.io/app:1  # fine\n\n# none\nquay.io/team/app:1\n"
    result = invoke("why", "--image-list", "-", "--files", str(host), given=listed)
    assert [line.split("   ")[0].strip() for line in result.stdout.splitlines()] == [
        "IMAGE",
        "quay.io/app:1",
        "quay.io/team/app:1",
    ]
    assert result.exit_code == 1
    items = yaml.safe_load(invoke("why", "quay.io/a", "evil.com/x", "--files", str(host), "-o", "yaml").stdout)["items"]
    assert [(item["image"], item["verdict"]) for item in items] == [
        ("quay.io/a", "pullable"),
        ("evil.com/x", "not pullable"),
    ]


def test_why_cannot_tell_whether_an_image_is_signed(host: Path) -> None:
    (host / "etc/containers/policy.json").write_text(SIGNED)
    assert invoke("why", "quay.io/app:1", "--files", str(host)).exit_code == 3


def test_why_asks_the_policy_of_a_namespace(host: Path) -> None:
    policies = host / "etc/crio/policies"
    policies.mkdir(parents=True)
    (policies / "team.json").write_text('{"default": [{"type": "reject"}]}')
    assert invoke("why", "quay.io/app:1", "--files", str(host)).exit_code == 0
    assert invoke("why", "quay.io/app:1", "--files", str(host), "--namespace", "team").exit_code == 1


def test_why_takes_files_without_their_directories(tmp_path: Path) -> None:
    (tmp_path / "registries.conf").write_text(REGISTRIES)
    (tmp_path / "policy.json").write_text(POLICY)
    assert invoke("why", "quay.io/team/app:1", "--files", str(tmp_path)).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no image is named"),
        (["a.com/x", "--files", "nowhere"], "no registry files are there"),
        (["a.com/x", "--files", ".", "--pool", "worker"], "--files takes the place of manifests"),
        (["a.com/x", "--from", "nowhere"], "is no directory"),
        (["a.com/x", "--from", ".", "--pool", "other"], "there is no pool other"),
    ],
)
def test_why_refuses_what_it_cannot_use(
    arguments: list[str], message: str, manifests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(manifests)
    result = invoke("why", *arguments)
    assert result.exit_code in (2, 4)
    assert message in result.stderr
    assert result.stdout == ""


def test_a_link_out_of_the_directory_is_refused(host: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "policy.json"
    elsewhere.write_text(POLICY)
    policy = host / "etc/containers/policy.json"
    policy.unlink()
    policy.symlink_to(elsewhere)
    result = invoke("why", "quay.io/app:1", "--files", str(host))
    assert result.exit_code == 2
    assert "is a symbolic link out of" in result.stderr


def test_lint_says_where_what_and_what_to_do(host: Path) -> None:
    (host / "etc/containers/registries.conf.d").mkdir()
    main_file = host / "etc/containers/registries.conf"
    drop_in = host / "etc/containers/registries.conf.d/10-mine.conf"
    drop_in.write_text('[[registry]]\nlocation = "quay.io/team"\n')
    result = invoke("lint", str(host))
    assert result.exit_code == 1
    assert result.stdout == (
        f"warning: {main_file}:2: quay.io/team is blocked and its mirrors serve digests only: "
        "no image of it can be pulled by tag [digest-only-blocked]\n"
        "    → name images by digest, or let a mirror serve tags too\n"
        f"warning: {drop_in}:1: the table for quay.io/team replaces the one of {main_file}:2 as a whole, "
        "and drops blocked and the mirrors [drop-in-replaces]\n"
        "    → make one table of the two: tables of one prefix are never merged\n"
    )
    assert result.stderr == "0 errors, 2 warnings in 3 files\n"
    assert invoke("lint", str(host), "--ignore", "drop-in-replaces", "--ignore", "digest-only-blocked").exit_code == 0
    items = json.loads(invoke("lint", str(host), "-o", "json").stdout)["items"]
    assert [item["name"] for item in items] == ["digest-only-blocked", "drop-in-replaces"]


def test_lint_knows_a_file_by_where_it_lies(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = host / "etc/containers/registries.conf.d"
    folder.mkdir()
    (folder / "10-old.conf").write_text('[registries.search]\nregistries = ["a.com"]\n')
    monkeypatch.chdir(folder)
    for given in ("10-old.conf", "."):
        result = invoke("lint", given)
        assert result.exit_code == 1
        assert "which a drop-in must not have" in result.stdout


def test_lint_never_opens_a_private_key(tmp_path: Path) -> None:
    folder = tmp_path / "certs.d/a.com"
    folder.mkdir(parents=True)
    (folder / "client.cert").write_text("-----BEGIN CERTIFICATE-----")
    (folder / "client.key").write_text("SECRET")
    (folder / "client.key").chmod(0)
    result = invoke("lint", str(tmp_path))
    assert (result.exit_code, result.stdout) == (0, "")


@pytest.mark.parametrize("given", ["nothing.txt", "empty"])
def test_lint_refuses_what_it_does_not_know(given: str, tmp_path: Path) -> None:
    (tmp_path / "nothing.txt").write_text("")
    (tmp_path / "empty").mkdir()
    result = invoke("lint", str(tmp_path / given))
    assert result.exit_code == 2
    assert str(tmp_path / given) in result.stderr
    assert invoke("lint", str(tmp_path), "--ignore", "nothing").exit_code == 2


def test_what_is_no_image_reference_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images.txt").write_text("# what we need\nquay.io/app:1\nquay.io/App:1  # upper case\na b\n")
    Path("none.txt").write_text("# nothing yet\n")
    in_file = "images.txt:3: 'quay.io/App:1' is no image reference: invalid reference format: repository name must be"
    for arguments, message in (
        (["why", "quay.io/app:1", "a b"], "IMAGE: 'a b' is no image reference: invalid reference format"),
        (["why", "--image-list", "images.txt"], in_file),
        (["why", "--image-list", "images.txt"], "lowercase (and 1 more)"),
        (["why", "--image-list", "none.txt"], "none.txt: no image is named"),
        (["bisect", "--good", "#1", "--image", "quay.io/app:"], "--image: 'quay.io/app:' is no image reference"),
        (["diff", "--from", "#1", "--images", "images.txt"], in_file),
        (["plan", "--images", "images.txt"], in_file),
    ):
        result = invoke(*arguments)
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        assert message in result.stderr
        assert "write HOST[:PORT]/REPOSITORY" in result.stderr or "no image" in message
