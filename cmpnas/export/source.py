"""The network as plain source: ``model.py``, which needs torch and ``weights.pt`` and nothing else.

Written from the modules themselves: leaves by torch's own constructors, anything composed as a class that holds its
parts by name and has the very ``forward`` that ran here. So a block of the user's own comes out as well as ours.
"""

from __future__ import annotations

import ast
import dis
import inspect
import sys
import textwrap
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import torch
from torch import nn

from cmpnas.errors import RunError

_HEAD = '''"""{title}

Float pictures (N, 3, {size}, {size}) in [-1, 1] to unit vectors (N, {dim}).
Needs torch, and weights.pt beside this file:

    encoder = load()
    vectors = encoder(pictures)
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

{imports}


class Parts(nn.Module):
    """A module of named parts."""

    def __init__(self, **parts: object) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
'''
_TAIL = '''

def build() -> nn.Module:
    """The encoder without its weights."""
    return {expression}


def load(weights: Path = Path(__file__).with_name("weights.pt")) -> nn.Module:
    """The encoder, ready to run."""
    encoder = build()
    encoder.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return encoder.eval()
'''
_IMPORTS = {
    "torch": "import torch",
    "Tensor": "from torch import Tensor, nn",
    "nn": "from torch import Tensor, nn",
    "F": "from torch.nn import functional as F",
}
_OWN = set(nn.Module().__dict__)  # what every module has


class NotPlainError(RunError):
    """A module cannot be written as source of its own."""


def write_source(encoder: nn.Module, path: Path, *, title: str, size: int, dim: int) -> None:
    """Write ``encoder`` to ``path``, and its weights to ``weights.pt`` beside it.

    Raises:
        NotPlainError: one of its modules has a ``forward`` that uses more than torch and its own parts.
    """
    classes: dict[type[nn.Module], str] = {}
    imports = dict(_IMPORTS)
    expression = _expression(encoder, classes, imports, "    ")
    lines = sorted(set(imports.values()), key=lambda line: (line.startswith("from"), line))
    text = _HEAD.format(title=title, size=size, dim=dim, imports="\n".join(lines))
    text += "".join(_class(kind, name) for kind, name in classes.items())
    path.write_text(text + _TAIL.format(expression=expression), encoding="utf-8")
    torch.save(encoder.state_dict(), path.with_name("weights.pt"))


def load_source(path: Path) -> nn.Module:
    """Run ``path`` and return its encoder.

    Raises:
        RunError: it does not run.
    """
    try:
        spec = spec_from_file_location("_exported_model", path)
        module = module_from_spec(spec)  # type: ignore[arg-type]
        spec.loader.exec_module(module)  # type: ignore[union-attr]
        return module.load()
    except Exception as fault:  # whatever it does when it is run
        raise RunError(f"{path} cannot be run ({type(fault).__name__}: {fault}); export it again.") from None


def _expression(module: nn.Module, classes: dict[type[nn.Module], str], imports: dict[str, str], indent: str) -> str:
    """A constructor call that makes ``module``, over as many lines as it has parts."""
    kind, inner = type(module), indent + "    "
    own = bool(_methods(kind))
    torchs = next(base for base in kind.__mro__ if base.__module__.split(".")[0] == "torch")
    sequential, children = issubclass(kind, nn.Sequential), list(module.named_children())
    if not own and not sequential:
        if children or torchs is nn.Module:
            raise NotPlainError(f"how a {kind.__name__} is made cannot be told from its parts")
        return _leaf(module, torchs)
    name = _name(kind, classes, imports) if own else "nn.Sequential"
    made = [(label, _expression(part, classes, imports, inner)) for label, part in children]
    if sequential:
        if [label for label, _ in made] == [str(number) for number in range(len(made))]:
            return _call(name, [text for _, text in made], indent)
        pairs = "".join(f'{inner}("{label}", {text}),\n' for label, text in made)
        return f"{name}(OrderedDict([\n{pairs}{indent}]))"
    if dict(module.named_buffers(recurse=False)):
        raise NotPlainError(f"{kind.__name__} has buffers of its own")
    for label, value in module.named_parameters(recurse=False):
        made.append((label, f"nn.Parameter(torch.empty({tuple(value.shape)}))"))
    for label, constant in vars(module).items():
        if label not in _OWN and _is_literal(constant):
            made.append((label, repr(constant)))
    return _call(name, [f"{label}={text}" for label, text in made], indent)


def _leaf(module: nn.Module, kind: type) -> str:
    """What a module of torch's shows of itself is how it is made; what is so by default is left out."""
    shown = ast.parse(f"f({module.extra_repr()})", mode="eval").body
    usual = {name: one.default for name, one in inspect.signature(kind).parameters.items()}
    arguments = [ast.unparse(value) for value in shown.args]  # type: ignore[attr-defined]
    for keyword in shown.keywords:  # type: ignore[attr-defined]
        value = ast.literal_eval(keyword.value)
        if isinstance(value, tuple) and len(set(value)) == 1:
            value = value[0]
        if usual[keyword.arg] != value:
            arguments.append(f"{keyword.arg}={value!r}")
    return f"nn.{kind.__name__}({', '.join(arguments)})"


def _call(name: str, arguments: list[str], indent: str) -> str:
    """A constructor call with an argument a line."""
    if not arguments:
        return f"{name}()"
    return f"{name}(\n" + "".join(f"{indent}    {text},\n" for text in arguments) + f"{indent})"


def _is_literal(value: object) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError):
        return False


def _name(kind: type[nn.Module], classes: dict[type[nn.Module], str], imports: dict[str, str]) -> str:
    """The class's name in the file; what its methods use of torch is noted as an import."""
    if kind not in classes:
        for method in _methods(kind).values():
            for name in _globals(method.__code__):
                if name in method.__globals__:
                    imports[name] = _import(name, method.__globals__[name], kind)
        taken = [*classes.values(), "Parts"]
        classes[kind] = kind.__name__ + "_" * sum(other.rstrip("_") == kind.__name__ for other in taken)
    return classes[kind]


def _globals(code: CodeType) -> set[str]:
    """Names that the code, and any code inside it, looks up outside."""
    found = {str(step.argval) for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    return found.union(*(_globals(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


def _import(name: str, value: object, kind: type[nn.Module]) -> str:
    if isinstance(value, ModuleType) and value.__name__.split(".")[0] in ("torch", "math"):
        path, _, last = value.__name__.rpartition(".")
        return _IMPORTS.get(name) or (f"from {path} import {last} as {name}" if path else f"import {last} as {name}")
    home = str(getattr(value, "__module__", ""))
    if home.split(".")[0] == "torch" and getattr(sys.modules.get(home), name, None) is value:
        return _IMPORTS.get(name, f"from {home} import {name}")
    raise NotPlainError(f"{kind.__name__} uses {name!r}, which is not torch's")


def _methods(kind: type[nn.Module]) -> dict[str, FunctionType]:
    """Everything that a class and its bases below torch's define, but for constructors."""
    found: dict[str, FunctionType] = {}
    for base in kind.__mro__:
        if base.__module__.split(".")[0] == "torch":
            break
        for name, value in vars(base).items():
            if isinstance(value, FunctionType) and name != "__init__":
                found.setdefault(name, value)
    return found


def _class(kind: type[nn.Module], name: str) -> str:
    base = "nn.Sequential" if issubclass(kind, nn.Sequential) else "Parts"
    try:
        bodies = [textwrap.dedent(inspect.getsource(method)) for method in _methods(kind).values()]
    except OSError:
        raise NotPlainError(f"the source of {kind.__name__} is not in a file") from None
    about = (inspect.getdoc(kind) or kind.__name__).splitlines()[0]
    text = f'\n\nclass {name}({base}):\n    """{about}"""\n'
    return text + "".join("\n" + textwrap.indent(body, "    ") for body in bodies)
