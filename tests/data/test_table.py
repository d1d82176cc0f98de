"""Conditions select the rows that a reader of the recipe would select by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from cmpnas.data.images import ArrayImages
from cmpnas.data.settings import Where
from cmpnas.data.table import Table
from cmpnas.errors import DataError

NUMBERS = np.array([0, 1, 7, 8, 9, 15, 16, 31, 32, 40])


@pytest.fixture
def table():
    pictures = ArrayImages(torch.zeros(len(NUMBERS), 3, 8, 8, dtype=torch.uint8))
    return Table(pictures, {"number": NUMBERS, "name": np.array(list("abcdefghij"))})


@pytest.mark.parametrize(
    ("condition", "keeps"),
    [
        ({"from": 8, "below": 16}, lambda n: 8 <= n < 16),
        ({"every": 8}, lambda n: n in (0, 8, 16, 32, 40)),
        ({"but_every": 8}, lambda n: n not in (0, 8, 16, 32, 40)),
        ({"every": 4, "block": 8}, lambda n: 0 <= n < 8 or 32 <= n < 40),
        ({"but_every": 4, "block": 8}, lambda n: 8 <= n < 32 or n >= 40),
        ({"every": 2, "but_every": 4, "block": 8}, lambda n: 16 <= n < 24),
        ([1, 40], lambda n: n in (1, 40)),
    ],
)
def test_conditions_on_numbers(table, condition, keeps):
    where = TypeAdapter(Where).validate_python({"number": condition})
    assert NUMBERS[table.select(where, "train")].tolist() == [n for n in NUMBERS.tolist() if keeps(n)]


def test_conditions_mean_what_a_yaml_file_says(table):
    def rows(**where):
        return table.select(TypeAdapter(Where).validate_python(where), "train").tolist()

    assert rows(number=[0, "7"]) == [0, 2]
    with pytest.raises(DataError, match=r"column 'number' holds numbers; none can be \[0, 'x'\]"):
        rows(number=[0, "x"])
    with pytest.raises(DataError, match=r"nothing meets \{'number': \{'from': 99\.0\}, 'name': 'a'\}"):
        rows(number={"from": 99}, name="a")
    said = ["yes", "no", "TRUE", "False", "on", "Off", "y", "", "1", "true"]
    table = Table(table.images, {"said": np.array(said)})
    assert rows(said=True) == [0, 2, 4, 9]
    assert rows(said=False) == [1, 3, 5]


def test_of_several_selections_one_must_hold(table):
    several = [{"number": {"below": 8}, "name": ["b", "c", "d"]}, {"name": ["c", "j"]}]
    where = TypeAdapter(Where).validate_python(several)
    assert table.select(where, "pool").tolist() == [1, 2, 9]
    with pytest.raises(DataError, match=r"no item is in pool: nothing meets \{'name': 'z'\}"):
        table.select([{"name": "a"}, {"name": "z"}], "pool")


def test_numbers_are_not_asked_of_text(table):
    with pytest.raises(DataError, match="column 'name' holds text"):
        table.select(TypeAdapter(Where).validate_python({"name": {"every": 2}}), "train")
