"""``cmpnas score``, ``matrix`` and ``ls metrics`` on files, and what they say of wrong ones."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from cmpnas.cli.app import main
from cmpnas.retrieval import evaluate_retrieval


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A gallery of 40 items and two encoders' queries, with labels; in the working folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    centres, labels = rng.normal(size=(8, 6)), np.arange(40) % 8
    gallery = centres[labels] + 0.3 * rng.normal(size=(40, 6))
    good, bad = (centres[labels[:24]] + noise * rng.normal(size=(24, 6)) for noise in (0.3, 1.0))
    np.savez("truth.npz", query_labels=labels[:24], gallery_labels=labels)
    for name, rows in (("gallery", gallery), ("good", good), ("bad", bad)):
        np.save(f"{name}.npy", rows.astype(np.float32))
    return good, bad, gallery, labels


LABELS = ["score", "labels", "--truth", "truth.npz", "--query", "good.npy", "--gallery", "gallery.npy"]


def test_labels(files, capsys):
    good, bad, gallery, labels = files
    assert main([*LABELS, "--metric", "map@r", "--against", "bad.npy", "--index", "Flat", "--json"]) == 0
    got = json.loads(capsys.readouterr().out)
    first, second = (evaluate_retrieval(q, gallery, labels[:24], labels, ["map@r"]) for q in (good, bad))
    (line,) = got["results"]
    assert line["value"] == pytest.approx(first["map@r"])
    assert line["interval"] == pytest.approx(first.interval("map@r"))
    assert got["against"]["map@r"]["difference"] == pytest.approx(first["map@r"] - second["map@r"])
    assert got["index"] == {"factory": "Flat", "recall@10": 1.0}
    assert line["tie_share"] == 0
    assert main([*LABELS, "--metric", "map@r", "--against", "bad.npy", "--index", "IVF4,Flat"]) == 0
    text = capsys.readouterr().out
    assert "recall@10 0." in text
    assert "first minus second +" in text
    assert "ties (pessimistic): " in text


def test_an_exact_index_gives_the_exact_scores(files, capsys):
    metrics = [f"--metric={name}" for name in ("map@r", "map_full", "hit@5", "recall@3")]
    values = []
    for extra in ([], ["--index", "Flat"]):
        assert main([*LABELS, *metrics, *extra, "--json"]) == 0
        values.append([line["value"] for line in json.loads(capsys.readouterr().out)["results"]])
    assert values[0] == pytest.approx(values[1])


def test_a_benchmark_by_ids(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gnd = [{"bbx": [0, 0, 1, 1], "easy": [0], "hard": [1], "junk": []}]
    content = {"gnd": gnd, "imlist": ["a", "b", "c"], "qimlist": ["q"]}
    (tmp_path / "gnd.pkl").write_bytes(pickle.dumps(content))
    np.savez("gallery.npz", embeddings=np.eye(3)[[2, 0, 1]], ids=np.array(["c", "a", "b"]))
    np.save("query.npy", np.array([[1.0, 0.5, 0.2]]))
    arguments = ["score", "revisited", "--truth", "gnd.pkl", "--query", "query.npy", "--gallery", "gallery.npz"]
    assert main([*arguments, "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)["results"]
    values = {(line["part"], line["metric"]): line["value"] for line in lines}
    assert values["medium", "map_oxford"] == 1
    assert values["hard", "map_oxford"] == 1  # the easy one is taken out
    assert main(arguments) == 0
    assert "mp@10_oxford" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "oxford", "--truth", "x"], "unknown protocol 'oxford'"),
        ([*LABELS[:4], "--query", "good.npy"], "--gallery is missing; give an npy or npz file"),
        ([*LABELS, "--metric", "mAP"], "unknown metric 'mAP'"),
        ([*LABELS, "--ties", "random"], "'random' is none of pessimistic, stable"),
        ([*LABELS, "--index", "Magic"], "faiss cannot build 'Magic'"),
        ([*LABELS[:4], "--query", "gallery.npy", "--gallery", "gallery.npy"], "holds 40 rows; the benchmark has 24"),
        (["score", "revisited", "--truth", "none.pkl", "--query", "a", "--gallery", "b"], "none.pkl does not exist"),
        (["score", "gldv2", "--truth", "none", "--query", "a", "--gallery", "b"], "does not exist"),
        (["score", "ijb", "--truth", "none", "--query", "a", "--gallery", "b"], "has no ijbc_face_tid_mid"),
        (["score", "oneshot", "--truth", "x", "--metric", "hit@1"], "--metric is for the protocol labels"),
        (["score", "revisited", "--truth", "x", "--ties", "stable"], "--ties is for the protocol labels"),
        (["score", "revisited", "--truth", "x", "--results", "y"], "--results is for the protocol deepfashion2"),
        (
            ["score", "deepfashion2", "--truth", "x", "--results", "y", "--query", "z"],
            "--results holds what was found; give it, or --query and --gallery",
        ),
        (["score", "labels", "--truth", "gallery.npy"], "cannot be read as npz"),
        (["ls", "recipes", "--explain"], "--explain is for metrics"),
    ],
)
def test_mistakes(files, arguments, message, capsys):
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""


def test_metrics_are_explained(capsys):
    assert main(["ls", "metrics", "--explain"]) == 0
    text = capsys.readouterr().out
    assert "map@k/found  = (1/c_k)" in text
    assert "example: 0.7222" in text
    assert main(["ls", "metrics", "--explain", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["map@r"]["example"] == pytest.approx(0.4167, abs=5e-5)


@pytest.fixture
def encoders(tmp_path, monkeypatch):
    """Two encoders of one space and a turned one, as npz files."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    centres, labels = rng.normal(size=(12, 8)), np.arange(60) % 12
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    sides = {
        name: [centres[labels] + noise * rng.normal(size=(60, 8)) for _ in range(2)]
        for name, noise in (("large", 0.4), ("small", 0.8))
    }
    sides["turned"] = [side @ turn for side in sides["small"]]
    for name, (query, gallery) in sides.items():
        np.savez(
            f"{name}.npz",
            query_embeddings=query,
            gallery_embeddings=gallery,
            query_labels=labels,
            gallery_labels=labels,
        )


def test_matrix_of_files(encoders, capsys):
    arguments = [
        "matrix",
        *(f"--{side}={name}.npz" for name in ("large", "small", "turned") for side in ("query", "gallery")),
    ]
    assert main([*arguments, "--json"]) == 0
    got = json.loads(capsys.readouterr().out)
    verdicts = {(row["query"], row["gallery"]): row["verdict"] for row in got["pairs"]}
    assert verdicts["small", "large"] == "compatible"
    assert verdicts["turned", "large"] == "spaces not aligned"
    rows = {(row["query"], row["gallery"]): row for row in got["pairs"]}
    assert rows["small", "large"]["gain"] == pytest.approx(
        rows["small", "large"]["score"] - rows["small", "small"]["score"]
    )
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "M(turned, large)" in text
    assert "60 queries (0 excluded)" in text


def test_two_files_of_one_name_are_not_one_encoder(encoders, tmp_path, capsys):
    (tmp_path / "old").mkdir()
    (tmp_path / "small.npz").rename(tmp_path / "old" / "large.npz")
    assert main(["matrix", "--query", "large.npz", "--gallery", "old/large.npz"]) == 2
    assert "two files are called 'large', which names an encoder" in capsys.readouterr().err
    assert main(["matrix", "--query", "large.npz", "--gallery", "./large.npz"]) == 0
    (tmp_path / "large.npz").rename(tmp_path / "r50[b].npz")
    capsys.readouterr()
    assert main(["matrix", "--query", "r50[b].npz", "--gallery", "r50[b].npz"]) == 0
    assert "M(r50[b], r50[b])" in capsys.readouterr().out


def test_files_of_other_items_are_named(encoders, capsys):
    arrays = dict(np.load("small.npz"))
    np.savez("small.npz", **arrays | {"gallery_labels": arrays["gallery_labels"][::-1]})
    assert main(["matrix", "--query", "large.npz", "--gallery", "large.npz", "--gallery", "small.npz"]) == 2
    assert "small.npz has other gallery_labels than large.npz" in capsys.readouterr().err
    np.savez("small.npz", **arrays | {"query_sources": np.arange(60)})
    assert main(["matrix", "--query", "small.npz", "--gallery", "small.npz"]) == 2
    assert "only one side has sources" in capsys.readouterr().err


def test_pairs_of_other_width_are_told(encoders, capsys):
    arrays = dict(np.load("small.npz"))
    np.savez("wide.npz", **arrays | {"query_embeddings": np.ones((60, 9)) + np.eye(60)[:, :9]})
    arguments = ["matrix", "--query", "small.npz", "--query", "wide.npz", "--gallery", "small.npz"]
    assert main(arguments) == 0
    assert "M(wide, small): embeddings of different width, not paired" in capsys.readouterr().out
