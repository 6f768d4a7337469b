"""Keeps the container-registry configuration of a fleet equal to what a Git repository says.

The code follows the data: Git → desired state → events → projections → plan → steps → receipts → events.
Start reading at `reconciler.cycle`.
"""

__version__ = "0.1.0"
