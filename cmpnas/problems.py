"""Turns everything that pydantic found wrong with a file into one message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from cmpnas.errors import CmpnasError, unknown

if TYPE_CHECKING:
    from pydantic import BaseModel

    M = TypeVar("M", bound=BaseModel)


def read_yaml(path: Path, error: type[CmpnasError]) -> dict[str, Any]:
    """The mapping in a YAML file, read safely.

    Raises:
        error: the file is missing, is not YAML, is not a mapping, or says a key twice, of which YAML keeps the last.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            for place, (key, _) in enumerate(node.value):
                if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in keys[:place]:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            return super().construct_mapping(node, deep)

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except OSError as fault:
        raise error(f"cannot read {path}: {fault.strerror or fault}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        where = getattr(fault, "problem_mark", None)
        place = f" at line {where.line + 1}" if where else ""
        raise error(f"{path} is not valid YAML{place}: {getattr(fault, 'problem', fault)}.") from None
    if not isinstance(content, dict):
        raise error(f"{path} holds {type(content).__name__}, not a mapping of keys to values.")
    return content


def validate(
    model: type[M], content: dict[str, Any], where: str, error: type[CmpnasError], also: Iterable[str] = ()
) -> M:
    """``content`` as a checked ``model``; ``where`` names it in the error, ``also`` tells of other mistakes.

    Raises:
        error: something is wrong; each mistake is told: where it is, what came, what is allowed.
    """
    from pydantic import ValidationError

    mistakes: list[str] = []
    try:
        found = model.model_validate(content)
    except ValidationError as fault:
        mistakes = [_phrase(mistake, model) for mistake in fault.errors(include_url=False)]
    mistakes += also
    if not mistakes:
        return found
    count = f"{len(mistakes)} mistake{'s' * (len(mistakes) > 1)}"
    raise error(f"{where} has {count}: " + "; ".join(mistakes) + ".")


def _phrase(mistake: Any, model: type[BaseModel]) -> str:
    place = ".".join(_words(model, mistake["loc"]))
    if mistake["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        allowed = _fields_at(model, mistake["loc"][:-1])
        given = str(mistake["loc"][-1])
        near = get_close_matches(given, allowed)
        near.sort(key=lambda name: sorted(name) != sorted(given))  # two letters changed places
        hint = f", did you mean {near[0]!r}" if near else ""
        return f"{place}: unknown key{hint}"
    if mistake["type"] == "missing":
        return f"{place}: required"
    if mistake["type"] == "union_tag_not_found":
        tag = mistake["ctx"]["discriminator"].strip("'")
        allowed = [value for kind in _models_at(model, mistake["loc"]) for value in get_args(_fields(kind)[tag])]
        return f"{place}.{tag}: required, one of {', '.join(map(repr, allowed))}"
    if mistake["type"] == "union_tag_invalid":
        tag, given, allowed = (mistake["ctx"][part].strip("'") for part in ("discriminator", "tag", "expected_tags"))
        return f"{place}: " + unknown(tag, given, allowed.split("', '")).removesuffix(".")
    message = mistake["msg"].removeprefix("Value error, ").removesuffix(".")
    message = message[:1].lower() + message[1:]
    if isinstance(mistake["input"], str | int | float | bool | None):
        return f"{place}: {message} (got {mistake['input']!r})"
    if mistake["type"] == "condition":
        message += f" (got {mistake['input']})"
    return f"{place}: {message}" if place else message  # of the whole file


def _words(model: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    """``loc`` as a file says it: without the kinds that pydantic goes through, whose keys these are."""
    return [
        str(part)
        for n, part in enumerate(loc)
        if not _tagged(_models_at(model, loc[:n]), part) and not str(part).startswith("(")
    ]


def _fields_at(model: Any, loc: Iterable[Any]) -> list[str]:
    """Names of the keys allowed at ``loc``, as far as the models tell."""
    return [name for kind in _models_at(model, loc) for name in _fields(kind)]


def _models_at(model: Any, loc: Iterable[Any]) -> list[Any]:
    """What a mapping at ``loc`` may be."""
    reached: list[Any] = [model]
    for part in loc:
        own = [found for kind in reached if part in _fields(kind) for found in _models_in(_fields(kind)[part])]
        reached = _tagged(reached, part) or own or reached  # else an index of a list
    return reached


def _tagged(kinds: list[Any], part: Any) -> list[Any]:
    """Those of several ``kinds`` that ``part`` is the name of."""
    if len(kinds) == 1:
        return []
    return [kind for kind in kinds if any(part in get_args(allowed) for allowed in _fields(kind).values())]


def _fields(kind: Any) -> dict[str, Any]:
    """Keys of a model, or of a dataclass that pydantic checks, each with its type."""
    if is_dataclass(kind):
        return {field.name: field.type for field in fields(kind)}
    return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}


def _models_in(annotation: Any) -> list[Any]:
    from pydantic import BaseModel

    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or is_dataclass(annotation)):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _models_in(inner)]
