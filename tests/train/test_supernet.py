"""Which paths learn, what they follow, and what a recipe may ask of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cmpnas.compat import LOSSES, Anchor
from cmpnas.compat.regression import Regression
from cmpnas.cost import Budget
from cmpnas.data.augment import Augment
from cmpnas.data.images import ArrayImages
from cmpnas.data.items import Items
from cmpnas.errors import RecipeError
from cmpnas.gallery.base import embed_views
from cmpnas.gallery.precomputed import PrecomputedGallery
from cmpnas.gallery.settings import PrecomputedSettings
from cmpnas.models.supernet import Supernet
from cmpnas.recipe import load_recipe
from cmpnas.space import SearchSpace, load_space
from cmpnas.train.loop import Plan
from cmpnas.train.network import train_network
from cmpnas.train.paths import paths_at
from cmpnas.train.supernet import SupernetPlan, train_supernet
from tests.space.test_timed import table_of

BUDGETS = [Budget(mflops=0.79), Budget(params_m=0.03), Budget(latency_ms=3.4)]


@pytest.fixture(scope="module")
def timed() -> SearchSpace:
    """Of its 913 networks about half are within the first two budgets, and a tenth within the last."""
    space = load_space("tiny", size=32)
    return space.timed(table_of(space))


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_a_sandwich_is_largest_smallest_and_uniform_ones_all_within_the_budget(timed, budget):
    smallest = timed.extremes()[0]
    at = paths_at(timed, budget, "sandwich", steps=50, paths=4, seed=0)
    steps = [at(step) for step in range(50)]
    costs = [[timed.cost(arch) for arch in step] for step in steps]
    assert all(budget.allows(cost) for step in costs for cost in step)
    fits = budget.allows(timed.cost(smallest))
    assert fits == (budget.latency_ms is None)  # the smallest of all is not the fastest
    assert {step[1] for step in steps} == {smallest if fits else timed.nearest(dict(smallest.choices), budget)}
    assert all(step[0].macs == max(cost.macs for cost in step) for step in costs)
    assert len({arch.id for step in steps for arch in step[2:]}) > 50
    assert paths_at(timed, budget, "sandwich", steps=50, paths=4, seed=0)(7) == at(7)


@pytest.mark.parametrize("how", ["uniform", "cost"])
@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_drawn_paths_are_within_the_budget_and_follow_the_seed(timed, budget, how):
    drawn = []
    for seed in (0, 0, 1):
        at = paths_at(timed, budget, how, steps=20, paths=2, seed=seed)
        drawn.append([arch for step in range(20) for arch in at(step)])
    assert all(budget.allows(timed.cost(arch)) for archs in drawn for arch in archs)
    assert drawn[0] == drawn[1] != drawn[2]


def test_sampling_by_cost_trains_the_cheap_as_often_as_the_dear():
    space = load_space("mobile_small", size=32)
    low, high = (space.cost(arch).mflops for arch in space.extremes())
    shares = {}
    for how in ("uniform", "cost"):
        at = paths_at(space, Budget(), how, steps=600, paths=1, seed=1)
        costs = np.log([space.cost(at(step)[0]).mflops for step in range(600)])
        shares[how] = np.histogram(costs, 4, range=(np.log(low), np.log(high)))[0] / 600
    assert shares["uniform"].min() < 0.02
    assert shares["cost"].min() > 0.15


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": "sandwich", "paths": 2}, "a sandwich has 3 paths or more"),
        ({"in_place": 1.0, "paths": 3}, "in_place needs the largest path in each step"),
        ({"sampling": "best"}, "supernet.sampling"),
        ({"ema": 1.0}, "supernet.ema"),
        ({"accumulate": 0}, "supernet.accumulate"),
        ({"precision": "fp16"}, "supernet.precision"),
    ],
)
def test_plans_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("quickstart", [f"query.supernet.{key}={value}" for key, value in changes.items()])


def items(n: int = 32) -> Items:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (n, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return Items(ArrayImages(pixels), np.arange(n) % 4, None, np.arange(n))


def anchor(n: int = 32, **changes) -> Anchor:
    generator = torch.Generator().manual_seed(1)
    embeddings, centres = (F.normalize(torch.randn(rows, 8, generator=generator)) for rows in (n, 4))
    return Anchor(embeddings, torch.arange(n) % 4, centres, "arcface", 8.0, 0.1, **changes)


def test_in_place_distillation_pulls_the_others_to_the_largest(tmp_path):
    """Without any other lesson than the largest path, which learns nothing, the smallest comes nearer to it."""
    space = load_space("tiny", size=16, embedding_dim=8)
    smallest, largest = space.extremes()
    images = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    near = {}
    for weight in (0.0, 20.0):
        plan = SupernetPlan(epochs=12, batch_size=16, lr=5e-3, sampling="sandwich", paths=3, in_place=weight)
        supernet = train_supernet(
            space, anchor(), {"regression": 1e-6}, items(), plan,
            budget=Budget(), augmentation=Augment(), seed=0, saved=tmp_path / f"{weight}.pt",
        )  # fmt: skip
        with torch.no_grad():
            near[weight] = F.cosine_similarity(supernet(images, smallest), supernet(images, largest)).mean().item()
    assert near[20.0] > near[0.0] + 0.2


def test_in_place_distillation_never_pulls_the_largest_to_the_others(tmp_path, monkeypatch):
    space, forward = load_space("tiny", size=16, embedding_dim=8), Supernet.forward
    given, pulls = [], []

    def spy(supernet, images, arch):
        given.append(forward(supernet, images, arch))
        given[-1].retain_grad()
        return given[-1]

    monkeypatch.setattr(Supernet, "forward", spy)
    for weight in (0.0, 20.0):
        given.clear()
        plan = SupernetPlan(1, 8, 1e-3, precision="fp32", sampling="sandwich", paths=3, in_place=weight)
        train_supernet(
            space, anchor(8), {"regression": 1.0}, items(8), plan,
            budget=Budget(), augmentation=Augment(), seed=0, saved=tmp_path / f"{weight}.pt",
        )  # fmt: skip
        pulls.append([output.grad for output in given])
    alone, together = pulls
    assert len(alone) == len(together) == 3
    torch.testing.assert_close(together[0], alone[0])
    assert all((b - a).norm() > a.norm() for a, b in zip(alone[1:], together[1:], strict=True))


def test_a_network_is_told_what_the_gallery_sees_in_the_very_view_it_is_shown(tmp_path):
    data, how = items(), Augment(light=0.9, flip=0.5)
    path = tmp_path / "views.npy"
    embed_views(Colours(), data, how, 3, path)
    targets = np.load(path, mmap_mode="r")
    assert targets.shape == (32, 3, 8)
    assert targets.dtype == np.float16

    class Spy(nn.Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            shown.append(Colours().encoder(images))
            return super().forward(images.mean((2, 3)))

    class Told(Regression):
        def forward(self, batch):
            told.append(batch.gallery)
            return super().forward(batch)

    shown, told = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(LOSSES, "regression", Told)
        train_network(
            Spy(3, 8), anchor(views=(targets,)), {"regression": 1.0}, data,
            Plan(epochs=4, batch_size=8, lr=1e-3, precision="fp32"),
            augmentation=how, seed=0, saved=tmp_path / "network.pt",
        )  # fmt: skip
    assert len(shown) == len(told) == 16
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(shown, told, strict=True))
    assert not torch.allclose(shown[0], shown[5], atol=1e-2)


class Colours:
    """A gallery model that sees mean colours."""

    embedding_dim = 8

    def encoder(self, images: torch.Tensor) -> torch.Tensor:
        return F.normalize(images.mean((2, 3)) @ torch.eye(3, 8) + 0.1)


def test_views_need_a_model(tmp_path):
    settings = PrecomputedSettings(kind="precomputed", name="ours", file="x.npz", mflops=1)
    option = PrecomputedGallery(settings, np.eye(8, dtype=np.float32), None)
    with pytest.raises(RecipeError, match="gallery 'ours' is embeddings without a model"):
        embed_views(option, items(), Augment(), 2, tmp_path / "views.npy")


def test_a_plan_is_checked_as_part_of_a_recipe_and_alone():
    recipe = load_recipe("quickstart", ["query.supernet.sampling=sandwich", "query.supernet.paths=3"])
    assert recipe.query.supernet == SupernetPlan(epochs=5, batch_size=64, lr=0.005, sampling="sandwich", paths=3)
