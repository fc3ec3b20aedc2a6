"""`python -m evsim` is the `evsim` command."""

from importlib import import_module

# Looked up by name: the core does not depend on the command line above it.
import_module("evsim.cli.main").main()
