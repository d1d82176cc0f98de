"""Writing files that are whole or absent, and reading weights safely."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cmpnas.errors import RunError
from cmpnas.files import whole

#: What another key means and what to do: of what a search makes anew, and of a finished network.
STAGE = "from other data or settings; delete it and use --resume"
FINISHED = "with other data or settings; take the change back, or move its folder elsewhere and train again"


def save(state: Any, path: Path) -> None:
    """Write ``state`` to ``path`` so that a crash leaves the old file or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial, partial.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as fault:
            if "writ" not in str(fault):
                raise
            # What torch makes of a disk that is full.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from fault
        file.flush()
        os.fsync(file.fileno())


def load(path: Path, *, mapped: bool = False) -> Any:
    """Read back what `save` wrote, tensors only; ``mapped`` into memory that processes share until they write to it.

    Raises:
        RunError: the file is damaged or not a checkpoint.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError:
        raise RunError(f"{path} does not exist; run the stage that makes it.") from None
    except Exception as fault:  # torch raises many kinds for damaged files
        reason = str(fault).splitlines()[0][:120] if str(fault) else type(fault).__name__
        raise RunError(
            f"{path} cannot be read as a checkpoint ({reason}); delete it and repeat the command, a search with "
            "--resume."
        ) from None


def load_of(key: str, path: Path, otherwise: str = STAGE, *, mapped: bool = False) -> dict[str, Any]:
    """`load` what was saved with the entry ``"key": key``, of everything that it was made of.

    Raises:
        RunError: the same, or its key is another: ``otherwise`` says what that means and what to do.
    """
    state = load(path, mapped=mapped)
    if not isinstance(state, dict) or state.get("key") != key:
        raise RunError(f"{path} was trained {otherwise}.")
    return state


def restore(module: nn.Module, state: Any, part: str, path: Path, what: str, *, assign: bool = False) -> None:
    """Give ``module`` the weights under ``part`` of what `load` read from ``path``: a copy, or with ``assign`` those.

    Raises:
        RunError: they are those of another network than ``what``.
    """
    try:
        module.load_state_dict(state[part], assign=assign)
    except (KeyError, TypeError, AttributeError, RuntimeError) as fault:
        reason = str(fault).splitlines()[0]
        raise RunError(
            f"{path} does not hold {what} ({reason}); delete it and repeat the command, a search with --resume."
        ) from None
