"""The job of the node benchmark in pyinfra's own idioms: five files, and a reload if any of them changed.

Run by `pyinfra inventory.py pyinfra_deploy.py`; the variable FILES names a folder with the files as they shall stand.
"""

import os
from pathlib import Path

from pyinfra.operations import files, server
from pyinfra.operations.util import any_changed

folder = Path(os.environ["FILES"])
placed = [
    files.put(src=str(path), dest=f"/{path.relative_to(folder)}", user="root", group="root", mode="644")
    for path in sorted(folder.rglob("*"))
    if path.is_file()
]
server.shell(commands=["systemctl reload crio.service"], _if=any_changed(*placed))
