"""CSV files as other programs write them, and as they break."""

from __future__ import annotations

import numpy as np
import pytest

from cmpnas.data.lists import as_column, read_csv
from cmpnas.errors import DataError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "list.csv"


def test_only_the_columns_asked_for(path):
    path.write_text('a,b,c\n1,"x, y",3\n\n4,,6\n')
    assert read_csv(path, ("c", "b")) == {"b": ["x, y", ""], "c": ["3", "6"]}
    assert read_csv(path, ("c",), others=True) == {"a": ["1", "4"], "b": ["x, y", ""], "c": ["3", "6"]}


def test_byte_order_mark_spaces_and_windows_lines(path):
    path.write_bytes(b"\xef\xbb\xbfa, b\r\n1, 2\r\n")
    assert read_csv(path, ("a", "b")) == {"a": ["1"], "b": ["2"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no column 'a'; its header is nothing"),
        (b"b,c\n1,2\n", "has no column 'a'; its header is b, c"),
        (b"a,b\n1,2\n3\n", "line 3: 1 fields where the header has 2"),
        (b"a,b\n1,2,3\n", "line 2: 3 fields where the header has 2"),
        (b'a,b\n"1\n2",3\n4\n', "line 4: 1 fields"),
        (b"a\n\xff\n", "cannot be read as CSV"),
        (b'a,b\n1,"2\n3,4\n', "up to line 3, is no CSV"),
        (b'a,b\n"12" tablet,2\n', "up to line 2, is no CSV"),
        (b"a,b,b\n1,2,3\n", "has two columns 'b'; give each a name of its own"),
    ],
)
def test_damage_is_named(path, content, message):
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_csv(path, ("a",))


def test_missing_files_and_folders(path, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_csv(path, ("a",))
    with pytest.raises(DataError, match="cannot be read as CSV"):
        read_csv(tmp_path, ("a",))


def test_numbers_are_numbers_only_throughout():
    assert as_column(["1", "-20", "0"]).tolist() == [1, -20, 0]
    for texts in (["1", "x"], ["0012", "12"], ["1", ""], ["1.5"]):
        assert as_column(texts).tolist() == texts
    assert as_column(["7"]).dtype == np.int64
