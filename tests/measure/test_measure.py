"""A device whose law is known is measured and predicted; what was interrupted goes on."""

from __future__ import annotations

import numpy as np
import pytest

from cmpnas.cost.latency import read_latency_table
from cmpnas.errors import LatencyError
from cmpnas.measure.table import Plan, measure
from cmpnas.space import load_space

NETWORKS, ROUNDS = 30, 7


class Additive:
    """Networks take 0.5 ms, and of each operator 0.4 of its time alone, 0.02 ms and 3 ms a million parameters.

    With noise, one visit in ten meets something that takes 20 ms, and the machine is up to three times slower for
    hundreds of visits at a time.
    """

    def __init__(self, space, noise=True, breaks_after=None):
        self.space, self.noise, self.left = space, noise, breaks_after
        self.visits = 0
        self.rng = np.random.default_rng(0)
        self.alone = {name: 1e-4 + cost.macs / 1e7 for name, (_, cost) in space.operators.items()}

    def visit(self, ms):
        def timer():
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt
            self.visits += 1
            if not self.noise:
                return ms
            return ms * (2 + np.sin(self.visits / 500)) + 20 * (self.rng.random() < 0.1)

        return timer

    def operator(self, layer):
        return self.visit(self.alone[layer.operator])

    def network(self, layers):
        params = sum(self.space.operators[layer.operator][1].params for layer in layers)
        return self.visit(0.5 + sum(0.4 * self.alone[layer.operator] + 0.02 for layer in layers) + 3 * params / 1e6)

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


def test_what_a_call_costs_is_paid_once_in_a_network(tiny, tmp_path):
    class Called(Additive):
        """A call takes 0.02 ms, an operator 0.9 of what it takes alone besides."""

        def operator(self, layer):
            return self.visit(self.alone[layer.operator] + 0.02)

        def network(self, layers):
            return self.visit(0.02 + sum(0.9 * self.alone[layer.operator] for layer in layers))

    device = Called(tiny, noise=False)
    table = run(tiny, device, tmp_path / "t.json")
    assert table.held_out["mape"] < 1e-6
    assert table.correction.alone == pytest.approx(0.9)
    assert table.correction.operator_ms == pytest.approx(-0.9 * 0.02)
    timed = tiny.timed(read_latency_table(tmp_path / "t.json"))
    for arch in timed.sample_many(20, 9):
        assert timed.cost(arch).latency_ms == pytest.approx(device.network(tiny.layers(arch))(), rel=1e-3)


def test_slow_spells_and_interruptions_by_others_do_not_spoil_it(tiny, tmp_path):
    table = run(tiny, Additive(tiny), tmp_path / "t.json", rounds=30)
    assert table.held_out["mape"] < 0.05
    assert table.held_out["repeatability"] < 0.12
    pace = np.median([table.operators[name] / ms for name, ms in Additive(tiny).alone.items()])
    assert table.operators == pytest.approx({n: ms * pace for n, ms in Additive(tiny).alone.items()}, rel=0.15)


def test_everything_is_made_ready_several_times_in_orders_of_their_own(tiny, tmp_path):
    made = []

    class Noting(Additive):
        def operator(self, layer):
            made.append(layer.operator)
            return super().operator(layer)

    run(tiny, Noting(tiny, noise=False), tmp_path / "t.json")
    made = made[-6 * len(tiny.operators) :]  # before that, how long it will take is found out
    sittings = [made[start : start + len(tiny.operators)] for start in range(0, len(made), len(tiny.operators))]
    assert all(sorted(sitting) == sorted(tiny.operators) for sitting in sittings)
    assert len({tuple(sitting) for sitting in sittings}) == 6


def test_fitting_sees_none_of_the_networks_it_is_checked_on(tiny, tmp_path):
    drawn = Plan.of(tiny, NETWORKS, 0).archs

    class Odd(Additive):
        """The networks that nothing is fitted on take twice as long."""

        def network(self, layers):
            timer = super().network(layers)
            return (lambda: 2 * timer()) if layers in map(tiny.layers, drawn[1::2]) else timer

    table = run(tiny, Odd(tiny, noise=False), tmp_path / "t.json")
    assert table.correction.alone == pytest.approx(0.4)
    assert table.held_out["mape"] == pytest.approx(0.5)
    held = [row for row in table.networks if row["held_out"]]
    assert len(held) == NETWORKS
    assert len({row["id"] for row in table.networks}) == 2 * NETWORKS
    assert all(row["predicted_ms"] == pytest.approx(row["ms"] / 2) for row in held)


def test_an_interrupted_measuring_goes_on(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("cmpnas.measure.table._AT_ONCE", 500_000)
    device = Additive(tiny, noise=False)
    whole = run(tiny, device, tmp_path / "whole.json")
    with pytest.raises(KeyboardInterrupt):
        run(tiny, Additive(tiny, noise=False, breaks_after=device.visits // 2), tmp_path / "t.json")
    log, blocks = tmp_path / "t.json.rounds.jsonl", len(Plan.of(tiny, NETWORKS, 0).blocks)
    assert blocks > 2
    assert abs(len(log.read_text().splitlines()) - blocks * ROUNDS / 2) < ROUNDS / 2
    log.write_text(log.read_text() + "[1.0, 2.")
    rest = Additive(tiny, noise=False)
    assert run(tiny, rest, tmp_path / "t.json") == whole
    assert rest.visits < 0.6 * device.visits
    assert (tmp_path / "t.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert not log.exists()


def test_what_was_interrupted_is_not_mixed_with_something_else(tiny, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tiny, Additive(tiny, breaks_after=400), tmp_path / "t.json")
    with pytest.raises(LatencyError, match="is an interrupted measuring of something else"):
        run(tiny, Additive(tiny, noise=False), tmp_path / "t.json")
    with pytest.raises(LatencyError, match="is an interrupted measuring of something else"):
        run(tiny, Additive(tiny), tmp_path / "t.json", seed=1)


@pytest.mark.parametrize("rest", ["nonsense", "[1.0]", "[1.0"])
def test_a_damaged_log_is_not_gone_on_from(tiny, tmp_path, rest):
    with pytest.raises(KeyboardInterrupt):
        run(tiny, Additive(tiny, breaks_after=50), tmp_path / "t.json")
    log = tmp_path / "t.json.rounds.jsonl"
    log.write_text(f"{log.read_text()}{rest}\n")
    with pytest.raises(LatencyError, match=r"t.json.rounds.jsonl is damaged; delete it"):
        run(tiny, Additive(tiny), tmp_path / "t.json")
    log.write_text(f"{rest}\n")
    with pytest.raises(LatencyError, match=r"t.json.rounds.jsonl is (damaged; delete it|an interrupted measuring)"):
        run(tiny, Additive(tiny), tmp_path / "t.json")


def test_bad_settings(tiny, small, tmp_path):
    for changes, message in (
        ({"rounds": 1}, "--rounds is 1; give at least 2"),
        ({"networks": 3}, "--networks is 3; a correction needs at least 10"),
        ({"networks": 500}, "has too few architectures for twice 500"),
    ):
        with pytest.raises(LatencyError, match=message):
            run(tiny, Additive(tiny), tmp_path / "t.json", **changes)
    with pytest.raises(LatencyError, match="is a folder; name a file in it"):
        run(tiny, Additive(tiny), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(LatencyError, match="cannot write to"):
        run(tiny, Additive(tiny), tmp_path / "file" / "t.json")


def test_the_user_is_told_how_much_there_is(tiny, tmp_path):
    said = []
    run(tiny, Additive(tiny), tmp_path / "t.json", say=said.append)
    assert said[0].startswith(
        "measuring 60 operators and 60 networks of tiny at 32 px; 0 of 7 rounds are done, the others take"
    )
