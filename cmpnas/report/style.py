"""How pictures look: told apart without colour and in grey print, the same bytes from the same results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmpnas.errors import CmpnasError

SUFFIXES = (".png", ".svg", ".pdf")
PARAGON = "#000000"


@dataclass(frozen=True)
class Look:
    """Of one series: three signs, each enough to know it by."""

    colour: str
    marker: str
    line: Any


#: Okabe and Ito's colours, which colour-blind people tell apart, from dark to light: grey print tells them, too.
LOOKS = (
    Look("#0072B2", "o", "-"),
    Look("#D55E00", "s", (0, (5, 2))),
    Look("#009E73", "^", (0, (1, 1.2))),
    Look("#CC79A7", "D", (0, (5, 1.5, 1, 1.5))),
    Look("#E69F00", "v", (0, (8, 2))),
    Look("#56B4E9", "P", (0, (3, 1.5, 1, 1.5, 1, 1.5))),
)


def look(number: int) -> Look:
    """The look of series ``number``; colours and markers go round at different paces, so that pairs repeat late."""
    once = LOOKS[number % len(LOOKS)]
    again = LOOKS[(number + number // len(LOOKS)) % len(LOOKS)]
    return Look(once.colour, again.marker, again.line)


def check_path(path: Path) -> None:
    """Refuse a name that no picture can have before anything is computed.

    Raises:
        CmpnasError: its suffix is not one of `SUFFIXES`, or its folder does not exist.
    """
    if path.suffix not in SUFFIXES:
        raise CmpnasError(f"cannot plot to {path.name!r}; use a name that ends in {', '.join(SUFFIXES)}.")
    if not path.parent.is_dir():
        raise CmpnasError(f"folder {path.parent} does not exist; make it or plot elsewhere.")


@contextmanager
def picture(path: Path, size: tuple[float, float]) -> Iterator[Any]:
    """A matplotlib figure of ``size`` inches to draw on, written to ``path`` afterwards without a clock in it.

    Raises:
        CmpnasError: ``path`` cannot be written.
    """
    check_path(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "cmpnas", "font.size": 10, "axes.axisbelow": True}):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        clock = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
        try:
            figure.savefig(path, dpi=150, metadata=clock)
        except OSError as fault:
            raise CmpnasError(f"cannot write {path}: {fault.strerror}; plot elsewhere.") from None


def log_cost(axes: Any, label: str) -> None:
    """A logarithmic x axis with plain numbers, also within one decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    subs = (1.0, 2.0, 5.0) if high / low < 1000 else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)


def legend_below(figure: Any, columns: int = 2) -> None:
    """One legend of all axes below them, where it hides nothing."""
    figure.legend(loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
