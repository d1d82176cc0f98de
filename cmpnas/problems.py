"""Turns everything that pydantic found wrong with a file into one message."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cmpnas.errors import CmpnasError

if TYPE_CHECKING:
    from pydantic import BaseModel

    M = TypeVar("M", bound=BaseModel)


def read_yaml(path: Path, error: type[CmpnasError]) -> dict[str, Any]:
    """The mapping in a YAML file, read safely.

    Raises:
        error: the file is missing, is not YAML, or is not a mapping.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise error(f"cannot read {path}: {fault.strerror or fault}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        where = getattr(fault, "problem_mark", None)
        place = f" at line {where.line + 1}" if where else ""
        raise error(f"{path} is not valid YAML{place}: {getattr(fault, 'problem', fault)}.") from None
    if not isinstance(content, dict):
        raise error(f"{path} holds {type(content).__name__}, not a mapping of keys to values.")
    return content


def validate(model: type[M], content: dict[str, Any], where: str, error: type[CmpnasError]) -> M:
    """``content`` as a checked ``model``; ``where`` names it in the error.

    Raises:
        error: something is wrong; each mistake is told: where it is, what came, what is allowed.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(content)
    except ValidationError as fault:
        mistakes = [_phrase(mistake, model) for mistake in fault.errors(include_url=False)]
    count = f"{len(mistakes)} mistake{'s' * (len(mistakes) > 1)}"
    raise error(f"{where} has {count}: " + "; ".join(mistakes) + ".")


def _phrase(mistake: Any, model: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        allowed = _fields_at(model, mistake["loc"][:-1])
        near = get_close_matches(str(mistake["loc"][-1]), allowed, n=1)
        hint = f", did you mean {near[0]!r}" if near else ""
        return f"{place}: unknown key{hint}"
    if mistake["type"] == "missing":
        return f"{place}: required"
    message = mistake["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if isinstance(mistake["input"], str | int | float | bool | None):
        return f"{place}: {message} (got {mistake['input']!r})"
    return f"{place}: {message}"


def _fields_at(model: Any, loc: Iterable[Any]) -> list[str]:
    """Names of the keys allowed at ``loc``, as far as the models tell."""
    from pydantic import BaseModel

    reached: list[Any] = [model]
    for part in loc:
        following = []
        for kind in reached:
            fields = getattr(kind, "model_fields", {})
            if part in fields:
                following += _models_in(fields[part].annotation)
            elif not isinstance(part, str) or part not in fields:
                following.append(kind)  # list index or union tag
        reached = following
    return [name for kind in reached if issubclass(kind, BaseModel) for name in kind.model_fields]


def _models_in(annotation: Any) -> list[Any]:
    from typing import get_args

    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _models_in(inner)]
