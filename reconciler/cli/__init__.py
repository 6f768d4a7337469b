"""The command line: one module per noun or verb, thin; `reconciler.cli:main` is the program.

I/O: terminal only. Each verb calls commands, queries and what wiring built, and knows no adapter.
"""

from reconciler.cli.main import main

__all__ = ["main"]
