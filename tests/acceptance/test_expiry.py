"""A CA that comes near its end long after its commit: `status` tells, by the clock, and no event does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from reconciler import queries
from reconciler.cli.status import print_status
from reconciler.transport.memory import MemoryTransport
from tests.authorities import certificate, config_map
from tests.world import ManualClock, make_world, site

KEY = "reg.corp..5000"
IMAGE = """
    apiVersion: config.openshift.io/v1
    kind: Image
    metadata: {name: cluster}
    spec: {additionalTrustedCA: {name: registry-ca}}
"""


async def test_status_tells_when_a_certificate_in_force_expires(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end = x509.load_pem_x509_certificate(certificate().encode()).not_valid_after_utc
    clock = ManualClock(end - timedelta(days=90))
    world = make_world(tmp_path, MemoryTransport(clock), clock)
    files = {"image.yaml": IMAGE, "ca.yaml": config_map("registry-ca", {KEY: certificate()})}
    unused = config_map("unused", {KEY: certificate()})
    world.repository.commit({**files, "unused.yaml": unused, **site("eu"), **site("us")})
    assert (await world.sync()).exit_code == 0
    assert (await queries.status(world.context))[1]["expiring"] == []
    position = await world.head()

    clock.advance(timedelta(days=61).total_seconds())
    found, data = await queries.status(world.context)

    (expiring,) = data["expiring"]
    assert (expiring["name"], expiring["pools"], expiring["field"]) == ("ca-expires", ["eu", "us"], f"data[{KEY}]")
    assert (expiring["file"], expiring["line"]) == ("ca.yaml", 3)
    assert f"expires on {end:%Y-%m-%d}" in expiring["message"]
    assert (found.exit_code, await world.head()) == (0, position)
    print_status("table", data)
    assert "Expires:   pool eu, us: ca.yaml:3: ConfigMap/registry-ca" in capsys.readouterr().out

    silenced = yaml.safe_load(files["ca.yaml"])
    silenced["metadata"]["annotations"] = {"reconciler.dev/silence.ca-expires": "replaced with the registry, OPS-7"}
    world.repository.commit({"ca.yaml": yaml.safe_dump(silenced)})
    assert (await world.sync()).exit_code == 0
    assert (await queries.status(world.context))[1]["expiring"] == []
