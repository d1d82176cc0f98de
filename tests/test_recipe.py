"""Recipes: every shipped one is well formed, and every mistake of a wrong one is told at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cmpnas.errors import LatencyError, RecipeError
from cmpnas.gallery.single import plan_single
from cmpnas.pipeline.check import dry_run
from cmpnas.pipeline.crisp.search import dry_run_text
from cmpnas.recipe import TextRecipe, check_recipe, list_recipes, load_any_recipe, load_recipe
from cmpnas.resources import find


@pytest.mark.parametrize("name", list_recipes())
def test_shipped_recipes_are_well_formed_and_survive_a_round_trip(name):
    recipe = load_any_recipe(name)
    assert recipe.name == name
    assert check_recipe(yaml.safe_load(recipe.to_yaml()), "copy") == recipe
    opening = find("recipes", name).read_text().splitlines()
    assert opening[0].startswith("# ")
    assert "cmpnas search" in opening[1]


def test_a_bank_is_where_it_was_whatever_folder_a_run_is_gone_on_with_from(tmp_path, monkeypatch):
    plan = "train: {epochs: 1, batch_size: 8, lr: 0.1}"
    source = f"{{kind: single, name: s, space: resnet_small, {plan}}}"
    mixed = f"{{kind: fusion, name: mixed, sources: [{source}], bank: features, training: two_stage, {plan}}}"
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("quickstart", [f"gallery={mixed}", "galleries=[]"])
    assert recipe.gallery.bank == str(tmp_path / "features")
    assert "bank" not in recipe.identity()["gallery"]


@pytest.mark.parametrize("name", list_recipes())
def test_shipped_recipes_pass_a_dry_run(name):
    recipe = load_any_recipe(name)
    plan = dry_run_text(recipe) if isinstance(recipe, TextRecipe) else dry_run(recipe)
    low, high = plan["mflops"]
    assert 0 < low < high
    assert plan["evaluations"] <= plan["architectures"]


def test_recipes_of_accelerators_have_the_papers_gallery_model():
    """ResNet-101: 7.8 GFLOPs at 224 px."""
    for name, mflops in (("deepfashion2", 7_800), ("gldv2", 7_800), ("ijbc", 7_800 / 4)):
        recipe = load_recipe(name)
        space, arch = plan_single(recipe.gallery, recipe.data.size)
        assert space.cost(arch).mflops == pytest.approx(mflops, rel=0.03)
        assert sum(value for decision, value in arch.choices if decision.endswith("depth")) == 3 + 4 + 23 + 3


def test_three_mistakes_are_three_named(tmp_path):
    text = find("recipes", "quickstart").read_text()
    wrong = text.replace("trials: 200", "trails: 200").replace("space: mobile_small", "space: mobile_smal")
    wrong = wrong.replace("regression: 10", "regression: -1")
    (tmp_path / "wrong.yaml").write_text(wrong)
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(tmp_path / "wrong.yaml"))
    message = str(caught.value)
    assert "has 3 mistakes" in message
    assert "search.trails: unknown key, did you mean 'trials'" in message
    assert "unknown space 'mobile_smal'. Did you mean 'mobile_small'?" in message
    assert "query.loss.regression" in message
    assert "-1" in message


def test_two_letters_that_changed_places_are_known():
    with pytest.raises(RecipeError, match=r"data\.lable: unknown key, did you mean 'label'"):
        load_recipe("gldv2", ["data.lable=landmark"])  # it has a 'table' as well


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "gallery.arch=nosuch",
            r"1 mistake: gallery\.arch: input should be 'smallest' or 'largest' \(got 'nosuch'\)\.$",
        ),
        ("data.reader=foldr", r"1 mistake: data: unknown reader 'foldr'\. Did you mean 'folder'\? There are: deepfa"),
    ],
)
def test_what_a_key_may_be_is_told_in_the_recipes_words(override, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("quickstart", [override])


def test_files_are_looked_for_beside_the_recipe_then_in_the_working_folder(tmp_path, monkeypatch):
    beside, here = tmp_path / "beside", tmp_path / "here"
    for folder in (beside, here):
        folder.mkdir()
        for name in ("table.csv", "own.yaml"):
            (folder / name).write_text("x: 1")
    (here / "other.csv").write_text("")
    text = find("recipes", "quickstart").read_text().replace("space: mobile_small", "space: own.yaml")
    (beside / "recipe.yaml").write_text(text.replace("search:\n", "search:\n  latency_table: table.csv\n"))
    monkeypatch.chdir(here)

    def found(*overrides):
        recipe = load_recipe("../beside/recipe.yaml", overrides)
        return Path(recipe.search.latency_table).resolve(), Path(recipe.query.space).resolve()

    assert found() == (beside / "table.csv", beside / "own.yaml")
    assert found("search.latency_table=table.csv") == (here / "table.csv", beside / "own.yaml")
    (beside / "table.csv").unlink()
    assert found() == (here / "table.csv", beside / "own.yaml")
    (here / "table.csv").unlink()
    recipe = load_recipe("../beside/recipe.yaml", ["query.space=mobile_small"])
    with pytest.raises(LatencyError, match=r"cannot read latency table table.csv"):
        recipe.space()


def test_overrides_then_flags():
    recipe = load_recipe(
        "quickstart", ["search.trials=5", "query.loss={regression: 2}"], {"search.trials": 7, "seed": None}
    )
    assert recipe.search.trials == 7
    assert recipe.query.loss == {"regression": 2.0}
    assert recipe.seed == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.trials"], "--set takes key=value"),
        (["serch.trials=3"], "serch: unknown key, did you mean 'search'"),
        (["search.trials=many"], r"search.trials: .*'many'"),
        (["seed.x=1"], "'seed' holds 0, not a section"),
        (["search.metric=mAP"], "unknown metric 'mAP'"),
        (["query.train.epoch=3"], "query.train.epoch: unknown key, did you mean 'epochs'"),
        (["gallery.kind=double"], "gallery: unknown kind .*single"),
        (["search.budget_mflops=-3", "search.budget_params_m=0", "serch=1"], "has 3 mistakes"),
        (["search.budget_mflops=-3"], "a budget of -3 MFLOPs is not a positive number"),
    ],
)
def test_wrong_overrides_are_named(overrides, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("quickstart", overrides)


def test_unknown_recipe_and_unreadable_files(tmp_path):
    with pytest.raises(RecipeError, match=r"unknown recipe 'quikstart'. Did you mean 'quickstart'"):
        load_recipe("quikstart")
    with pytest.raises(RecipeError, match="cannot read"):
        load_recipe(str(tmp_path / "none.yaml"))
    (tmp_path / "bad.yaml").write_text("a: [1,")
    with pytest.raises(RecipeError, match="not valid YAML at line"):
        load_recipe(str(tmp_path / "bad.yaml"))
    (tmp_path / "twice.yaml").write_text("name: a\ndata:\n  size: 3\n  train: {a: 1}\n  size: 4\n")
    with pytest.raises(RecipeError, match=r"not valid YAML at line 5: 'size' is there twice\.$"):
        load_recipe(str(tmp_path / "twice.yaml"))
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(RecipeError, match="holds list, not a mapping"):
        load_recipe(str(tmp_path / "list.yaml"))
