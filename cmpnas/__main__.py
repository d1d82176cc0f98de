"""``python -m cmpnas`` is ``cmpnas``."""

from cmpnas.cli.app import entry

entry()
