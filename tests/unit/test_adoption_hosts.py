"""Which hosts a list or an inventory names: tests/cases/adoption_hosts. And those of an OpenSSH configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.adoption.hosts import Login, host_at, once, read_file
from reconciler.errors import InputRejected, UsageError
from reconciler.transport.host_keys import named_hosts

FOLDER = Path(__file__).parents[1] / "cases" / "adoption_hosts"
CASES = {case["name"]: case for path in sorted(FOLDER.glob("*.yaml")) for case in yaml.safe_load(path.read_text())}


@pytest.mark.parametrize("name", CASES)
def test_sources_of_hosts(name: str, tmp_path: Path) -> None:
    case: dict[str, Any] = CASES[name]
    file = tmp_path / "hosts"
    file.write_text(case["text"])
    login, ansible = Login(user="me"), case.get("ansible", False)
    if "refused" in case:
        with pytest.raises((UsageError, InputRejected)) as refusal:
            once(read_file(file, login, ansible=ansible))
        assert case["refused"] in str(refusal.value).replace(str(file), "FILE")
        return
    hosts = once(read_file(file, login, ansible=ansible))
    found = {h.name: [h.target.address, h.target.port, h.target.user, h.target.become] for h in hosts}
    assert found == case["hosts"]


def test_two_hosts_of_one_name_are_refused() -> None:
    hosts = [host_at(text, Login(), "here") for text in ("web1", "web1")]
    assert len(once(hosts)) == 1
    with pytest.raises(UsageError, match="two hosts are named web1"):
        once([*hosts, host_at("core@web1", Login(), "here")])


def test_the_hosts_of_an_openssh_configuration(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("Host inner\n  HostName 10.0.0.7\n")
    config = tmp_path / "config"
    config.write_text(
        f"Include {tmp_path}/mo*\n"
        "Host web1 web2 !web3\n  HostName 10.0.0.1\n  Port 2222\n  User core\n"
        "Host behind\n  HostName 10.1.0.1\n  ProxyJump web1\n"
        "Host *.corp *\n  User nobody\n"
    )
    assert [tuple(found) for found in named_hosts(config)] == [
        ("inner", "10.0.0.7", 22, "nobody"),
        ("web1", "10.0.0.1", 2222, "core"),
        ("web2", "10.0.0.1", 2222, "core"),
        ("behind", "behind", 22, "nobody"),
    ]
    with pytest.raises(UsageError, match="there is no such file"):
        named_hosts(tmp_path / "nowhere")
