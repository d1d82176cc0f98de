"""n processes learn what one would with the whole batch: gradients, BatchNorm statistics, relations in a batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cmpnas.cli.app import main
from cmpnas.compat import Anchor
from cmpnas.cost import Budget
from cmpnas.data.augment import Augment
from cmpnas.data.images import ArrayImages
from cmpnas.data.items import Items
from cmpnas.distributed import gather, mean, rank, together
from cmpnas.errors import RecipeError, RunError
from cmpnas.gallery.settings import SingleSettings
from cmpnas.gallery.single import train_single
from cmpnas.models.mixer import TransformerMixer
from cmpnas.space import load_space
from cmpnas.train.loop import Plan
from cmpnas.train.mixing import Mixing
from cmpnas.train.supernet import SupernetPlan, train_supernet
from tests.conftest import QUICK

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")
AUGMENT = Augment(flip=0.5, zoom=0.2, light=0.2, erase=0.5)


def test_more_processes_than_gpus_are_told(monkeypatch):
    for name, value in {"RANK": "2", "WORLD_SIZE": "3", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(RunError, match="process 3 of this machine has none of its 2 GPUs"), together():
        pass


def items() -> Items:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (48, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return Items(ArrayImages(pixels), np.arange(48) % 4, None, np.arange(48))


def learn(folder: Path) -> None:
    """A supernet on relational losses, a gallery model, a mixer and a query, a few steps each, all in double precision.

    Single precision leaves noise where BatchNorm cancels a direction, which Adam makes as large as any gradient.
    """
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    own = folder / str(rank())
    generator = torch.Generator().manual_seed(1)
    embeddings, centres = (F.normalize(torch.randn(n, 8, generator=generator)) for n in (48, 4))
    anchor = Anchor(embeddings, torch.arange(48) % 4, centres, "arcface", 8.0, 0.1)
    supernet = train_supernet(
        load_space("tiny", size=16, embedding_dim=8), anchor, {"raml": 1.0, "bct": 0.2, "pkt": 1.0}, items(),
        SupernetPlan(epochs=1, batch_size=16, lr=1e-2, sampling="sandwich", paths=3, in_place=1.0, ema=0.5),
        budget=Budget(), augmentation=AUGMENT, seed=3, saved=folder / "supernet",
    )  # fmt: skip
    settings = SingleSettings(
        kind="single", name="g", space="resnet_small", arch="smallest", embedding_dim=8, augment=AUGMENT,
        train=Plan(epochs=1, batch_size=16, lr=1e-3, precision="fp32", accumulate=2),
    )  # fmt: skip
    train_single(settings, items(), 16, folder / "gallery", "key", seed=0)
    torch.save(supernet.state_dict(), f"{own}.pt")
    features = [torch.randn(48, 2, 5, generator=generator), torch.randn(48, 1, 3, generator=generator)]
    start = Anchor(torch.empty(0, 8), torch.arange(48) % 5 - 1, centres, "arcface", 8.0, 0.1)  # some have no label
    mixer = TransformerMixer([(2, 5), (1, 3)], 8, layers=1, heads=2, expansion=2)
    mixing = Mixing(mixer, lambda rows: [part[rows] for part in features], start, 0.9)
    joint = train_supernet(
        load_space("tiny", size=16, embedding_dim=8), start, {"influence": 1.0, "raml": 1.0}, items(),
        SupernetPlan(epochs=1, batch_size=16, lr=1e-2), budget=Budget(), augmentation=AUGMENT, seed=1,
        saved=folder / "joint", mixing=mixing,
    )  # fmt: skip
    torch.save({**joint.state_dict(), **mixing.state_dict()}, f"{own}.joint.pt")


def work(number: int, processes: int, port: int, folder: str) -> None:
    os.environ |= {"RANK": str(number), "WORLD_SIZE": str(processes)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with together():
        learn(Path(folder))
        rows = torch.full((2, 3), float(number), requires_grad=True)
        whole = gather(rows)
        (whole.sum(1) * torch.arange(len(whole))).sum().backward()
        apart = mean(rows).sum().item()
        torch.save((whole.detach(), rows.grad, apart), f"{folder}/gathered{number}.pt")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def together_and_alone(tmp_path_factory) -> tuple[Path, Path]:
    two, one = tmp_path_factory.mktemp("two"), tmp_path_factory.mktemp("one")
    for processes, folder in ((2, two), (1, one)):
        torch.multiprocessing.spawn(work, (processes, free_port(), str(folder)), nprocs=processes)
    return two, one


def close(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.allclose(value.float(), second[name].float(), atol=1e-5), name


def test_two_processes_train_the_supernet_that_one_does_with_the_double_batch(together_and_alone):
    two, one = together_and_alone
    alone = torch.load(one / "0.pt", weights_only=True)
    for number in (0, 1):
        close(torch.load(two / f"{number}.pt", weights_only=True), alone)


def test_two_processes_train_the_gallery_model_that_one_does_with_the_double_batch(together_and_alone):
    both, alone = (torch.load(run / "gallery" / "model.pt", weights_only=True) for run in together_and_alone)
    close(both["network"], alone["network"])  # running statistics too
    close({"classifier": both["classifier"]}, {"classifier": alone["classifier"]})


def test_two_processes_train_the_mixer_and_query_that_one_does_with_the_double_batch(together_and_alone):
    two, one = together_and_alone
    alone = torch.load(one / "0.joint.pt", weights_only=True)
    for number in (0, 1):
        close(torch.load(two / f"{number}.joint.pt", weights_only=True), alone)


def test_rows_are_gathered_in_order_and_gradients_find_their_own(together_and_alone):
    two, _ = together_and_alone
    for number in (0, 1):
        whole, gradient, apart = torch.load(two / f"gathered{number}.pt", weights_only=True)
        assert whole[:, 0].tolist() == [0, 0, 1, 1]
        # Each process's loss is the whole batch's, so own rows hear of it twice; averaging halves it again.
        assert gradient[:, 0].tolist() == [[0, 2], [4, 6]][number]
        assert apart == 3.0


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    settings = SingleSettings(
        kind="single", name="g", space="resnet_small", arch="smallest", train=Plan(epochs=1, batch_size=16, lr=1e-3)
    )
    with pytest.raises(RecipeError, match="batch_size 16 cannot be cut into equal shares for 3 processes"):
        train_single(settings, items(), 16, tmp_path, "key", seed=0)


def test_torchrun_searches_and_trains_once_and_finds_its_own_work_again(tmp_path):
    """Both processes train, one of them searches, speaks and writes; nothing waits for one that has left."""
    run, environment = tmp_path / "run", {**os.environ, "OMP_NUM_THREADS": "1"}
    options = (
        "galleries=[{kind: single, name: other, space: resnet_small, arch: smallest, embedding_dim: 16, "
        "train: {epochs: 1, batch_size: 16, lr: 0.001}, "
        "transform: {kind: linear, train: {epochs: 1, batch_size: 16, lr: 0.001}}}, "
        "{kind: ensemble, name: both, members: [resnet, other]}]"
    )
    overrides = [part for override in (*QUICK, options) for part in ("--set", override)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    search, train = ["search", "--run", str(run), *overrides], ["train", str(run), "--pick", "cheapest"]
    for command in (search, [*search, "--resume", "--workers", "2"], train, train):
        if "search" in command:  # the second time as if killed while it indexed
            for name in ("front.json", "records.jsonl", "gallery/other/mapped/index.faiss"):
                (run / name).unlink(missing_ok=True)
        done = subprocess.run(
            [*launch, "-m", "--", "cmpnas", *command], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("next:") == 1
    assert len((run / "records.jsonl").read_text().splitlines()) == 8
    assert len(list(run.glob("trained/*/network.pt"))) == 1
    assert not list(run.rglob("*checkpoint*"))


def test_other_commands_are_of_one_process(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["evaluate", "somewhere"]) == 2
    assert "search and train work in several processes; start this command without torchrun" in capsys.readouterr().err


def test_texts_are_of_one_process(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["search", "--recipe", "shop_text", "--run", str(tmp_path / "run")]) == 2
    assert "text recipes train in one process; start this command without torchrun" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
