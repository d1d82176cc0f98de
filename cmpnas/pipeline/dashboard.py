"""A finished run in optuna-dashboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cmpnas.errors import CmpnasError
from cmpnas.pipeline.results import query_space, searched
from cmpnas.report.study import study_of
from cmpnas.run import RunFolder

_HOST = "127.0.0.1"  # to this machine alone: the dashboard knows no users


def application(path: Path) -> Callable[..., Any]:
    """The WSGI application of optuna-dashboard over the records of a run, held in memory.

    Raises:
        CmpnasError: optuna-dashboard is not installed, or there is no finished run at ``path``.
    """
    run = RunFolder.open(path)
    try:
        from optuna_dashboard import wsgi
    except ImportError as fault:
        raise CmpnasError(
            f"optuna-dashboard cannot be imported ({fault}); run: pip install -c constraints.txt -e '.[dashboard]'"
        ) from None
    from optuna.storages import InMemoryStorage

    storage = InMemoryStorage()
    study_of(searched(run), query_space(run), storage)
    return wsgi(storage)


def serve(path: Path, port: int, ready: Callable[[str], None]) -> None:
    """Serve `application` on the loopback interface until interrupted; tells ``ready`` the address once it answers.

    Raises:
        CmpnasError: as `application`; or the port is taken.
    """
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Requests are nobody's news."""

    shown = application(path)
    try:
        server = make_server(_HOST, port, shown, handler_class=Quiet)
    except OSError as fault:
        raise CmpnasError(f"cannot serve at port {port}: {fault.strerror}; name another --port.") from None
    ready(f"http://{_HOST}:{port}")
    with server:
        server.serve_forever()
