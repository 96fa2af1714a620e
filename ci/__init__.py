"""What runs: checks, post-commit pipelines and deploys. Knows nothing of a queue; imports neither gate nor hooks."""

import sys

VERSION = "0.1.0"  # importlib.metadata would know, at four times the cost of the interpreter itself

# What our own checks of files make of the same content hangs on both: it is Python that judges the syntax of its files.
RUNTIME = f"{VERSION}, Python {sys.version.split()[0]}"
