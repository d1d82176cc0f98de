"""A PostgreSQL server on loopback, for as long as a test needs it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def programs() -> Path:
    """Where ``initdb`` and ``postgres`` are, or a skip."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not places:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return places[-1]


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The URL of an empty database; the server refuses to run as root, so root starts it as ``postgres``."""
    bin_folder = programs()
    as_user: list[str] = []
    if os.geteuid() == 0:
        as_user = ["runuser", "-u", "postgres", "--"]
        if subprocess.run([*as_user, "true"], capture_output=True).returncode:
            pytest.skip("PostgreSQL does not run as root, and there is no user 'postgres'")
        shutil.chown(folder, "postgres")
        for parent in folder.parents:  # pytest's own folders are closed to others
            if not os.stat(parent).st_mode & 1:
                os.chmod(parent, os.stat(parent).st_mode | 1)
    data, log = folder / "data", folder / "log"
    run = {"check": True, "capture_output": True, "cwd": folder}
    subprocess.run([*as_user, bin_folder / "initdb", "-D", data, "-U", "cmpnas", "-A", "trust", "-N"], **run)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["-h", "127.0.0.1", "-p", str(port), "-k", folder, "-c", "fsync=off"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*as_user, bin_folder / "postgres", "-D", data, *options], stdout=out, stderr=out, cwd=folder
        )
    try:
        for _ in range(600):
            if "ready to accept" in log.read_text():
                break
            time.sleep(0.1)
        else:
            pytest.fail(log.read_text())
        yield f"postgresql://cmpnas@127.0.0.1:{port}/postgres"
    finally:
        os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)  # at once
        process.wait(60)
