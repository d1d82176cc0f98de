"""One bar at a time, and nothing lost when it is left early."""

from __future__ import annotations

import sys

import pytest

from cmpnas import progress


@pytest.fixture
def shown(monkeypatch):
    """The names of all bars opened, on what looks like a terminal."""
    names: list[str] = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    real = progress._bar

    def counting():
        bar = real()
        enter = bar.__enter__

        class Bar:
            def __enter__(self):
                inner = enter()
                add = inner.add_task
                inner.add_task = lambda name, **rest: names.append(name) or add(name, **rest)
                return inner

            def __exit__(self, *fault):
                return bar.__exit__(*fault)

        return Bar()

    monkeypatch.setattr(progress, "_bar", counting)
    return names


def test_a_bar_within_a_bar_is_not_shown(shown):
    outer = progress.track(range(2), "outer", total=2)
    assert [list(progress.track(range(3), "inner", total=3)) for _ in outer] == [[0, 1, 2]] * 2
    assert shown == ["outer"]


def test_a_bar_left_early_makes_room_for_the_next(shown):
    for _ in progress.track(range(5), "first", total=5):
        break
    assert list(progress.track(range(2), "second", total=2)) == [0, 1]
    assert shown == ["first", "second"]


def test_nobody_watching_sees_nothing(monkeypatch):
    monkeypatch.setattr(progress, "_bar", lambda: pytest.fail("a bar was opened"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    assert list(progress.track(range(3), "quiet", total=3)) == [0, 1, 2]
