"""Whether the parts of a space file fit together: told of unchecked content, with all other mistakes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cmpnas.cost.value import halved
from cmpnas.errors import SpaceError, unknown
from cmpnas.space.blocks import Block, stage_block

_KNOWN = {"kernel", "expansion", "operator", "se", "activation"}
_FRAME = {"stem", "last", "embed", "resize", "pool"}


def inconsistencies(content: Mapping[str, Any]) -> list[str]:
    """Mistakes that concern more than one key, each with its place.

    What is malformed in itself is passed over here: the check of single keys names it.
    """
    stages = content.get("stages")
    stages = (
        [stage if isinstance(stage, Mapping) else {} for stage in stages] if isinstance(stages, list | tuple) else []
    )
    found = list(_names(stages))
    for index, stage in enumerate(stages):
        found += [f"stages.{index}.{mistake}" for mistake in _stage(stage)]
    return found + list(_joints(content, stages)) + list(_sides(content, stages))


def _names(stages: list[Mapping[str, Any]]) -> Iterator[str]:
    seen: set[Any] = set()
    for index, name in enumerate(stage.get("name") for stage in stages):
        if not isinstance(name, str):
            continue
        if name in seen:
            yield f"stages.{index}.name: two stages are named {name!r}"
        if name in _FRAME:
            yield f"stages.{index}.name: a stage must not be named {name!r}, a name of the frame"
        seen.add(name)


def _stage(stage: Mapping[str, Any]) -> Iterator[str]:
    try:
        name = str(stage.get("block"))
        block = stage_block(name)
    except SpaceError:
        return
    options = stage.get("options")
    given = {key for key in stage if key in _KNOWN and stage[key] is not None}
    given |= set(options) if isinstance(options, Mapping) else set()
    for decision in block.decisions:
        if decision not in given and decision not in block.defaults:
            yield f"{decision}: block {name!r} needs a list of values for it"
    for decision in sorted(given - set(block.decisions), key=str):
        yield f"{decision}: block {name!r} has no such decision; it has {', '.join(block.decisions)}"
    for decision in _listed(stage.get("separate")):
        if isinstance(decision, str) and decision not in block.decisions:
            yield "separate: " + unknown(f"decision of block {name!r}", decision, block.decisions).removesuffix(".")
    yield from _widths(stage, block)


def _widths(stage: Mapping[str, Any], block: Block) -> Iterator[str]:
    wrong = [w for w in _listed(stage.get("width")) if isinstance(w, int) and w > 0 and w % block.divisor]
    if wrong:
        yield f"width: widths must be multiples of {block.divisor}, not {wrong[0]}"


def _joints(content: Mapping[str, Any], stages: list[Mapping[str, Any]]) -> Iterator[str]:
    """Widths of neighbouring stages that a block cannot join."""
    stem = content.get("stem")
    before = _listed(stem.get("width")) if isinstance(stem, Mapping) else []
    for index, stage in enumerate(stages):
        after, stride = _listed(stage.get("width")), stage.get("stride", 1)
        try:
            misfit = stage_block(str(stage.get("block"))).misfit
        except SpaceError:
            misfit = None
        if misfit and all(isinstance(width, int) for width in before + after):
            wrong = (misfit(cin, cout, stride) for cin in before for cout in after)
            yield from (f"stages.{index}.width: {reason}" for reason in wrong if reason)
        before = after


def _sides(content: Mapping[str, Any], stages: list[Mapping[str, Any]]) -> Iterator[str]:
    """Sizes and strides."""
    size = content.get("size")
    sides = [side for side in _listed(content.get("resolution")) if isinstance(side, int)]
    if sides and isinstance(size, int) and max(sides) != size:
        yield f"resolution: its largest, {max(sides)}, must be the size, {size}"
    least = side = min([*sides, size]) if isinstance(size, int) else 0
    if side < 1:
        return
    stem = content.get("stem")
    stem = stem if isinstance(stem, Mapping) else {}
    strides = [stem.get("stride", 1), 2 if stem.get("pool") is True else 1]
    last = content.get("last")
    ends = [last.get("stride", 1)] if isinstance(last, Mapping) else []
    for stride in (*strides, *(stage.get("stride", 1) for stage in stages), *ends):
        if stride == 2 and side == 1:
            whose = f"{least} px (the smallest resolution)" if sides else f"{least} px"
            yield f"stages: strides run past the 1x1 map that is left of {whose}; use fewer of 2 or a larger size"
            return
        side = halved(side, stride) if stride in (1, 2) else side


def _listed(value: Any) -> list[Any]:
    """The entries of a list, or a single value as the only one; nothing for what is neither."""
    if isinstance(value, str | int | float):
        return [value]
    return list(value) if isinstance(value, list | tuple) else []
