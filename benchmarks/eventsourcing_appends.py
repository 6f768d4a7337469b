"""What bench_append asks of the `eventsourcing` library, in its own environment: one batch appended for each line read.

`python eventsourcing_appends.py HOST PORT DATABASE USER PASSWORD functions|statements`; each line is a version and a
JSON array of [name of the stream, data]; the answer is two numbers: seconds to encode the events with the library's own
mapper, and seconds to append them with its recorder, as it stands or with the functions it can put into the database.
"""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace
from uuid import NAMESPACE_URL, uuid5

from eventsourcing.persistence import JSONTranscoder, Mapper
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore


def main() -> None:
    host, port, database, user, password, form = sys.argv[1:]
    functions = form == "functions"
    # A schema each: the library's function has one name, whatever its table is called.
    store = PostgresDatastore(database, host, port, user, password, schema=form, enable_db_functions=functions)
    recorder = PostgresApplicationRecorder(store, events_table_name="stored_events")
    recorder.create_table()
    mapper = Mapper(JSONTranscoder())
    for line in sys.stdin:
        version, events = json.loads(line)
        bodies = [
            SimpleNamespace(originator_id=uuid5(NAMESPACE_URL, name), originator_version=version, **data)
            for name, data in events
        ]
        begun = time.perf_counter()
        stored = [mapper.to_stored_event(body) for body in bodies]
        encoded = time.perf_counter()
        recorder.insert_events(stored)
        print(encoded - begun, time.perf_counter() - encoded, flush=True)


if __name__ == "__main__":
    main()
