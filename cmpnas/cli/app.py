"""The command line: one file a command, and one place where errors become exit statuses."""

from __future__ import annotations

import errno
import os
import sys
from functools import cache
from importlib import import_module

import typer

#: In the order in which a user meets them.
_COMMANDS = (
    "search", "worker", "train", "evaluate", "retrieve", "export", "verify", "plot", "report", "dashboard", "rank",
    "replay", "cost", "measure", "matrix", "score", "ls",
)  # fmt: skip
_GROUPS = ("data",)  # commands of commands

app = typer.Typer(
    name="cmpnas",
    help="Find the best small query encoder for an index that a large gallery encoder built.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(epilog="Start with: cmpnas search --budget-mflops 300   Add --debug to any command for tracebacks.")
def _root() -> None:
    """Find the best small query encoder for an index that a large gallery encoder built."""


@cache
def _register() -> None:
    for name in _COMMANDS:
        module = import_module(f"cmpnas.cli.{name}")
        app.command(name, epilog=module.EPILOG)(module.command)
    for name in _GROUPS:
        app.add_typer(import_module(f"cmpnas.cli.{name}").app, name=name)


#: What a full disk, a quota or a folder of somebody else's raises, wherever something is written.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 2 for the user's mistakes, 1 for ours, 130 for
    an interrupt. Tracebacks only with ``--debug``."""
    from cmpnas.errors import CmpnasError

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    _register()
    if os.environ.get("WORLD_SIZE", "1") != "1" and arguments[:1] not in (["search"], ["train"]):
        return _fail("search and train work in several processes; start this command without torchrun.", 2, debug)
    try:
        status = app(arguments, prog_name="cmpnas", standalone_mode=False)
        if status == 130:  # how some releases of typer pass an interrupt on, others raise Abort
            return _interrupted(arguments)
        return status if isinstance(status, int) else 0
    except CmpnasError as fault:
        return _fail(str(fault), 2, debug)
    except KeyboardInterrupt:
        return _interrupted(arguments)
    except Exception as fault:
        if isinstance(fault, OSError) and fault.errno in _DISK:
            what = f"cannot use {fault.filename or 'a file'}: {fault.strerror}; what was finished is kept: make room or"
            return _fail(f"{what} change permissions, and repeat the command, a search with --resume.", 2, debug)
        if type(fault).__name__ == "Abort":
            return _interrupted(arguments)
        if type(fault).__name__ == "NoArgsIsHelpError":
            print(fault.format_message())  # type: ignore[attr-defined]
            return 2
        if hasattr(fault, "format_message"):  # click's own: a wrong option or argument
            command = arguments[:1] if arguments[0] in _COMMANDS + _GROUPS else []
            return _fail(f"{fault.format_message()} Try: {' '.join(['cmpnas', *command, '--help'])}", 2, debug)
        return _fail(f"internal error: {type(fault).__name__}: {fault}; repeat with --debug and report it.", 1, debug)


def _interrupted(arguments: list[str]) -> int:
    resume = {"search": " Repeat the command with --resume.", "rank": " Repeat the command to continue."}
    resume |= {"train": resume["search"], "measure": resume["rank"], "worker": " What it was at goes to another."}
    return _fail(f"interrupted; nothing that was finished is lost.{resume.get(arguments[0], '')}", 130, False)


def _fail(message: str, status: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return status


def entry() -> None:
    """What the ``cmpnas`` script calls."""
    sys.exit(main())
