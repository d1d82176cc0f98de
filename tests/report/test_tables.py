"""What tables for people say."""

from __future__ import annotations

import json

import pytest

from cmpnas.report.tables import print_front
from cmpnas.report.text import print_text_evaluation


@pytest.mark.parametrize("fixture", ["made_up", "timed"])
def test_a_front_shows_milliseconds_where_they_are_known(request, fixture, capsys):
    front = json.loads((request.getfixturevalue(fixture) / "front.json").read_text())
    print_front(front | {"pairs": front["pairs"][:1]})
    told = capsys.readouterr().out
    assert "1 pair that nothing beats" in told
    assert (" ms " in told) == (fixture == "timed")
    if fixture == "timed":
        assert f"{front['pairs'][0]['query']['latency_ms']:.3g}" in told


@pytest.mark.parametrize(("speedup", "words"), [(38.04, "38.0x faster than"), (0.8, "1.2x slower than")])
def test_a_cascade_that_is_slower_is_called_slower(speedup, words, capsys):
    compared = {"difference": 0.1, "interval": [0.0, 0.2], "p_value": 0.1}
    plan = dict.fromkeys(("hit", "measured_hit", "milliseconds", "measured_milliseconds", "weight"), 1.0)
    print_text_evaluation(
        {
            "recipe": "r", "split": "test", "queries": 9, "gallery_items": 9, "id": "w8", "systems": [],
            "plan": plan | {"k": 4, "binding": "hits"}, "speedup": speedup,
            "fine_over_coarse": compared, "cascade_over_fine": compared,
        }
    )  # fmt: skip
    assert words in " ".join(capsys.readouterr().out.split())
