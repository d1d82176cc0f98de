"""A device whose law is known is measured and predicted; what was interrupted goes on."""

from __future__ import annotations

import numpy as np
import pytest

from cmpnas.cost.latency import read_latency_table
from cmpnas.errors import LatencyError
from cmpnas.measure.table import measure
from cmpnas.space import load_space

NETWORKS, ROUNDS = 30, 9


class Additive:
    """Networks take 0.5 ms, and of each operator 0.4 of its time alone, 0.02 ms and 3 ms a million parameters.

    Every third round the machine is three times slower, and one visit in twenty meets something that takes 20 ms.
    """

    def __init__(self, space, noise=True, breaks_after=None):
        self.space, self.noise, self.left = space, noise, breaks_after
        self.visits: dict[object, int] = {}
        self.rng = np.random.default_rng(0)
        self.alone = {name: 1e-4 + cost.macs / 1e7 for name, (_, cost) in space.operators.items()}

    def visit(self, what, ms):
        def timer():
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt
            self.visits[what] = self.visits.get(what, 0) + 1
            if not self.noise:
                return ms
            slow = 3 if self.visits[what] % 3 == 0 else 1
            return ms * slow + 20 * (self.rng.random() < 0.05)

        return timer

    def operator(self, layer):
        return self.visit(layer.operator, self.alone[layer.operator])

    def network(self, layers):
        params = sum(self.space.operators[layer.operator][1].params for layer in layers)
        ms = 0.5 + sum(0.4 * self.alone[layer.operator] + 0.02 for layer in layers) + 3 * params / 1e6
        return self.visit(tuple(layers), ms)

    def provenance(self):
        return {"processor": "additive", "noise": self.noise}


@pytest.fixture(scope="module")
def tiny():
    return load_space("tiny")


def run(space, device, out, **changes):
    settings = {"networks": NETWORKS, "rounds": ROUNDS, "seed": 0, "say": lambda message: None} | changes
    return measure(space, device, out, **settings)


def test_a_known_law_is_found_and_networks_are_predicted(tiny, tmp_path):
    device = Additive(tiny, noise=False)
    table = run(tiny, device, tmp_path / "t.json")
    assert table.held_out["mape"] < 1e-6
    assert table.held_out["within_10pct"] == 1
    assert table.held_out["kendall"]["value"] == 1
    assert table.held_out["plain_sum_mape"] > 0.2
    assert table.held_out["repeatability"] == 0
    assert table.correction.params_ms == pytest.approx(3)
    assert table.correction.alone == pytest.approx(0.4)
    assert read_latency_table(tmp_path / "t.json") == table
    timed = tiny.timed(table)
    for arch in timed.sample_many(20, 9):
        assert timed.cost(arch).latency_ms == pytest.approx(device.network(tiny.layers(arch))(), rel=1e-3)


def test_slow_rounds_and_interruptions_by_others_do_not_spoil_it(tiny, tmp_path):
    table = run(tiny, Additive(tiny), tmp_path / "t.json", rounds=41)
    assert table.held_out["mape"] < 0.02
    assert table.operators == pytest.approx(Additive(tiny).alone, rel=0.02)


def test_fitting_sees_none_of_the_networks_it_is_checked_on(tiny, tmp_path):
    class Odd(Additive):
        """Every second network, those that nothing is fitted on, takes twice as long."""

        networks = -1  # the first is only to estimate how long it all takes

        def network(self, layers):
            self.networks += 1
            timer = super().network(layers)
            return (lambda: 2 * timer()) if self.networks and self.networks % 2 == 0 else timer

    table = run(tiny, Odd(tiny, noise=False), tmp_path / "t.json")
    assert table.correction.alone == pytest.approx(0.4)
    assert table.held_out["mape"] == pytest.approx(0.5)
    held = [row for row in table.networks if row["held_out"]]
    assert len(held) == NETWORKS
    assert len({row["id"] for row in table.networks}) == 2 * NETWORKS
    assert all(row["predicted_ms"] == pytest.approx(row["ms"] / 2) for row in held)


def test_an_interrupted_measuring_goes_on(tiny, tmp_path):
    whole = run(tiny, Additive(tiny, noise=False), tmp_path / "whole.json")
    visits = len(tiny.operators) + 2 * NETWORKS
    with pytest.raises(KeyboardInterrupt):
        run(tiny, Additive(tiny, noise=False, breaks_after=4 * visits + visits // 2), tmp_path / "t.json")
    log = tmp_path / "t.json.rounds.jsonl"
    assert len(log.read_text().splitlines()) == 1 + 4
    log.write_text(log.read_text() + "[1.0, 2.")
    device = Additive(tiny, noise=False)
    table = run(tiny, device, tmp_path / "t.json")
    assert max(device.visits.values()) <= ROUNDS - 4 + 1
    assert table == whole
    assert (tmp_path / "t.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert not log.exists()


def test_what_was_interrupted_is_not_mixed_with_something_else(tiny, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tiny, Additive(tiny, breaks_after=300), tmp_path / "t.json")
    with pytest.raises(LatencyError, match="is an interrupted measuring of something else"):
        run(tiny, Additive(tiny, noise=False), tmp_path / "t.json")
    with pytest.raises(LatencyError, match="is an interrupted measuring of something else"):
        run(tiny, Additive(tiny), tmp_path / "t.json", seed=1)


def test_bad_settings(tiny, small, tmp_path):
    for changes, message in (
        ({"rounds": 1}, "--rounds is 1; give at least 2"),
        ({"networks": 3}, "--networks is 3; a correction needs at least 10"),
        ({"networks": 500}, "has too few architectures for twice 500"),
    ):
        with pytest.raises(LatencyError, match=message):
            run(tiny, Additive(tiny), tmp_path / "t.json", **changes)
    (tmp_path / "file").write_text("")
    with pytest.raises(LatencyError, match="cannot write to"):
        run(tiny, Additive(tiny), tmp_path / "file" / "t.json")


def test_the_user_is_told_how_much_there_is(tiny, tmp_path):
    said = []
    run(tiny, Additive(tiny), tmp_path / "t.json", say=said.append)
    assert said[0].startswith("measuring 60 operators and 60 networks of tiny at 32 px, 9 of 9 rounds: about ")
