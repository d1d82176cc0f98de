"""Training is a function of (seed, step): interrupted anywhere, it ends bit for bit the same."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cmpnas.data.augment import Augment, augment, draws
from cmpnas.data.images import ArrayImages, to_float
from cmpnas.data.items import Items, Steps
from cmpnas.errors import DataError, RunError
from cmpnas.train import checkpoint, loop
from cmpnas.train.device import autocast
from cmpnas.train.loop import Plan, fit

PLAN = Plan(epochs=3, batch_size=8, lr=0.01, ema=0.9)


@pytest.fixture
def items() -> Items:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (40, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return Items(ArrayImages(pixels), np.arange(40) % 5, None, np.arange(40))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 5))


def train(model, items, saved, stop_after=None, damage=None, plan=PLAN, seen=None):
    labels = torch.from_numpy(items.labels)
    done = []

    def loss_at(images, indices, view, step):
        if stop_after is not None and len(done) == stop_after:
            raise KeyboardInterrupt
        done.append(step)
        if seen is not None:
            seen.append([p.detach().clone() for p in model.parameters()])
        return nn.functional.cross_entropy(model(images) if damage is None else model(images) * damage, labels[indices])

    fit("test", model, loss_at, items, plan, augmentation=Augment(flip=0.5, light=0.2), seed=3, saved=saved)
    return done


@pytest.mark.parametrize("stop", [1, 6, 14])
def test_interrupted_equals_uninterrupted(items, tmp_path, monkeypatch, stop):
    monkeypatch.setattr(loop, "_SAVE_EVERY", -1.0)  # after every step
    whole, parts = network(), network()
    train(whole, items, tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        train(parts, items, tmp_path / "parts.pt", stop_after=stop)
    restarted = network()
    done = train(restarted, items, tmp_path / "parts.pt")
    assert done == list(range(stop, 15))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, restarted.state_dict()[name]), name


def test_a_checkpoint_of_something_else_is_refused(items, tmp_path):
    torch.save({"step": 1, "modules": {"x": torch.zeros(1)}, "optimiser": {}}, tmp_path / "other.pt")
    with pytest.raises(RunError, match="checkpoint of another training"):
        train(network(), items, tmp_path / "other.pt")


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04" + b"\0" * 50])
def test_a_damaged_checkpoint_is_one_clear_line(items, tmp_path, content):
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(RunError, match=r"bad\.pt cannot be read as a checkpoint"):
        train(network(), items, tmp_path / "bad.pt")


@pytest.mark.parametrize("state", [{"key": "other"}, {}, [1]])
def test_a_checkpoint_with_another_key_is_refused(tmp_path, state):
    checkpoint.save({"key": "mine", "x": 1}, tmp_path / "a.pt")
    assert checkpoint.load_of("mine", tmp_path / "a.pt")["x"] == 1
    checkpoint.save(state, tmp_path / "a.pt")
    with pytest.raises(RunError, match=r"a\.pt was trained from other data or settings; delete it and use --resume\.$"):
        checkpoint.load_of("mine", tmp_path / "a.pt")
    with pytest.raises(
        RunError,
        match=r"with other data or settings; take the change back, or move its folder elsewhere and train again\.$",
    ):
        checkpoint.load_of("mine", tmp_path / "a.pt", checkpoint.FINISHED)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("mapped", [False, True])
def test_a_checkpoint_runs_nothing(tmp_path, monkeypatch, mapped):
    monkeypatch.chdir(tmp_path)
    torch.save({"key": "mine", "x": Harmful()}, tmp_path / "bad.pt")
    with pytest.raises(RunError, match=r"bad\.pt cannot be read as a checkpoint"):
        checkpoint.load(tmp_path / "bad.pt", mapped=mapped)
    assert not (tmp_path / "harm").exists()


class Unsaveable:
    def __reduce__(self):
        raise RuntimeError("it has no content")


def test_what_cannot_be_saved_is_no_full_disk_and_leaves_the_old_file(tmp_path):
    checkpoint.save({"x": 1}, tmp_path / "a.pt")
    with pytest.raises(RuntimeError, match="it has no content"):
        checkpoint.save({"x": Unsaveable()}, tmp_path / "a.pt")
    assert checkpoint.load(tmp_path / "a.pt") == {"x": 1}


def test_a_loss_that_explodes_stops_the_run(items, tmp_path):
    with pytest.raises(RunError, match="loss of test is nan at step 0; lower its lr"):
        train(network(), items, tmp_path / "x.pt", damage=float("nan"))


def test_steps_visit_every_item_once_an_epoch_and_start_anywhere():
    whole = list(Steps(20, 5, seed=1, start=0, stop=8))
    first, second = (sorted(i for batch in part for i in batch) for part in (whole[:4], whole[4:]))
    assert first == second == list(range(20))
    assert whole[:4] != whole[4:]
    assert list(Steps(20, 5, seed=1, start=3, stop=8)) == whole[3:]
    with pytest.raises(DataError, match="fewer than one batch"):
        Steps(4, 5, seed=1, start=0, stop=1)


@pytest.mark.parametrize(("steps", "rise"), [(100, 10), (40, 4)])
def test_rate_rises_then_falls_to_nothing(steps, rise):
    plan = Plan(epochs=1, batch_size=2, lr=1.0, warmup=0.1)
    rates = [plan.rate(step, steps) for step in range(steps)]
    assert rates[0] == pytest.approx(1 / rise)
    assert max(rates) == rates[rise] == 1.0
    assert rates[-1] < 0.002


@pytest.fixture
def stepped(monkeypatch) -> list[tuple[list[float], float]]:
    """Of each step that an optimiser takes: the rates of its groups, and the norm of the whole gradient."""
    found, step = [], torch.optim.AdamW.step

    def spy(optimiser, *given):
        norms = [p.grad.norm() for group in optimiser.param_groups for p in group["params"]]
        found.append(([group["lr"] for group in optimiser.param_groups], torch.stack(norms).norm().item()))
        return step(optimiser, *given)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    return found


def test_the_optimiser_steps_at_the_plan_s_rate(items, tmp_path, stepped):
    train(plain(), items, tmp_path / "x.pt", plan=replace(PLAN, warmup=0.2))
    rise = [0.01 * step / 3 for step in (1, 2, 3)]
    fall = [0.005 * (1 + math.cos(math.pi * step / 12)) for step in range(12)]
    assert [rates for rates, _ in stepped] == [[pytest.approx(rate)] * 2 for rate in rise + fall]


def test_a_step_is_adamw_s_and_matrices_and_kernels_alone_decay(items, tmp_path):
    model = network()
    train(model, items, tmp_path / "x.pt", plan=Plan(epochs=1, batch_size=40, lr=0.1, weight_decay=0.5))
    for (name, was), now in zip(network().named_parameters(), model.parameters(), strict=True):
        kept = 1 - 0.1 * 0.5 if name in ("0.weight", "3.weight") else 1
        moved = 0.1 * now.grad / (now.grad.abs() + 1e-8)  # at the first step both means are of this gradient alone
        torch.testing.assert_close(now.detach(), kept * was.detach() - moved)


@pytest.mark.parametrize("times", [1e6, 1e-3])
def test_a_gradient_is_five_long_at_most(items, tmp_path, stepped, times):
    def loss_of(model, images):
        return times * model(images).square().mean()

    start, model = plain(), plain()
    loss_of(start, to_float(items.images.read(np.arange(40)))).backward()
    whole = math.hypot(*(p.grad.norm().item() for p in start.parameters()))
    assert (whole > 5) == (times > 1)
    fit("test", model, lambda images, *_: loss_of(model, images), items, Plan(epochs=1, batch_size=40, lr=0.1),
        augmentation=Augment(), seed=3, saved=tmp_path / "x.pt")  # fmt: skip
    assert [norm for _, norm in stepped] == [pytest.approx(min(whole, 5.0), rel=1e-3)]


def test_a_view_is_the_same_in_any_batch_and_keeps_the_range():
    images = torch.rand(6, 3, 16, 16) * 2 - 1
    how = Augment(flip=0.5, zoom=0.2, shift=0.1, turn=10, light=0.3, erase=0.5)
    whole = augment(images, how, draws(torch.arange(6), 7))
    some = torch.tensor([4, 1])
    assert torch.equal(augment(images[some], how, draws(some, 7)), whole[some])
    assert not torch.allclose(augment(images, how, draws(torch.arange(6), 8)), whole)
    assert whole.shape == images.shape
    assert whole.abs().max() <= 1
    assert torch.equal(augment(images, Augment(), draws(torch.arange(6), 0)), images)
    flipped = augment(images, Augment(flip=1.0), draws(torch.arange(6), 0))
    assert torch.allclose(flipped, images.flip(3), atol=1e-5)


def test_draws_are_uniform_and_unrelated():
    numbers = torch.stack([draws(torch.arange(3000), view) for view in range(4)]).numpy()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for column in range(12):
        counts = np.histogram(numbers[..., column], 10, range=(0, 1))[0]
        assert ((counts - 1200) ** 2 / 1200).sum() < 27.9  # chi-square, 9 degrees, p = .001
    columns = np.concatenate([numbers[0], numbers[1]], 1)  # pictures by (draw, view)
    related = np.corrcoef(columns.T) - np.eye(24)
    assert np.abs(related).max() < 0.08
    assert np.abs(np.corrcoef(numbers[0, 1:, 0], numbers[0, :-1, 0])[0, 1]) < 0.08


def test_every_picture_is_shown_in_one_view_an_epoch(items, tmp_path):
    shown = {}

    def loss_at(images, indices, view, step):
        shown.setdefault(step // 5, set()).update((int(i), view) for i in indices)
        return model(images).square().mean()

    model = plain()
    for views, expected in ((0, [0, 1, 2]), (2, [0, 1, 0])):
        shown.clear()
        fit("test", model, loss_at, items, PLAN, augmentation=Augment(), views=views, seed=3,
            saved=tmp_path / f"{views}.pt")  # fmt: skip
        assert [shown[epoch] for epoch in range(3)] == [{(i, view) for i in range(40)} for view in expected]


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))


def test_a_batch_in_parts_has_the_gradient_of_the_whole(items, tmp_path):
    whole, parts = plain(), plain()
    train(whole, items, tmp_path / "whole.pt", plan=replace(PLAN, ema=0))
    done = train(parts, items, tmp_path / "parts.pt", plan=replace(PLAN, ema=0, accumulate=4))
    assert done == [step for step in range(15) for _ in range(4)]
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, parts.state_dict()[name], atol=1e-5), name


def test_the_weights_kept_are_the_running_average(items, tmp_path):
    model, seen = plain(), []
    train(model, items, tmp_path / "ema.pt", seen=seen)
    last = torch.load(tmp_path / "ema.pt", weights_only=True)["modules"]
    steps = [*seen[1:], list(last.values())]  # the weights after each step
    average = steps[0]
    for weights in steps[1:]:
        average = [0.9 * old + 0.1 * new for old, new in zip(average, weights, strict=True)]
    for value, expected in zip(model.parameters(), average, strict=True):
        assert torch.allclose(value, expected, atol=1e-6)
        assert not any(torch.equal(value, other) for other in last.values())


@pytest.mark.parametrize("groups", [1, 4])
def test_precision_is_what_was_asked_for(groups, monkeypatch):
    model = nn.Conv2d(4, 4, 3, groups=groups)
    images = torch.zeros(1, 4, 8, 8)
    for native in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        found = {}
        for precision in ("auto", "fp32", "bf16"):
            with autocast(model, precision):
                found[precision] = model(images).dtype
        dense_and_native = torch.bfloat16 if native and groups == 1 else torch.float32
        assert found == {"auto": dense_and_native, "fp32": torch.float32, "bf16": torch.bfloat16}


@pytest.mark.parametrize("native", [False, True])
def test_a_gpu_that_would_emulate_bf16_takes_fp32(native, monkeypatch):
    monkeypatch.setattr("cmpnas.train.device.device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    monkeypatch.setattr(torch, "autocast", lambda device, dtype, enabled: enabled)
    assert autocast(nn.Linear(2, 2)) is native
