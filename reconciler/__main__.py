"""`python -m reconciler` is the program `reconciler`."""

from reconciler.cli import main

main()
