"""Registry semantics at size: rendering against tomlkit alone, and lookups per second.

`python -m benchmarks.bench_registries` prints a Markdown table. Times are CPU seconds, the best of several rounds
in one process; the ratio of two figures of one run says more than either.
"""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import tomlkit

from reconciler.registries.model import POLICY_JSON, REGISTRIES_CONF, Location, RenderOptions, Resource
from reconciler.registries.render import check, render
from reconciler.registries.resolve import resolve
from reconciler.registries.runtime_config import load
from reconciler.registries.validate import validate_set

ENTRIES = 5_000
LOOKUPS = 20_000
ROUNDS = 5
SETS = 50
AT = Location("image.yaml", 1)


def best(work: Callable[[], object]) -> float:
    """CPU seconds of the fastest of ROUNDS runs."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def unknown(resources: list[Resource]) -> list[Resource]:
    """The same resources, of which nothing is known yet: what is worked out once per resource counts every time."""
    return [replace(resource) for resource in resources]


def mirror_sets() -> list[Resource]:
    """ENTRIES sources with one mirror each, in SETS ImageDigestMirrorSets."""
    return [_mirror_set(number, range(number, ENTRIES, SETS)) for number in range(SETS)]


def _mirror_set(number: int, sources: range) -> Resource:
    rows = [{"source": _source(i), "mirrors": [f"mirror{i % 7}.corp.example:5000/copy/app{i}"]} for i in sources]
    document = {
        "apiVersion": "config.openshift.io/v1",
        "kind": "ImageDigestMirrorSet",
        "metadata": {"name": f"set-{number}"},
        "spec": {"imageDigestMirrors": rows},
    }
    return Resource(".", "ImageDigestMirrorSet", f"set-{number}", document, Location(f"set-{number}.yaml", 1))


def _source(number: int) -> str:
    return f"r{number % 500}.example.com/team{number // 500}/app{number}"


def nested(count: int) -> list[Resource]:
    """A mirrored source, and `count` insecure scopes in it, each of which inherits its mirror; one covers them all."""
    inside = [f"r.example.com/team{i % 50}/app{i}" for i in range(count)]
    spec = {"registrySources": {"insecureRegistries": [*inside, "*.example.com"]}}
    document = {"apiVersion": "config.openshift.io/v1", "kind": "Image", "metadata": {"name": "cluster"}, "spec": spec}
    rows = [{"source": "r.example.com", "mirrors": ["mirror.corp.example:5000"]}]
    sets = {"kind": "ImageDigestMirrorSet", "metadata": {"name": "m"}, "spec": {"imageDigestMirrors": rows}}
    return [
        Resource(".", "Image", "cluster", document, AT),
        Resource(".", "ImageDigestMirrorSet", "m", sets, Location("m.yaml", 1)),
    ]


def build_and_dump(data: dict[str, Any]) -> str:
    """The same document by tomlkit alone, table by table."""
    document = tomlkit.document()
    registries = tomlkit.aot()
    for registry in data["registry"]:
        table = tomlkit.table()
        for key, value in registry.items():
            if key != "mirror":
                table.add(key, value)
        mirrors = tomlkit.aot()
        for mirror in registry.get("mirror", ()):
            row = tomlkit.table()
            for key, value in mirror.items():
                row.add(key, value)
            mirrors.append(row)
        table.add("mirror", mirrors)
        registries.append(table)
    document.add("registry", registries)
    return tomlkit.dumps(document)


def lookups() -> list[str]:
    """Names below the sources, half of them by digest."""
    random = Random(1)
    suffixes = (":1", "@sha256:" + "9" * 64)
    return [f"{_source(random.randrange(ENTRIES))}/part{random.choice(suffixes)}" for _ in range(LOOKUPS)]


def main() -> None:
    resources, options = mirror_sets(), RenderOptions()
    content = next(file.content for file in render(resources, options).files if file.path == REGISTRIES_CONF)
    data = tomllib.loads(content.decode())
    assert len(data["registry"]) == ENTRIES
    assert tomllib.loads(build_and_dump(data)) == data
    rendering = best(lambda: render(unknown(resources), options))
    alone, in_one_call = best(lambda: build_and_dump(data)), best(lambda: tomlkit.dumps(data))

    scopes = {_source(i): [{"type": "insecureAcceptAnything"}] for i in range(ENTRIES)}
    policy = json.dumps({"default": [{"type": "reject"}], "transports": {"docker": scopes}}).encode()
    files = {REGISTRIES_CONF: content, POLICY_JSON: policy}
    config, names = load(files), lookups()
    assert all(resolve(config, name).pullable for name in names)
    loading, looking = best(lambda: load(files)), best(lambda: [resolve(config, name) for name in names])

    few, many = nested(1_000), nested(5_000)
    assert all(check(found, options) == () for found in (few, many))
    allowed = [f"r{i}.example.org" for i in range(1_000)]
    image = Resource(".", "Image", "cluster", {"spec": {"registrySources": {"allowedRegistries": allowed}}}, AT)
    against = best(lambda: validate_set(unknown([image, *resources])))
    of_few, of_many = best(lambda: check(unknown(few), options)), best(lambda: check(unknown(many), options))

    print("| what | figure | goal |")
    print("| --- | --- | --- |")
    print(f"| render {ENTRIES} mirror entries | {rendering:.2f} s | |")
    print(f"| tomlkit alone, `dumps` of the data | {in_one_call:.2f} s, ratio {rendering / in_one_call:.2f} | ≤ 1.3 |")
    print(f"| tomlkit alone, table by table | {alone:.2f} s, ratio {rendering / alone:.2f} | |")
    print(f"| load {ENTRIES} tables and {ENTRIES} policy scopes | {loading:.2f} s | |")
    print(f"| resolve references against them | {LOOKUPS / looking:,.0f}/s | ≥ 20,000/s |")
    print(f"| validate {ENTRIES} mirror entries against an allow list of 1,000 | {against * 1000:.0f} ms | |")
    print(f"| work out 1,000 nested scopes | {of_few * 1000:.0f} ms | |")
    print(f"| work out 5,000 nested scopes | {of_many * 1000:.0f} ms, ratio {of_many / of_few:.1f} | about 5 |")


if __name__ == "__main__":
    main()
