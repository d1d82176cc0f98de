"""A benchmark as a command: a mistake of its user ends in one line and exit status 2, as everywhere in cmpnas."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer

from cmpnas.errors import CmpnasError


def as_command(main: Callable[..., Any]) -> None:
    """Parse the command line for ``main`` and call it."""
    try:
        typer.run(main)
    except CmpnasError as fault:
        print(f"error: {fault}", file=sys.stderr)
        sys.exit(2)
