"""Latency tables: what each operator of a space takes on one device, and what a network is then expected to take."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cmpnas.cost.value import Cost
from cmpnas.errors import LatencyError
from cmpnas.files import hash_of, write_json

SCHEMA = 1


@dataclass(frozen=True)
class Correction:
    """From operators measured alone to a network: what fusion, dispatch and a cache shared by all layers change.

    A network takes ``network_ms``, and for each operator ``alone`` times its own milliseconds, ``operator_ms``, and
    ``params_ms`` for a million parameters. ``operator_ms`` may be negative: alone, each operator pays for a call of the
    runtime, which a network pays once. The default is the plain sum.
    """

    network_ms: float = 0.0
    alone: float = 1.0
    operator_ms: float = 0.0
    params_ms: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (isinstance(value, int | float) and math.isfinite(value)):
                raise LatencyError(f"correction.{name} is {value!r}, not a number.")
            if value < 0 and name != "operator_ms":
                raise LatencyError(f"correction.{name} is {value!r}, not a number of at least 0.")

    def of(self, ms: float, params_m: float) -> float:
        """What an operator adds to a network, in ms; nothing if it does nothing (``ms`` is 0)."""
        return self.alone * ms + self.operator_ms + self.params_ms * params_m if ms else 0.0


@dataclass(frozen=True)
class LatencyTable:
    """A device's latency table.

    Attributes:
        operators: milliseconds by `Layer.operator`.
        space: ``{"name", "size", "embedding_dim", "fingerprint"}`` of what was measured; None if the file does not say.
        held_out: how far predictions were off on networks that nothing was fitted on; None where nobody measured any.
        device: what was measured on, and how.
        networks: what was measured whole: ``{"id", "ms", "predicted_ms", "held_out"}`` each.
    """

    operators: dict[str, float]
    correction: Correction = Correction()
    space: dict[str, Any] | None = None
    held_out: dict[str, Any] | None = None
    device: dict[str, Any] = field(default_factory=dict)
    networks: list[dict[str, Any]] = field(default_factory=list)

    def ms(self, operator: str, cost: Cost) -> float:
        """What ``operator``, of this ``cost``, adds to a network.

        Raises:
            LatencyError: it is not in the table, or its correction is of another table.
        """
        if operator not in self.operators:
            raise LatencyError(
                f"operator {operator!r} is not in the latency table, which knows {len(self.operators):,} others; "
                "measure this space with: cmpnas measure SPACE"
            )
        ms = self.correction.of(self.operators[operator], cost.params_m)
        if ms < 0:
            raise LatencyError(
                f"operator {operator!r} takes {ms:.3g} ms by the latency table's correction, less than nothing; "
                "measure the table anew, or mend its correction.operator_ms."
            )
        return ms

    @property
    def error(self) -> float | None:
        """Mean relative error on networks that nothing was fitted on; None where nobody measured any."""
        return None if self.held_out is None else float(self.held_out["mape"])

    @property
    def key(self) -> str:
        """Hash of all that a prediction depends on."""
        return hash_of(self.operators, asdict(self.correction))

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_json(path, {"schema": SCHEMA, **asdict(self)})


def read_latency_table(path: Path) -> LatencyTable:
    """A table as JSON, as `cmpnas measure` writes it, or as CSV with the columns ``operator`` and ``ms``.

    Raises:
        LatencyError: it is missing, damaged, or holds something that is not a time.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        raise LatencyError(f"cannot read latency table {path} ({getattr(fault, 'strerror', None) or fault}).") from None
    try:
        if path.suffix == ".csv":
            return LatencyTable(_checked(_rows(text)))
        content = json.loads(text)
        if not isinstance(content, dict) or not isinstance(content.get("operators"), dict):
            raise LatencyError('it has no "operators", a mapping of operators to milliseconds')
        if content.get("schema") != SCHEMA:
            raise LatencyError(f'its "schema" is {content.get("schema")!r}, not {SCHEMA}')
        return LatencyTable(
            _checked(content["operators"]),
            Correction(**content.get("correction", {})),
            _mapping(content, "space", ()),
            _mapping(content, "held_out", ("mape",)),
            _mapping(content, "device", ()) or {},
            content.get("networks", []),
        )
    except (ValueError, TypeError) as fault:
        raise LatencyError(
            f"{path} is no latency table: {str(fault).removesuffix('.')}; see docs/latency.md."
        ) from None


def _mapping(content: dict[str, Any], key: str, needs: tuple[str, ...]) -> dict[str, Any] | None:
    found = content.get(key)
    if found is not None and not (isinstance(found, dict) and all(_is_number(found.get(name)) for name in needs)):
        raise LatencyError(f'its "{key}" is no mapping{" with a number for " + ", ".join(needs) if needs else ""}')
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _rows(text: str) -> dict[str, Any]:
    reader = csv.DictReader(io.StringIO(text))
    if not {"operator", "ms"} <= set(reader.fieldnames or ()):
        raise LatencyError("its first line must name the columns operator and ms")
    found: dict[str, Any] = {}
    for row in reader:
        if row["operator"] in found:
            raise LatencyError(f"operator {row['operator']!r} stands twice")
        found[row["operator"]] = float(row["ms"]) if row["ms"] else row["ms"]
    return found


def _checked(operators: dict[str, Any]) -> dict[str, float]:
    for name, ms in operators.items():
        if not (_is_number(ms) and ms >= 0):
            raise LatencyError(f"operator {name!r} takes {ms!r}, not a number of milliseconds of at least 0")
    if operators and not any(operators.values()):
        raise LatencyError("all its operators take 0 ms, so nothing costs anything")
    return {name: float(ms) for name, ms in operators.items()}
