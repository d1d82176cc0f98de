"""What is stopped could hardly have entered the front; records say so, whoever evaluates and however often it stops."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cmpnas.cost import Budget
from cmpnas.data.images import ArrayImages
from cmpnas.data.items import Items, Protocol
from cmpnas.errors import DataError, RecipeError
from cmpnas.gallery.base import Indexed
from cmpnas.models import Supernet
from cmpnas.pipeline.search import _complete
from cmpnas.recipe import load_recipe
from cmpnas.retrieval import evaluate_retrieval
from cmpnas.search import RecordLog
from cmpnas.search.controllers import make_controller
from cmpnas.search.evaluator import Evaluator, first_queries
from cmpnas.search.front import build_front
from cmpnas.search.indexed import IndexedTask
from cmpnas.search.kept import KeptQueries
from cmpnas.search.race import Race, _Line, _student
from cmpnas.search.racing import RacingEvaluator
from cmpnas.search.records import Ahead, PairScore, Proposal, Record, finished
from cmpnas.search.rounds import search
from tests.conftest import QUICK
from tests.search.test_evaluator import counting, pictures
from tests.search.test_rounds import Judges, StopError, text


def test_the_bound_is_the_prediction_interval_of_least_squares():
    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 0.6, 20)
    y = 0.1 + 0.8 * x + rng.normal(0, 0.01, 20)
    line = _Line.through(x, y)
    design = np.stack([np.ones(20), x], 1)
    fitted, squares, _, _ = np.linalg.lstsq(design, y)
    for bar in (0.2, 0.3, 0.42, 0.6):
        at = np.array([1, line.mark(bar)])
        deviation = math.sqrt(squares[0] / 18 * (1 + at @ np.linalg.inv(design.T @ design) @ at))
        assert at @ fitted + 2.10092 * deviation == pytest.approx(bar, abs=1e-5)  # t of 18 degrees, tabled
        assert line.at(at[1]) == pytest.approx(at @ fitted)


@pytest.mark.parametrize(("free", "tabled"), [(8, 2.3060), (18, 2.1009), (100, 1.9840), (10_000, 1.9602)])
def test_quantiles_are_those_of_the_tables(free, tabled):
    assert _student(free) == pytest.approx(tabled, abs=0.006)


def test_no_line_through_few_points_or_noise():
    rng = np.random.default_rng(1)
    x = rng.random(30)
    assert _Line.through(x[:9], x[:9]) is None
    assert _Line.through(x, rng.random(30)) is None
    assert _Line.through(x, -x) is None
    assert _Line.through(np.full(30, 0.5), x) is None


def test_one_in_forty_is_stopped_of_those_that_would_just_have_entered():
    """The mark is at the bar's own quantile: of new points on the bar, .025 have a part so low."""
    rng, below = np.random.default_rng(2), []
    for _ in range(400):
        x = rng.uniform(0, 1, 40)
        line = _Line.through(x, 0.2 + x + rng.normal(0, 0.1, 40))
        new = rng.uniform(0.3, 0.7, 50)
        scores = 0.2 + new + rng.normal(0, 0.1, 50)
        below += [first <= line.mark(score) for first, score in zip(new, scores, strict=True)]
    assert np.mean(below) == pytest.approx(0.025, abs=0.005)


def test_marks_are_by_the_front_at_no_more_cost_and_by_what_was_finished(small):
    drawn = small.sample_many(40, 3)
    archs = sorted({drawn[i] for i in range(40)}, key=lambda arch: small.cost(arch).macs)[:14]
    race = Race(lambda arch: small.cost(arch).mflops)
    scores = [0.3, 0.5, 0.4, *np.linspace(0.1, 0.2, 11)]
    records = [
        Record(n, arch, 1.0, 1.0, {"g": PairScore(score, (0, 1), score - 0.02)}, 0.5)
        for n, (arch, score) in enumerate(zip(archs, scores, strict=True))
    ]
    race.add(records[5:])
    assert race.marks(archs[-1]) == {}
    stopped = Record(5, archs[-1], 1.0, 1.0, {"g": PairScore(0.9, (0, 1))}, math.nan, raced=10)
    race.add([*records[:5], stopped])
    assert race.marks(archs[0])["g"] == pytest.approx(0.28)
    assert race.marks(archs[-1])["g"] == race.marks(archs[2])["g"] == pytest.approx(0.48)
    assert race.expected("g", 0.1) == pytest.approx(0.12)
    assert race.marks(small.extremes()[0]).get("g", 0) < 0.3  # nothing is as cheap


def test_records_say_what_was_stopped_and_old_ones_stay_as_they_are(small, tmp_path):
    arch, other, third = (small.sample_many(9, 0)[i] for i in range(3))
    old = Record(0, arch, 1.5, 0.5, {"g": PairScore(0.5, (0.4, 0.6))}, 0.25)
    assert set(old.to_json()) == {"n", "query", "galleries", "homogeneous"}
    assert set(old.to_json()["galleries"]["g"]) == {"heterogeneous", "interval"}
    first = replace(old, n=1, arch=other, galleries={"g": PairScore(0.5, (0.4, 0.6), 0.45)})
    stopped = replace(old, n=2, arch=third, homogeneous=math.nan, raced=128)
    log = RecordLog(tmp_path / "records.jsonl", small)
    for record in (old, first, stopped):
        log.append(record)
    line = json.loads(log.path.read_text().splitlines()[2])
    assert line["raced"] == {"queries": 128}
    assert "homogeneous" not in line
    before = log.path.read_bytes()
    read = log.read()
    assert finished(read) == [old, first]
    log.rewrite(read)
    assert log.path.read_bytes() == before
    options = {"g": {"name": "g", "kind": "single", "mflops": 1.0}}
    front = build_front(
        [replace(old, mflops=2.0), replace(stopped, galleries={"g": PairScore(0.9, (0.8, 1))})],
        recipe="r", budget=Budget(), metric="map@r", galleries=options,
        paragon={"gallery": "g", "mflops": 9.0, "score": 0.9},
    )  # fmt: skip
    assert [pair["query"]["id"] for pair in front["pairs"]] == [arch.id]


def test_what_was_stopped_pushes_no_embeddings_out(small, tmp_path):
    archs = [small.sample_many(9, 0)[i] for i in range(2)]
    kept = KeptQueries(tmp_path, 1)
    kept.save(0, np.ones((4, 4)))
    records = [
        Record(0, archs[0], 2.0, 1.0, {"g": PairScore(0.5, (0, 1))}, 0.5),
        Record(1, archs[1], 1.0, 1.0, {"g": PairScore(0.9, (0, 1))}, math.nan, raced=4),
    ]
    kept.prune(records, Budget())
    assert kept.load(0) is not None


@pytest.fixture(scope="module")
def parts(small):
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (70, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    order = np.arange(70)
    asked = Items(ArrayImages(pixels), order // 10, order % 11, order)  # by class, as data sets are
    search = Protocol(asked, pictures(90, 2))
    rng = np.random.default_rng(0)
    vectors = [rng.standard_normal((90, small.embedding_dim)).astype(np.float32) for _ in range(2)]
    galleries = {"g": Indexed(vectors[0]), "h": Indexed(vectors[1], np.arange(5))}
    return Supernet(small).eval(), pictures(150, 3), search, galleries


def racing(parts, keep=None) -> RacingEvaluator:
    return RacingEvaluator(*parts, metric="map@r", calibration_images=140, racing=0.4, homogeneous=True, keep=keep)


def test_what_goes_on_scores_as_without_a_race_and_what_stops_as_its_first_queries(parts, small):
    _, _, task, galleries = parts
    rows = first_queries(task, 0.4)
    assert len(rows) == 28
    assert len(set(task.query.labels[rows])) == 7  # of every class, though queries are in their order
    drawn, kept = small.sample_many(5, 0), {}
    whole = Evaluator(*parts, metric="map@r", calibration_images=140, homogeneous=True, keep=kept.__setitem__)
    high = {"g": 2.0, "h": 2.0}
    marks = [{}, high, {"g": 2.0}, {"g": 2.0, "h": -1.0}, high]  # stopped if below both
    plan = [Proposal(n, drawn[n], marks[n]) for n in range(5)]
    truth = [whole(n, arch) for n, arch, _ in plan]
    saved = []
    raced = racing(parts, lambda n, _: saved.append(n))
    together = sorted((record for group in raced.together(plan) for record in group), key=lambda record: record.n)
    assert sorted(saved) == [0, 2, 3]
    assert [record.raced for record in together] == [None, 28, None, None, 28]
    for record, true in zip(together, truth, strict=True):
        own = task.query.sources[rows], task.gallery.sources
        labels = task.query.labels[rows], task.gallery.labels
        part = evaluate_retrieval(kept[record.n][rows], galleries["g"].gallery, *labels, ["map@r"], own)
        if record.raced:
            assert record.galleries["g"].heterogeneous == pytest.approx(part["map@r"], abs=0.01)
            assert record.galleries["g"].interval == pytest.approx(part.interval("map@r"), abs=0.01)
            assert math.isnan(record.homogeneous)
        else:
            later = {
                name: PairScore.of(scores, "map@r", first_queries(task, 0.4))
                for name, scores in IndexedTask(task, galleries, "map@r").against(kept[record.n]).items()
            }
            for name in galleries:
                found = record.galleries[name]
                assert found.heterogeneous == pytest.approx(true.galleries[name].heterogeneous, abs=0.01)
                assert found.first == pytest.approx(later[name].first, abs=0.01)
            assert later["g"].first == part["map@r"]
            assert record.homogeneous == pytest.approx(true.homogeneous, abs=0.01)
    for company in ([4, 2, 0], [1, 4], [3]):
        alone = [record for group in racing(parts).together([plan[i] for i in company]) for record in group]
        assert {record.n: record.to_json() for record in alone} == {i: together[i].to_json() for i in company}


def test_a_later_option_does_without_what_was_stopped(parts, small, tmp_path):
    supernet, pool, task, galleries = parts
    kept, log, drawn = (
        KeptQueries(tmp_path, 10**9),
        RecordLog(tmp_path / "records.jsonl", small),
        small.sample_many(3, 0),
    )
    plan = [Proposal(0, drawn[0]), Proposal(1, drawn[1], {"g": 2.0}), Proposal(2, drawn[2])]
    (before,) = racing((supernet, pool, task, {"g": galleries["g"]}), kept.save).together(plan)
    for record in sorted(before, key=lambda record: record.n):
        log.append(record)
    said = []
    settings = SimpleNamespace(search=SimpleNamespace(metric="map@r", racing=0.4))
    stages = SimpleNamespace(recipe=settings, splits=SimpleNamespace(search=task), say=said.append)
    records = _complete(log, kept, stages, galleries)
    assert [list(record.galleries) for record in records] == [["g", "h"], ["g"], ["g", "h"]]
    assert [record.to_json() for record in records] == [record.to_json() for record in log.read()]
    assert records[0].galleries["h"].first is not None
    assert "of 1 architectures no query embeddings are kept" in said[1]


def test_of_what_stops_no_other_picture_is_read(parts, small):
    supernet, pool, task, galleries = parts
    (query, asked), (gallery, found) = counting(task.query), counting(task.gallery)
    evaluator = racing((supernet, pool, Protocol(query, gallery), galleries))
    (records,) = evaluator.together([Proposal(0, small.extremes()[0], {"g": 2.0, "h": 2.0})])
    assert records[0].raced == 28
    assert asked == first_queries(task, 0.4).tolist()
    assert found == []


def test_too_few_queries_are_named(parts):
    _, _, task, _ = parts
    with pytest.raises(DataError, match=r"search.racing of 0.999 stops architectures after 70 of 70 queries"):
        first_queries(task, 0.999)


@pytest.mark.parametrize("setting", ["racing=1", "racing=true", "racing=0", "racing=fast"])
def test_racing_is_a_share(setting):
    with pytest.raises(RecipeError, match=r"search\.racing"):
        load_recipe("quickstart", (*QUICK, f"search.{setting}"))


def test_racing_is_by_the_heterogeneous_score():
    with pytest.raises(RecipeError, match="racing is by M"):
        load_recipe("quickstart", (*QUICK, "search.racing=0.5", "search.reward=r3"))


class Racing(Judges):
    """Scores with a part that says nearly all; stops what is below its mark."""

    def record(self, n, arch, marks):
        whole = super().record(n, arch, {})
        score = whole.galleries["g"].heterogeneous
        first = 0.9 * score + len(arch.id) % 5 / 2000
        if first <= marks.get("g", -1):
            return replace(whole, galleries={"g": PairScore(first, (0.1, 1 / 3))}, homogeneous=math.nan, raced=9)
        return replace(whole, galleries={"g": PairScore(score, (0.1, 1 / 3), first)})


def run(space, folder, judge, *, name="optuna:nsga2", batch=None, trials=60, found=()):
    controller = make_controller(name, space, Budget(), population=10, seed=3)
    told, race = [], Race(lambda arch: space.cost(arch).mflops)

    def score(record):
        said = record.galleries["g"].heterogeneous
        said = said if record.raced is None else race.expected("g", said)
        told.append(said)
        return said

    log, ahead = RecordLog(folder / "records.jsonl", space), Ahead(folder / "ahead.jsonl", space)
    found = search(
        controller, judge, log, ahead, trials=trials, batch=batch, race=race, found=found,
        score=score, cost=lambda record: record.mflops,
    )  # fmt: skip
    return list(found), told


@pytest.mark.parametrize(
    ("name", "trials", "batch", "groups"), [("optuna:nsga2", 60, None, 3), ("predictor", 36, 6, 5)]
)
def test_stopped_search_after_every_group_ends_with_the_same_bytes(small, tmp_path, name, trials, batch, groups):
    (tmp_path / "whole").mkdir()
    records, told = run(small, tmp_path / "whole", Racing(small), name=name, batch=batch, trials=trials)
    raced = [record for record in records if record.raced]
    assert len(raced) > 3
    front = {}
    for record in records:  # none of them was better than what was known before its round
        before = [other for other in finished(records[: record.n]) if other.mflops <= record.mflops]
        front[record.n] = max((other.galleries["g"].heterogeneous for other in before), default=-1.0)
    true = {record.n: Judges(small).record(record.n, record.arch, {}).galleries["g"].heterogeneous for record in raced}
    assert all(true[n] <= front[n] for n in true)
    assert [told[n] for n in true] == pytest.approx(list(true.values()), abs=0.003)
    for seed in range(100):
        try:
            run(small, tmp_path, Racing(small, seed, limit=groups, at_once=2), name=name, batch=batch, trials=trials)
            break
        except StopError:
            continue
    assert seed > 2
    assert text(tmp_path) == text(tmp_path / "whole")


def test_what_workers_stopped_before_counts(small, tmp_path):
    (tmp_path / "whole").mkdir()
    records, _ = run(small, tmp_path / "whole", Racing(small))
    judge = Racing(small)
    run(small, tmp_path, judge, found=records[20:50])
    assert text(tmp_path) == text(tmp_path / "whole")
    assert len(judge.evaluated) == 30
