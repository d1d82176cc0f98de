"""Whether a pair is compatible, and how far it is from what it is held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cmpnas.retrieval import Scores
from cmpnas.retrieval.compare import compare

_AGAINST = {
    "plain": "the same index as it is",
    "anchor": "the anchor's index",
    "large": "the large model in the same index",
    "views": "itself in its own gallery of such views",
}


@dataclass(frozen=True)
class Bar:
    """What every pair of a query network is held against: itself on both sides, and the paragon.

    Attributes:
        reduction: how many times cheaper than the paragon the network is.
    """

    own: Scores
    paragon: Scores
    metric: str
    reduction: float


def verdict(name: str, pair: Scores, bar: Bar, against: Mapping[str, Scores]) -> dict[str, Any]:
    """Compatible or not, and how far from the paragon and what it is set ``against``, with paired intervals."""
    gain, gap = compare(pair, bar.own, bar.metric), compare(bar.paragon, pair, bar.metric)
    others = {name: compare(pair, other, bar.metric) for name, other in against.items()}
    to_paragon = _apart(-gap.difference, (-gap.interval[1], -gap.interval[0]), "it")
    compatible = gain.difference > 0
    text = (
        f"{name}: {'compatible' if compatible else 'NOT compatible'}"
        f"{' (a tie: the interval holds 0)' if gain.tie else ''}, "
        f"M(q,g) - M(q,q) = {100 * gain.difference:+.2f} points "
        f"[{100 * gain.interval[0]:+.2f}, {100 * gain.interval[1]:+.2f}]; "
        f"{bar.reduction:.1f}x cheaper than the paragon and {to_paragon} in {bar.metric}"
    )
    text += "".join(f"; {_apart(over.difference, over.interval, _AGAINST[name])}" for name, over in others.items())
    return {
        "compatible": compatible,
        "gain_interval": list(gain.interval),
        "gain_p": gain.p_value,
        "paragon_gap": gap.difference,
        "paragon_gap_interval": list(gap.interval),
        "paragon_gap_p": gap.p_value,
        "cost_reduction": bar.reduction,
        **{f"over_{name}": over.difference for name, over in others.items()},
        **{f"over_{name}_interval": list(over.interval) for name, over in others.items()},
        "text": text,
    }


def _apart(above: float, interval: tuple[float, float], other: str) -> str:
    """How far above or below ``other`` something is, in points, with the interval of that distance."""
    low, high = interval if above >= 0 else (-interval[1], -interval[0])
    word, low, high = "above" if above >= 0 else "below", 100 * low, 100 * high
    return f"{100 * abs(above):.2f} points {word} {other} [{low:.2f}, {high:.2f}]"
