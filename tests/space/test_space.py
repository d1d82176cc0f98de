"""Architectures, space files and their mistakes."""

from __future__ import annotations

import json
import random

import pytest

from cmpnas.cost import Cost
from cmpnas.errors import SpaceError
from cmpnas.space import Block, Layer, SearchSpace, load_space
from cmpnas.space.grow import Declared
from cmpnas.space.spec import check_spec
from tests.conftest import small_spec


def test_unused_choices_do_not_make_another_architecture(small):
    base = {"a.width": 8, "a.depth": 1, "a.block1.kernel": 3, "a.block1.expansion": 1,
            "b.width": 16, "b.depth": 1, "b.block1.expansion": 2}  # fmt: skip
    first, second = small.arch(base), small.arch(base | {"a.block2.kernel": 5, "b.block2.expansion": 4})
    assert first == second
    assert hash(first) == hash(second)
    assert first.id == "w8d1.k3e1-w16d1.e2"


def test_a_decision_of_a_stage_stands_for_those_of_its_blocks(small):
    base = {"a.width": 8, "a.depth": 2, "b.width": 16, "b.depth": 1, "b.expansion": 2}
    blocks = {"a.block1.kernel": 3, "a.block2.kernel": 3, "a.block1.expansion": 1, "a.block2.expansion": 2}
    short = small.arch(base | {"a.kernel": 3, "a.expansion": 2, "a.block1.expansion": 1})
    assert short == small.arch(base | blocks)
    for wrong in ("kernel", "c.kernel", "a.block1.kernal", "a.kernal"):
        with pytest.raises(SpaceError, match=f"unknown decision of space 'small' '{wrong}'"):
            small.arch(base | blocks | {wrong: 3})
    with pytest.raises(SpaceError, match=r"a\.block1\.kernel = 9 is not in space"):
        small.arch(base | {"a.kernel": 9, "a.expansion": 2})


def test_json_round_trip(small):
    for seed in range(20):
        arch = small.sample(random.Random(seed))
        assert small.from_json(json.loads(json.dumps(arch.to_json()))) == arch


def test_ids_are_unique(small):
    archs = {small.sample(random.Random(seed)) for seed in range(300)}
    assert len({arch.id for arch in archs}) == len(archs) > 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a.depth": 3}, r"a\.depth = 3 is not in space 'small'; allowed: 1, 2"),
        ({"a.dpth": 1}, r"unknown decision of space 'small' 'a\.dpth'. Did you mean 'a\.depth'"),
        ({"b.block1.expansion": None}, r"b\.block1\.expansion = None is not in space"),
    ],
)
def test_wrong_choices_name_the_decision(small, change, message):
    arch = small.sample(random.Random(0))
    with pytest.raises(SpaceError, match=message):
        small.arch(dict(arch.choices) | change)


def test_missing_choice_is_named(small):
    choices = dict(small.extremes()[0].choices)
    del choices["b.width"]
    with pytest.raises(SpaceError, match=r"b\.width is missing"):
        small.arch(choices)


def test_architecture_of_another_space_is_refused(small):
    other = load_space("mobile_small")
    with pytest.raises(SpaceError, match="of space 'mobile_small', not 'small'"):
        small.from_json(other.extremes()[0].to_json())
    with pytest.raises(SpaceError, match="of space 'mobile_small', not 'small'"):
        small.cost(other.extremes()[0])


def test_all_mistakes_of_a_file_come_in_one_message():
    stages = [
        {"name": "a", "block": "mbcnv", "width": [8], "depth": [1], "kernel": [3], "expansion": [1]},
        {"name": "b", "block": "mbconv", "width": [12], "depth": [], "kernel": [4, 3.5], "expansion": [1]},
        {"name": "b", "block": "mbconv", "width": 16, "depth": 1, "stride": 2, "kernel": 3, "operator": "shuffle3"},
        {"name": "last", "block": "shuffle", "width": [24], "depth": 1, "operator": "shuffle3", "expansion": 1,
         "separate": "kernel"},
        *({"name": f"s{i}", "block": "basic", "width": 8, "depth": 1, "stride": 2} for i in range(5)),
    ]  # fmt: skip
    with pytest.raises(SpaceError) as caught:
        check_spec(small_spec(stages=stages, colour="red", resolution=[32, 48]), "wrong.yaml")
    message = str(caught.value)
    for part in (
        "wrong.yaml has 15 mistakes", "stages.0.block: unknown block 'mbcnv'. Did you mean 'mbconv'?",
        "stages.1.width: widths must be multiples of 8, not 12", "stages.1.depth",
        "stages.1.kernel.0: kernels must be odd",
        "stages.1.kernel.1", "colour: unknown key", "stages.2.name: two stages are named 'b'",
        "stages.2.expansion: block 'mbconv' needs a list of values for it",
        "stages.2.operator: block 'mbconv' has no such decision", "stages.3.name: a stage must not be named 'last'",
        "stages.3.separate: unknown decision of block 'shuffle' 'kernel'",
        "stages.3.width: a shuffle block of stride 1 keeps its width", "stages: strides run past the 1x1 map",
        "resolution: its largest, 48, must be the size, 32",
    ):  # fmt: skip
        assert part in message, part


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": []}, "stages"),
        ({"stages": "none"}, "stages"),
        ({"stages": [3]}, "stages.0"),
        ({"stem": 4}, "stem"),
        ({"size": "big"}, "size"),
        ({"stages": [small_spec()["stages"][0] | {"width": "wide", "options": 3}]}, "stages.0.width"),  # type: ignore[index]
        ({"stages": [small_spec()["stages"][0] | {"expansion": [1, 1]}]}, "a value stands twice"),  # type: ignore[index]
        ({"stages": [small_spec()["stages"][0] | {"options": {"kernel": [4]}}]}, "'kernel' is a key of the stage"),  # type: ignore[index]
        ({"stages": [small_spec()["stages"][0] | {"options": {"a": [1, 1]}}]}, "a value stands twice"),  # type: ignore[index]
        ({"stages": [small_spec()["stages"][0] | {"options": {1: [2], "a": [3]}}]}, "no such decision"),  # type: ignore[index]
        ({"stages": [small_spec()["stages"][0] | {"block": ":X"}]}, "cannot import ''"),  # type: ignore[index]
        ({"stages": [small_spec()["stages"][0] | {"depth": 10**8}]}, "less than or equal to 200"),  # type: ignore[index]
        ({"last": {"width": 32, "pool": True}}, "last.pool: unknown key"),
    ],
)
def test_malformed_files_are_told_not_crashed_on(changes, message):
    with pytest.raises(SpaceError, match=message):
        check_spec(small_spec(**changes), "wrong.yaml")


def test_a_size_at_which_strides_run_out_is_refused():
    with pytest.raises(SpaceError, match=r"space 'resnet' at 8 px has 1 mistake: stages: strides run past"):
        load_space("resnet", size=8)


def test_resolutions_follow_the_size():
    space = load_space("mobile", size=112)
    assert space.decisions["resolution"] == (80, 96, 112)
    assert load_space("mobile").decisions["resolution"] == (160, 192, 224)
    for size in (60, 100, 300):
        assert load_space("mobile", size=size).decisions["resolution"][-1] == size
    assert load_space("mobile", size=36).decisions["resolution"] == (24, 32, 36)


@pytest.mark.parametrize("change", [{"expansion": [1, 1.2]}, {"se": [0.01, 0.02]}])
def test_values_that_round_to_one_network_are_refused(change):
    stages = [small_spec()["stages"][0] | {"width": 8} | change]  # type: ignore[index]
    with pytest.raises(SpaceError, match=f"a.{next(iter(change))}: .* are the same network after rounding"):
        SearchSpace(Declared(check_spec(small_spec(stages=stages), "rounded")))


def test_options_of_one_cost_and_blocks_that_never_are_may_be():
    stage = {"name": "a", "block": f"{__name__}:WORDS", "width": 8, "depth": 1, "options": {"word": [1, 2]}}
    assert SearchSpace(Declared(check_spec(small_spec(stages=[stage]), "dilated"))).count() == 2
    stages = [
        {"name": "wide", "block": "mbconv", "width": 32, "depth": 1, "kernel": 3, "expansion": 1},
        {"name": "a", "block": "mbconv", "width": 8, "depth": 1, "kernel": 3, "expansion": [0.3, 0.4]},
    ]
    assert SearchSpace(Declared(check_spec(small_spec(stages=stages), "narrow"))).count() == 2
    with pytest.raises(SpaceError, match="are the same network after rounding, from 8 to 8 channels"):
        SearchSpace(Declared(check_spec(small_spec(stages=[stages[0], stages[1] | {"depth": [1, 2]}]), "narrow")))


def test_words_that_no_file_can_be_called_are_refused():
    stage = {"name": "a", "block": f"{__name__}:WORDS", "width": 8, "depth": 1, "options": {"word": ["3/4", "5/4"]}}
    with pytest.raises(SpaceError, match=r"a.block1.word has the value '3/4', and ids are names of files"):
        SearchSpace(Declared(check_spec(small_spec(stages=[stage]), "words")))


def test_values_that_an_id_cannot_tell_apart_are_refused():
    stage = {"name": "a", "block": f"{__name__}:WORDS", "width": 8, "depth": 1,
             "options": {"word": ["alpha", "alter"]}}  # fmt: skip
    with pytest.raises(SpaceError, match=r"a.block1.word look alike"):
        SearchSpace(Declared(check_spec(small_spec(stages=[stage]), "words")))


def no_cost(layer: Layer) -> Cost:
    return Cost()


WORDS = Block(no_cost, "torch.nn:Identity", each=("word",))


def test_unknown_space_is_answered_with_those_there_are():
    with pytest.raises(SpaceError, match=r"unknown space 'mobil'. Did you mean 'mobile'\?.*mobile_small"):
        load_space("mobil")
