"""Where workers find their tasks: a storage of Optuna's, by a URL."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cmpnas.errors import RunError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

#: What a URL may start with, and an example of it.
KINDS = {
    "journal": "journal:FILE",
    "postgresql": "postgresql://USER:PASSWORD@HOST/DATABASE",
    "grpc": "grpc://HOST:PORT",
}
_NEEDS = {"postgresql": "psycopg", "grpc": "grpc"}


def check_storage(url: str) -> tuple[str, str]:
    """The kind of storage that ``url`` names, and what follows it.

    Raises:
        RunError: it is of no known kind, or needs a package that is not installed.
    """
    kind, colon, rest = url.partition(":")
    if not colon or kind not in KINDS or not rest:
        raise RunError(f"unknown storage {shown(url)!r}; give one of {', '.join(KINDS.values())}.")
    if (package := _NEEDS.get(kind)) and find_spec(package) is None:
        raise RunError(f"storage {KINDS[kind]} needs {package}; run: pip install -c constraints.txt -e '.[workers]'")
    return kind, rest


def open_storage(url: str) -> BaseStorage:
    """The storage that ``url`` names.

    Raises:
        RunError: see `check_storage`; or it cannot be reached.
    """
    kind, rest = check_storage(url)
    from optuna import logging

    logging.set_verbosity(logging.ERROR)
    try:
        return {"journal": _journal, "postgresql": _postgresql, "grpc": _grpc}[kind](url, rest)
    except RunError:
        raise
    except Exception as fault:  # SQLAlchemy, drivers and grpc raise many kinds
        raise unreachable(url, fault) from None


def unreachable(url: str, fault: Exception) -> RunError:
    """What to tell of a storage that does not answer."""
    reason = " ".join(str(fault).split())[:160] or type(fault).__name__
    return RunError(
        f"storage {shown(url)} cannot be used ({reason}); records are kept in the run folder: "
        "once it is reachable, repeat the command with --resume."
    )


def shown(url: str) -> str:
    """``url`` without its password."""
    password = urlsplit(url).password if "://" in url else None
    return url.replace(f":{password}@", ":***@") if password else url


def _journal(url: str, rest: str) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    folder = Path(rest).absolute().parent
    if not folder.is_dir():
        raise RunError(f"storage {url}: folder {folder} does not exist; make it, or name another file.")
    return JournalStorage(JournalFileBackend(rest))


def _postgresql(url: str, rest: str) -> BaseStorage:
    import optuna

    storage = optuna.storages.RDBStorage(
        f"postgresql+psycopg:{rest}", engine_kwargs={"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}
    )
    storage.get_all_studies()
    return storage


def _grpc(url: str, rest: str) -> BaseStorage:
    from optuna.storages import GrpcStorageProxy

    place = urlsplit(url)
    if place.hostname is None or place.port is None:
        raise RunError(f"storage {url} names no host and port; give {KINDS['grpc']}.")
    storage = GrpcStorageProxy(host=place.hostname, port=place.port)
    storage.wait_server_ready(timeout=10)
    return storage
