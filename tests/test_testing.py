"""The conformance suite passes on the documented examples and on our own spaces, and fails on wrong ones."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cmpnas.cli.app import main
from cmpnas.errors import SpaceError
from cmpnas.models import Supernet
from cmpnas.space import Lattice, load_space
from cmpnas.testing import check_space

PAGE = Path(__file__).parents[1] / "docs" / "spaces.md"


@pytest.fixture
def examples(tmp_path, monkeypatch) -> Path:
    """The page's own examples as files in the working folder."""
    blocks = re.findall(r"```(python|yaml)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for kind, text in blocks:
        named = re.match(r"# (\w+)\.py", text) if kind == "python" else re.match(r"name: (\w+)", text)
        if named:
            (tmp_path / "broken_module.py").write_text("def")
            (tmp_path / f"{named[1]}.{'py' if kind == 'python' else 'yaml'}").write_text(text)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("my_blocks", "my_spaces"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "count"), [("pocket.yaml", 2560), ("grouped.yaml", 24), ("my_spaces:TwoRoads", 3)]
)  # fmt: skip
def test_documented_examples_keep_their_promises(examples, name, count):
    space = load_space(name)
    assert space.count() == count
    check_space(space, archs=3)


def test_own_spaces_are_reached_from_the_command_line(examples, capsys):
    assert main(["cost", "my_spaces:TwoRoads", "--count"]) == 0
    assert "3 architectures of two_roads" in capsys.readouterr().out
    assert main(["cost", "my_spaces:TwoRoads", "--extremes", "--audit"]) == 0
    assert capsys.readouterr().out.count("fvcore: the same") == 2
    assert main(["search", "--set", "query.space=my_spaces:TwoRoads", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["architectures"] == 3
    assert main(["search", "--set", "query.space=my_spaces:OneRoad", "--dry-run"]) == 2
    assert "has no 'OneRoad'" in capsys.readouterr().err


def test_what_cannot_be_built_is_told_before_anything_is_trained(examples, capsys):
    text = (examples / "grouped.yaml").read_text()
    (examples / "odd.yaml").write_text(re.sub(r"groups: \[[^\]]*\]", "groups: [1, 7]", text))
    assert main(["search", "--set", "query.space=odd.yaml", "--dry-run"]) == 2
    told = capsys.readouterr().err.strip()
    assert re.search(r"space 'grouped' cannot be built \(ValueError: .*divisible.*change the block or its values", told)
    (examples / "roads.py").write_text(
        "from cmpnas.space import Lattice\n"
        "class Nowhere:\n    name, size, embedding_dim = 'nowhere', 32, 8\n"
        "    def lattice(self, size, dim):\n        grown = Lattice()\n        grown.add()\n        grown.add()\n"
        "        return grown\n"
        "class Raises(Nowhere):\n    def lattice(self, size, dim): raise ValueError('no roads')\n"
    )
    for name, why in (("Nowhere", "gives no lattice from end to end"), ("Raises", "ValueError: no roads")):
        assert main(["cost", f"roads:{name}", "--count"]) == 2
        told = capsys.readouterr().err.strip()
        assert why in told
        assert "\n" not in told
    sys.modules.pop("roads", None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_spaces:Nothing", "has no 'Nothing'"),
        ("no_such_module:Space", "cannot import 'no_such_module'"),
        (":Space", "cannot import ''"),
        ("broken_module:Space", "cannot import 'broken_module' .*SyntaxError"),
        ("re:purge", "no blueprint of a space"),
        ("my_blocks:GROUPED", "cannot be called without arguments"),
        ("my_blocks:Block", "cannot be called without arguments"),
    ],
)
def test_wrong_import_paths_are_one_line(examples, capsys, name, message):
    assert main(["cost", name]) == 2
    told = capsys.readouterr().err.strip()
    assert re.search(message, told)
    assert "\n" not in told


def test_a_cost_that_raises_is_one_line(examples, capsys):
    text = (examples / "my_blocks.py").read_text()
    (examples / "my_blocks.py").write_text(text.replace('layer.integer("groups")', 'layer.integer("grups")'))
    for command in (["cost", "grouped.yaml"], ["search", "--dry-run", "--set", "query.space=grouped.yaml"]):
        assert main(command) == 2
        assert "grouped.yaml gives no lattice from end to end (KeyError: 'grups')" in capsys.readouterr().err


def test_wrong_cost_is_found(examples):
    text = (examples / "my_blocks.py").read_text()
    (examples / "my_blocks.py").write_text(text.replace("layer.stride, groups)\n    return", "1, groups)\n    return"))
    with pytest.raises(SpaceError, match="fvcore counts"):
        check_space(load_space("grouped.yaml"), archs=3)


UNSHARED = """
class Unshared(nn.Sequential):
    def __init__(self, layer):
        plain = [nn.Conv2d(layer.cin, layer.cout, 1, layer.stride, bias=False), nn.BatchNorm2d(layer.cout)]
        super().__init__(*(plain if layer.integer("groups") == 1 else reversed(plain)))
"""


def test_weights_that_cannot_be_shared_are_found(examples):
    code, text = (examples / "my_blocks.py").read_text(), (examples / "grouped.yaml").read_text()
    (examples / "my_blocks.py").write_text(code.replace('"my_blocks:Grouped"', '"my_blocks:Unshared"') + UNSHARED)
    (examples / "grouped.yaml").write_text(text.replace(", separate: groups", ""))
    with pytest.raises(SpaceError, match="cannot share weights"):
        Supernet(load_space("grouped.yaml"))


def test_operators_without_separate_weights_entangle(examples):
    text = (examples / "pocket.yaml").read_text()
    (examples / "pocket.yaml").write_text(text.replace(", separate: operator", ""))
    check_space(load_space("pocket.yaml"), archs=3)


def broken(change) -> object:
    """The blueprint of `tiny` with its graph changed."""

    class Broken:
        name, size, embedding_dim = "broken", 32, 64

        def lattice(self, size: int, embedding_dim: int) -> Lattice:
            lattice = load_space("tiny", size=size, embedding_dim=embedding_dim).lattice
            edges = [list(leaving) for leaving in lattice.edges]
            change(edges)
            return Lattice(edges)

    return Broken()


def drop_all(edges):
    edges[3].clear()


def twice(edges):
    edges[-3].append(edges[-3][0])
    edges[2].append(edges[2][0])


def other_decision(edges):
    edges[2][0] = replace(edges[2][0], choices=(("else", 1),))


def wide(edges):
    edges[0][0] = replace(edges[0][0], layer=replace(edges[0][0].layer, cout=8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_all, "nothing leaves node 3"),
        (twice, "same decisions with the same values"),
        (other_decision, "take different decisions"),
        (wide, "reads 16 channels where 8 arrive"),
    ],
)
def test_broken_graphs_are_found(change, message):
    from cmpnas.space import SearchSpace

    with pytest.raises(SpaceError, match=message):
        check_space(SearchSpace(broken(change)), archs=2)
