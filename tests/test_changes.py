"""What of a recipe differs is told by the key that says it."""

from __future__ import annotations

from cmpnas.changes import differences, told


def test_differences_go_down_to_the_key_and_know_list_entries_by_name():
    there = {"a": 1, "b": {"c": [1, 2], "d": 3}, "galleries": [{"name": "x", "views": 2}, {"name": "y", "views": 2}]}
    here = {"a": 1, "b": {"c": [1, 3], "d": 3}, "galleries": [{"name": "y", "views": 3}, {"name": "x", "views": 2}]}
    assert list(differences(there, here)) == [("b.c", [1, 2], [1, 3]), ("galleries.y.views", 2, 3)]
    assert list(differences({"galleries": []}, {"galleries": [{"name": "z"}]})) == [
        ("galleries.z", None, {"name": "z"})
    ]
    assert not list(differences(there, there))


def test_a_long_value_is_told_by_its_beginning():
    assert told({"a": 1}) == "{'a': 1}"
    assert told("x" * 200) == "'" + "x" * 79 + "..."
