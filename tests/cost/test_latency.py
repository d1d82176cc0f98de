"""Tables come back as they were written, from CSV too, and say what is wrong with them."""

from __future__ import annotations

import json

import pytest

from cmpnas.cost import Cost
from cmpnas.cost.latency import Correction, LatencyTable, read_latency_table
from cmpnas.errors import LatencyError


def test_round_trip(tmp_path):
    table = LatencyTable({"a": 0.1, "b": 1 / 3}, Correction(0.1, 1.5, 0.2, 0.3), {"name": "x"}, {"mape": 0.02})
    table.write(tmp_path / "t.json")
    assert read_latency_table(tmp_path / "t.json") == table
    assert table.error == 0.02
    assert table.key == LatencyTable(table.operators, table.correction).key != LatencyTable(table.operators).key


def test_csv_is_the_plain_sum(tmp_path):
    (tmp_path / "t.csv").write_text('operator,ms,note\n"conv 3>16 s2 32px kernel=3 activation=relu",0.5,phone\nb,0\n')
    table = read_latency_table(tmp_path / "t.csv")
    assert table.ms("conv 3>16 s2 32px kernel=3 activation=relu", Cost(params=10**6)) == 0.5
    assert table.error is None


def test_an_operator_that_does_nothing_costs_nothing():
    table = LatencyTable({"idle": 0.0, "works": 0.5}, Correction(0.1, 2.0, 0.25, 4.0))
    assert table.ms("idle", Cost()) == 0
    assert table.ms("works", Cost(params=500_000)) == 2 * 0.5 + 0.25 + 4 * 0.5


def test_a_call_is_taken_off_but_no_more_than_there_is():
    table = LatencyTable({"idle": 0.0, "works": 0.5}, Correction(operator_ms=-0.4))
    assert table.ms("idle", Cost()) == 0
    assert table.ms("works", Cost()) == pytest.approx(0.1)
    with pytest.raises(LatencyError, match=r"operator 'works' takes -0\.1 ms by the latency table's correction"):
        LatencyTable({"works": 0.5}, Correction(operator_ms=-0.6)).ms("works", Cost())


BAD = {
    "nonsense": "{",
    "no mapping": "[1]",
    "no operators": '{"schema": 1}',
    "schema": '{"schema": 7, "operators": {"a": 1}}',
    "negative": '{"schema": 1, "operators": {"a": -1}}',
    "text": '{"schema": 1, "operators": {"a": "fast"}}',
    "true": '{"schema": 1, "operators": {"a": true}}',
    "nan": '{"schema": 1, "operators": {"a": NaN}}',
    "correction": '{"schema": 1, "operators": {"a": 1}, "correction": {"nope": 1}}',
    "space": '{"schema": 1, "operators": {"a": 1}, "space": "tiny"}',
    "held out": '{"schema": 1, "operators": {"a": 1}, "held_out": {}}',
    "held out by words": '{"schema": 1, "operators": {"a": 1}, "held_out": {"mape": "2.7%"}}',
    "all zero": '{"schema": 1, "operators": {"a": 0, "b": 0.0}}',
    "negative correction": '{"schema": 1, "operators": {"a": 1}, "correction": {"alone": -1}}',
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_damaged_json(tmp_path, text):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(LatencyError, match="is no latency table"):
        read_latency_table(tmp_path / "t.json")


@pytest.mark.parametrize("text", ["", "operator,seconds\na,1\n", "operator,ms\na,1\na,2\n", "operator,ms\na,x\n",
                                  "operator,ms\na,\n", "operator,ms\na,inf\n", "operator,ms\na,0\n"])  # fmt: skip
def test_damaged_csv(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(LatencyError, match="is no latency table"):
        read_latency_table(tmp_path / "t.csv")


def test_a_csv_of_a_spreadsheet(tmp_path):
    (tmp_path / "t.csv").write_text("operator,ms\na,1.5\n", encoding="utf-8-sig")
    assert read_latency_table(tmp_path / "t.csv").operators == {"a": 1.5}


def test_units_that_do_not_fit_the_format_are_not_guessed(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps({"schema": 1, "operators": {"a": {"s": 0.1}}}))
    with pytest.raises(LatencyError, match="not a number of milliseconds"):
        read_latency_table(tmp_path / "t.json")
    with pytest.raises(LatencyError, match="cannot read latency table"):
        read_latency_table(tmp_path / "none.json")
