"""What was computed is found again only by who would compute the same: a key differs as soon as an ingredient does."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cmpnas.cost.latency import Correction
from cmpnas.pipeline import lessons
from cmpnas.pipeline.option_stages import AnchorStage, EnsembleStage, MappedStage, ViewsStage
from cmpnas.pipeline.stages import Stages
from cmpnas.pipeline.train import Finish, weights_key
from cmpnas.recipe import load_recipe
from cmpnas.run import RunFolder
from tests.space.test_timed import table_of

BASE = (
    "data.size=32", "galleries=[]", "query.views=2", "query.mixtures=1", "query.train.epochs=3",
    "search.latency_table=null", "search.budget_mflops=2",
)  # fmt: skip


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """Of a quickstart with overrides; nothing is computed, and an array that would be is its key."""
    monkeypatch.setattr(lessons, "once", lambda path, key, make, advice: key)

    def of(*overrides, data="d"):
        recipe = load_recipe("quickstart", [*BASE, *overrides])
        return Stages(RunFolder(tmp_path / "run", recipe), SimpleNamespace(fingerprint=data, beside=None), None, print)

    return of


LARGER = "gallery.train.epochs=2"
SEED = "seed=5"
AUGMENT = "query.augment.flip=0.25"
CASES = {  # key: what it has to tell apart, and what changes nothing of it
    "gallery_key": ([LARGER, SEED, "gallery.embedding_dim=64", "gallery.head.margin=0.3"], [AUGMENT]),
    "views": ([LARGER, SEED, AUGMENT, "query.views=3", "query.mixtures=2"], ["query.loss={csd: 1}"]),
    "supernet_key": (
        [LARGER, SEED, AUGMENT, "query.views=3", "query.mixtures=2", "query.loss={csd: 1}", "query.supernet.lr=0.1",
         "query.space=tiny", "search.budget_mflops=1.5"],
        ["query.train.epochs=4", "search.trials=7", "search.metric=map_full"],
    ),
    "judge_key": (
        [LARGER, SEED, AUGMENT, "search.metric=map_full", "search.calibration_images=64", "search.racing=0.5",
         "search.homogeneous=front", "galleries=[{kind: views, name: v, views: 3, augment: {flip: 1}}]"],
        ["query.train.epochs=4", "search.trials=7", "search.controller=optuna:random"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_key_tells_apart_what_it_is_made_of(stages, name, tmp_path):
    tells, ignores = CASES[name]

    def key(of):
        return lessons.views(of, (), tmp_path, of.gallery_key) if name == "views" else getattr(of, name)

    known = key(stages())
    found = [key(stages(override)) for override in tells]
    assert len({known, *found}) == 1 + len(tells)
    assert key(stages(data="other")) not in {known, *found}
    assert {key(stages(override)) for override in ignores} == {known}


def test_scores_and_costs_are_of_the_latency_table(stages, tmp_path):
    space, files = stages().space, [tmp_path / f"{n}.json" for n in range(2)]
    for file, correction in zip(files, (Correction(), Correction(network_ms=0.5)), strict=True):
        table_of(space, correction=correction).write(file)
    limited = [stages(f"search.latency_table={file}", "search.budget_latency_ms=40") for file in files]
    free = [stages(f"search.latency_table={file}") for file in files]
    assert len({each.scores_key for each in (stages(), *free, *limited)}) == 5
    assert free[0].supernet_key == free[1].supernet_key == stages().supernet_key  # a time that limits nothing
    assert limited[0].supernet_key != limited[1].supernet_key


def test_a_judge_is_of_the_supernets_file(stages):
    run = stages().run
    run.path.mkdir()
    keys = []
    for content in (b"one", b"two"):
        run.supernet.write_bytes(content)
        keys.append(stages().judge_key)
    assert keys[0] != keys[1]


def test_a_finished_network_is_of_how_it_was_finished(stages):
    usual = stages()
    arch = usual.space.extremes()[0]
    how = Finish.by(usual.recipe, arch)
    others = [
        Finish(usual.space.extremes()[1], how.start, how.loss, how.seed),
        Finish(arch, "scratch", how.loss, how.seed),
        Finish(arch, how.start, {"csd": 1.0}, how.seed),
        Finish(arch, how.start, how.loss, 7),
    ]
    keys = [weights_key(usual, each) for each in (how, *others)]
    keys += [weights_key(stages(override), how) for override in ("query.train.epochs=4", "query.train.lr=0.1", AUGMENT)]
    assert len(set(keys)) == len(keys)
    assert weights_key(stages("search.trials=7"), how) == keys[0]
    for beside in "ab":
        usual.splits.beside = SimpleNamespace(fingerprint=beside)
        keys.append(weights_key(usual, how))
    assert len(set(keys)) == len(keys)


def test_options_are_of_their_members(stages):
    train = "train: {epochs: 1, batch_size: 8, lr: 0.01}"
    model = "{{kind: single, name: b, space: resnet_small, arch: smallest, {train}, transform: {{{more}{train}}}}}"
    galleries = "galleries=[" + model + ", {{kind: ensemble, name: e, members: {{resnet: 1, b: {weight}}}}}, {views}]"

    def keys(*overrides, more="", weight=1, views=3, own=train):
        text = galleries.format(
            train=own, more=more, weight=weight, views=f"{{kind: views, name: v, views: {views}, augment: {{flip: 1}}}}"
        )
        all_of = stages(text, *overrides)
        b, e, v = all_of.recipe.galleries
        first, mapped = AnchorStage(all_of), MappedStage(all_of, b)
        return mapped.key, EnsembleStage(all_of, e, {"resnet": first, "b": mapped}).key, ViewsStage(all_of, v).key

    usual = keys()
    for changes, differ in (
        (keys(LARGER), (True, True, True)),  # the anchor, into whose space all are mapped
        (keys(more="seed: 3, "), (True, True, False)),
        (keys(own=train.replace("epochs: 1", "epochs: 2")), (True, True, False)),
        (keys(weight=2), (False, True, False)),
        (keys(views=4), (False, False, True)),
        (keys("search.trials=7"), (False, False, False)),
    ):
        assert tuple(new != old for new, old in zip(changes, usual, strict=True)) == differ
