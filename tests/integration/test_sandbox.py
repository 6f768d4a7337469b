"""Sandbox nodes keep to themselves: the host's files stay, and nothing is left when whoever started them dies."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from reconciler.transport.sandbox import local_node, running_nodes, wait_for
from tests.nodes import need_sshd

OWNER = """
import sys, time
from pathlib import Path
from reconciler.transport.sandbox import start_nodes
node = start_nodes(Path(sys.argv[1]), 1)[0]
print(node.address, node.port, node.pid, flush=True)
time.sleep(60)
"""


def listens(address: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((address, port), 1):
        return True
    return False


def test_nodes_end_with_whoever_started_them(tmp_path: Path) -> None:
    need_sshd()
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout as output:
        address, port, pid = output.readline().split()
    assert listens(address, int(port))
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    wait_for(lambda: not listens(address, int(port)), "the node outlived its owner")
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the node's first process outlived its owner")


def test_the_host_stays_as_it_is(tmp_path: Path) -> None:
    need_sshd()
    before = Path("/etc/passwd").read_bytes(), Path("/etc/hostname").read_bytes(), socket.gethostname()
    with running_nodes(tmp_path, 2) as (one, two):
        (one.root / "etc/hostname").write_text("changed\n")
        assert one.run("hostname").stdout == "node-1\n"
        assert (two.root / "etc/hostname").read_bytes() == before[1]
        assert one.address != two.address
        assert one.host_key != two.host_key
        assert list((one.root / "etc/containers").iterdir()) == []
        assert list((one.root / "root").iterdir()) == []
        assert len({(node.root / "etc/machine-id").read_text() for node in (one, two)}) == 2
    assert before == (Path("/etc/passwd").read_bytes(), Path("/etc/hostname").read_bytes(), socket.gethostname())
    wait_for(lambda: not listens(one.address, one.port), "the node outlived its end")


def test_a_local_node_is_found_again(tmp_path: Path) -> None:
    first = local_node(tmp_path)
    identity = (first.root / "etc/machine-id").read_text()
    first.runtime.set_active("failed")
    again = local_node(tmp_path)
    assert (again.root / "etc/machine-id").read_text() == identity
    assert again.target() == first.target()
    assert not (local_node(tmp_path, "bare", runtime=False).root / "usr/local/bin/systemctl").exists()
