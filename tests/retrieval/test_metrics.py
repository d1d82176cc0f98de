"""Metrics against naive loops, worked numbers and sklearn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from cmpnas.errors import CmpnasError, DataError
from cmpnas.retrieval import evaluate_retrieval, evaluate_scores, ranking
from cmpnas.retrieval.evaluate import score as score_of
from cmpnas.retrieval.metrics import explain, get_metric
from cmpnas.retrieval.relevance import Neighbours, Relevance
from cmpnas.retrieval.similarity import Given, Retrieved

METRICS = (
    "hit@1", "hit@3", "map@r", "map_full", "r_precision", "map_oxford", "recall@5", "precision@5", "mrr@4", "ndcg@6",
    "map@5/R", "map@5/min", "map@5/found", "mp@5_oxford",
)  # fmt: skip


def naive(scores, q_labels, g_labels, exclude=None, ties="pessimistic"):
    """Every metric by loops over sorted lists."""
    found = {name: [] for name in METRICS}
    for i, row in enumerate(scores):
        items = []
        for j, score in enumerate(row):
            if exclude is not None and exclude[0][i] == exclude[1][j]:
                continue
            relevant = q_labels[i] == g_labels[j]
            items.append((-score, relevant if ties == "pessimistic" else j, relevant))
        items.sort(key=lambda item: item[:2])
        relevant = [bool(flag) for _, _, flag in items]
        total = sum(relevant)
        if not total:
            continue
        for name, value in by_loops(relevant, total).items():
            found[name].append(value)
    return found


def cosines(query, gallery):
    return query @ gallery.T / np.linalg.norm(query, axis=1)[:, None] / np.linalg.norm(gallery, axis=1)


def by_loops(relevant: list[bool], total: int) -> dict[str, float]:
    """The definitions as the reference has them, over a list of flags in rank order."""
    precision = [sum(relevant[: n + 1]) / (n + 1) for n in range(len(relevant))]
    at = [n for n, flag in enumerate(relevant) if flag]  # 0-based ranks of the relevant
    first5 = sum(precision[n] for n in at if n < 5)
    last = min(at[-1] + 1, 5)
    ideal = sum(1 / np.log2(n + 2) for n in range(min(6, total)))
    oxford = 0.0
    for j, n in enumerate(at):
        oxford += ((1.0 if n == 0 else j / n) + (j + 1) / (n + 1)) / 2
    return {
        "hit@1": float(any(relevant[:1])),
        "hit@3": float(any(relevant[:3])),
        "map_full": sum(precision[n] for n in at) / total,
        "map@r": sum(precision[n] for n in at if n < total) / total,
        "r_precision": sum(relevant[:total]) / total,
        "map_oxford": oxford / total,
        "recall@5": sum(relevant[:5]) / total,
        "precision@5": sum(relevant[:5]) / 5,
        "mrr@4": 1 / (at[0] + 1) if at[0] < 4 else 0.0,
        "ndcg@6": sum(1 / np.log2(n + 2) for n in at if n < 6) / ideal,
        "map@5/R": first5 / total,
        "map@5/min": first5 / min(5, total),
        "map@5/found": first5 / sum(relevant[:5]) if any(relevant[:5]) else 0.0,
        "mp@5_oxford": sum(relevant[:last]) / last,
    }


def tied(rng, n, d):
    """Unit vectors along the axes: every cosine is exactly 0 or 1."""
    return np.eye(d)[rng.integers(d, size=n)]


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request, monkeypatch):
    """Everything at once, or five gallery items and a few queries at a time."""
    if request.param == "many blocks":
        monkeypatch.setattr(ranking, "_GALLERY_AT_ONCE", 5)
        monkeypatch.setattr(ranking, "_BLOCK", 20)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("draw", [tied, lambda rng, n, d: rng.normal(size=(n, d))])
@pytest.mark.parametrize("excluding", [False, True])
@pytest.mark.parametrize("ties", ["pessimistic", "stable"])
def test_every_metric_equals_a_naive_loop(seed, draw, excluding, ties, blocks):
    rng = np.random.default_rng(seed)
    query, gallery = draw(rng, 17, 4), draw(rng, 29, 4)
    q_labels, g_labels = rng.integers(8, size=17), rng.choice([1, 2, 4, 5], 29)  # 0, 3, 6 and 7 have no relevant item
    exclude = (rng.integers(4, size=17), rng.integers(4, size=29)) if excluding else None
    scores = evaluate_retrieval(query, gallery, q_labels, g_labels, METRICS, exclude, ties=ties)
    expected = naive(cosines(query, gallery), q_labels, g_labels, exclude, ties)
    for name in METRICS:
        assert scores.per_query(name) == pytest.approx(expected[name], abs=1e-12)
        alone = evaluate_retrieval(query, gallery, q_labels, g_labels, [name], exclude, ties=ties)
        assert alone.per_query(name) == pytest.approx(expected[name], abs=1e-12), "its depth alone is enough"
    assert scores.n_queries + scores.n_excluded == 17
    assert scores.n_queries == len(expected["hit@1"])


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("ties", ["pessimistic", "stable"])
def test_tables_of_scores_of_any_type_equal_a_naive_loop(dtype, ties, blocks):
    rng = np.random.default_rng(3)
    scores = rng.integers(-6, 6, (17, 29)).astype(dtype)
    if dtype().itemsize == 8:
        scores = (scores + 2**40).astype(dtype)  # equal in float32
    q_labels, g_labels = rng.integers(6, size=17), rng.integers(5, size=29)
    got = evaluate_scores(scores, q_labels, g_labels, METRICS, ties=ties)
    expected = naive(scores.astype(float), q_labels, g_labels, None, ties)
    for name in METRICS:
        assert got.per_query(name) == pytest.approx(expected[name], abs=1e-12)


@pytest.mark.parametrize("ties", ["pessimistic", "stable"])
def test_what_an_index_did_not_find_comes_last_whatever_decides_ties(ties, blocks):
    """Nobody's place in the gallery is a merit: as if all that is relevant and not found stood behind the rest."""
    rng = np.random.default_rng(5)
    q_labels, g_labels = rng.integers(6, size=17), rng.integers(6, size=29)
    scores = rng.permuted(np.tile(np.arange(29.0), (17, 1)), axis=1)
    order = np.argsort(-scores, axis=1)[:, :7]
    got = score_of(
        Retrieved(lambda q: (np.take_along_axis(scores, order, 1).astype(np.float32)[q], order[q]), (17, 29)),
        Relevance.of_labels(q_labels, g_labels, None, 17, 29), METRICS, ties=ties,
    )  # fmt: skip
    least = np.where(q_labels[:, None] == g_labels, -2.0, -1.0)
    least[np.arange(17)[:, None], order] = np.take_along_axis(scores, order, 1)
    expected = naive(least, q_labels, g_labels)
    for name in METRICS:
        assert got.per_query(name) == pytest.approx(expected[name], abs=1e-12)


@pytest.mark.parametrize("excluding", [False, True])
def test_chance_is_what_random_embeddings_reach(excluding):
    rng = np.random.default_rng(2)
    q_labels, g_labels = rng.integers(8, size=40), rng.choice([1, 2, 2, 2, 4], 50)
    exclude = (rng.integers(5, size=40), rng.integers(5, size=50)) if excluding else None
    reached = [
        evaluate_scores(rng.random((40, 50)), q_labels, g_labels, ["hit@1"], exclude)["hit@1"] for _ in range(2000)
    ]
    expected = Relevance.of_labels(q_labels, g_labels, exclude, 40, 50).chance
    assert np.mean(reached) == pytest.approx(expected, abs=4 * np.std(reached) / 2000**0.5)


def test_share_of_ties_is_told(blocks):
    scores = np.array([[3, 2, 2, 1], [4, 3, 2, 1]])  # the second and third of the first query are equal
    got = evaluate_scores(scores, np.array([1, 1]), np.array([1, 1, 0, 0]), ["map_full"])
    assert got.tie_share == 1 / 4
    assert evaluate_scores(scores, np.array([1, 1]), np.array([1, 1, 0, 0]), ["hit@1"]).tie_share == 0


@pytest.mark.parametrize("ties", ["pessimistic", "stable"])
def test_what_an_index_did_not_find_is_no_tie(ties, blocks):
    """Two of four items are found, one right and one not; of the others one is right."""
    found = np.array([[0.9, 0.8]], np.float32), np.array([[0, 3]])
    relevance = Relevance.of_labels(np.array([1]), np.array([1, 1, 0, 0]), None, 1, 4)
    got = score_of(Retrieved(lambda queries: found, (1, 4)), relevance, ["map_full"], ties=ties)
    assert got.tie_share == 0
    assert got["map_full"] == pytest.approx((1 + 2 / 4) / 2)


def test_a_row_that_a_list_names_twice_counts_once():
    lists = Neighbours.of_lists([[2, 0, 2], [], [3, 3]], 4)
    assert lists.counts.tolist() == [2, 0, 1]
    assert [sorted(set(row) - {-1}) for row in lists.padded(np.arange(3)).tolist()] == [[0, 2], [], [3]]
    got = score_of(Given(np.array([[4.0, 3, 2, 1]])), Relevance(Neighbours.of_lists([[2, 0, 2]], 4)), ["map_full"])
    assert got["map_full"] == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("wrong", [-2, -1, 4])
def test_lists_name_rows_of_the_gallery(wrong):
    with pytest.raises(DataError, match=f"names gallery item {wrong}; there are 4, counted from 0"):
        Neighbours.of_lists([[0], [3, wrong]], 4)


def test_queries_without_relevant_items_are_left_out_or_zero(blocks):
    scores = np.array([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0]])
    labels = np.array([0, 7, 1]), np.array([0, 1])
    left_out = evaluate_scores(scores, *labels, ["hit@1"])
    assert (left_out["hit@1"], left_out.n_queries, left_out.n_excluded) == (0.5, 2, 1)
    assert left_out.counted.tolist() == [True, False, True]
    assert left_out.per_query("hit@1").tolist() == [1, 0]
    zero = evaluate_scores(scores, *labels, ["hit@1"], empty="zero")
    assert (zero["hit@1"], zero.n_queries, zero.n_excluded) == (1 / 3, 3, 0)


def test_one_item_and_a_depth_beyond_the_gallery():
    scores = evaluate_retrieval(np.ones((1, 2)), np.ones((1, 2)), np.array([5]), np.array([5]), METRICS)
    for name in METRICS:
        assert scores[name] == (0.2 if name == "precision@5" else 1.0)


def test_embeddings_may_be_memory_maps_of_any_type_and_layout(tmp_path, blocks):
    rng = np.random.default_rng(0)
    query, gallery, labels = rng.normal(size=(9, 6)), rng.normal(size=(40, 6)), rng.integers(3, size=40)
    expected = evaluate_retrieval(query, gallery, labels[:9], labels, METRICS)
    np.save(tmp_path / "gallery.npy", gallery.astype(np.float32))
    saved = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    strided = np.asfortranarray(np.repeat(query, 2, axis=0))[::2]
    got = evaluate_retrieval(strided, saved, labels[:9], labels, METRICS)
    for name in METRICS:
        assert got.per_query(name) == pytest.approx(expected.per_query(name))


WORKED = {"map@10/R": 0.5417, "map@10/min": 0.5417, "map@10/found": 0.7222, "map@r": 0.4167, "map_oxford": 0.50833}


def test_worked_example():
    """rel = 1010010000, R = 4, the last relevant item far behind: four public meanings of "mAP"."""
    relevance = np.array([1, 0, 1, 0, 0, 1, 0, 0, 0, 0] + [0] * 40_000 + [1])
    angle = np.linspace(0.1, 1.5, len(relevance))
    gallery = np.stack([np.cos(angle), np.sin(angle)], 1)
    scores = evaluate_retrieval(
        np.array([[1.0, 0.0]]), gallery, np.array([1]), relevance, [*WORKED, "r_precision", "hit@1"]
    )
    for name, value in WORKED.items():
        assert scores[name] == pytest.approx(value, abs=5e-5), name
    assert scores["r_precision"] == 0.5
    assert scores["hit@1"] == 1.0
    shown = {name: entry["example"] for name, entry in explain().items()}
    assert [shown[name] for name in ("map@k/R", "map@k/found", "map@r", "map_oxford")] == pytest.approx(
        [0.5417, 0.7222, 0.4167, 0.5083], abs=5e-5
    )


def test_map_full_equals_sklearn():
    rng = np.random.default_rng(0)
    query, gallery = rng.normal(size=(30, 8)), rng.normal(size=(80, 8))
    q_labels, g_labels = rng.integers(4, size=30), rng.integers(4, size=80)
    got = evaluate_retrieval(query, gallery, q_labels, g_labels, ["map_full"]).per_query("map_full")
    unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    expected = [average_precision_score(g_labels == y, unit @ q) for q, y in zip(query, q_labels, strict=True)]
    assert got == pytest.approx(expected, abs=1e-6)


def test_equals_pytorch_metric_learning_where_definitions_agree():
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    rng = np.random.default_rng(5)
    q_labels, g_labels = rng.integers(12, size=40), rng.integers(10, size=150)  # some queries find nothing
    centres = rng.normal(size=(12, 8))
    query, gallery = (centres[y] + rng.normal(size=(len(y), 8)) for y in (q_labels, g_labels))
    unit = [torch.from_numpy(side / np.linalg.norm(side, axis=1, keepdims=True)) for side in (query, gallery)]
    labels = torch.from_numpy(q_labels), torch.from_numpy(g_labels)

    def theirs(k, names):
        found = AccuracyCalculator(include=names, k=k).get_accuracy(unit[0], labels[0], unit[1], labels[1])
        return [found[name] for name in names]

    scores = evaluate_retrieval(
        query, gallery, q_labels, g_labels, ["hit@1", "r_precision", "map@r", "map_full", "map@10/R", "mrr@150"]
    )
    assert 0 < scores.n_excluded < 40
    everything = ("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_average_precision")
    ours = [scores[name] for name in ("hit@1", "r_precision", "map@r", "map_full")]
    assert theirs(None, everything) == pytest.approx(ours)
    assert theirs(10, ("mean_average_precision",)) == pytest.approx([scores["map@10/R"]])
    assert theirs(None, ("precision_at_1", "mean_reciprocal_rank"))[1] == pytest.approx(scores["mrr@150"])


def test_all_tied_scores_are_pessimistic():
    ones = np.ones((4, 3))
    scores = evaluate_retrieval(ones[:1], ones, np.array([1]), np.array([1, 0, 0, 0]), ["hit@1", "map_full"])
    assert scores["hit@1"] == 0
    assert scores["map_full"] == 0.25


def test_large_and_text_labels_stay_apart():
    eye = np.eye(2)
    big = np.array([2**53, 2**53 + 1])
    assert evaluate_retrieval(eye, eye, big, big, ["hit@1"])["hit@1"] == 1
    assert evaluate_retrieval(eye, eye, big, big[::-1], ["hit@1"])["hit@1"] == 0
    names = np.array(["mug", "bag"])
    assert evaluate_retrieval(eye, eye, names, names, ["hit@1"])["hit@1"] == 1


def test_order_of_the_gallery_does_not_matter():
    rng = np.random.default_rng(1)
    query, gallery, labels = rng.normal(size=(9, 5)), rng.normal(size=(40, 5)), rng.integers(3, size=40)
    mixed = rng.permutation(40)
    first = evaluate_retrieval(query, gallery, labels[:9], labels, METRICS)
    second = evaluate_retrieval(query, gallery[mixed], labels[:9], labels[mixed], METRICS)
    for name in METRICS:
        assert first.per_query(name) == pytest.approx(second.per_query(name))


def test_lists_and_tensors_are_taken():
    import torch

    scores = evaluate_retrieval([[1.0, 0.0]], torch.eye(2), [1], [1, 0], ["hit@1"])
    assert scores["hit@1"] == 1
    assert evaluate_scores([[1, 2]], ["a"], ["b", "a"], ["hit@1"])["hit@1"] == 1


def test_equal_vectors_are_ties_wherever_they_stand(monkeypatch):
    """Also in a last block of a few columns, which a matrix product may compute by other instructions."""
    monkeypatch.setattr(ranking, "_GALLERY_AT_ONCE", 4096)
    rng = np.random.default_rng(0)
    for rest in (1, 2, 5, 9):
        gallery = rng.normal(size=(4096 + rest, 128))
        gallery[-1] = gallery[0]
        labels = np.arange(len(gallery))
        scores = evaluate_retrieval(rng.normal(size=(40, 128)), gallery, np.zeros(40, int), labels, ["hit@1"])
        assert scores.tie_share == 1
        assert evaluate_scores(np.ones((1, 3)), [0], [0, 1, 2], ["hit@1"])["hit@1"] == 0


def test_scores_that_are_not_finite_are_named():
    with pytest.raises(DataError, match="scores hold NaN or infinity, first for query 1"):
        evaluate_scores(np.array([[1.0, 2.0], [np.nan, 1.0]]), np.arange(2), np.arange(2), ["hit@1"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": np.full((2, 3), np.nan)}, "query embeddings hold NaN or infinity, first in row 0"),
        ({"gallery": np.zeros((4, 3))}, "zero vector, first in row 0"),
        ({"gallery": np.ones((4, 5))}, "query embeddings have 3 dimensions, gallery embeddings 5"),
        ({"gallery": np.ones((0, 3))}, "not a matrix with at least one"),
        ({"query_labels": np.arange(3)}, r"2 query items but query labels of shape \(3,\)"),
        ({"query_labels": np.array([8, 9])}, "no query has a relevant gallery item"),
        ({"query_labels": np.array(["a", "b"])}, "query labels are <U1, gallery labels int64; give both alike"),
        ({"query_labels": np.array([0.5, 1.0])}, "query labels are float64; give integers or text"),
        ({"query": np.array([["a", "b", "c"]] * 2)}, "query embeddings are <U1, not numbers"),
        ({"query": np.array([[None] * 3] * 2)}, "query embeddings are object, not numbers"),
        ({"query": [[1.0, 2.0, 3.0], [1.0]]}, "query embeddings cannot be read as an array"),
        ({"query": np.full((2, 3), 1e300)}, "hold NaN or infinity"),
        ({"query_labels": np.array([2**64 - 1, 0], np.uint64)}, "numbers above 2.63 - 1 must be given as text"),
        ({"query_labels": np.array([b"a", b"b"])}, "give both alike"),
        ({"query": np.ones(3)}, r"query embeddings of shape \(3,\) are not a matrix"),
        (
            {"gallery": np.array([[1, 2, 3]] * 3 + [[1, np.inf, 0]])},
            "gallery embeddings hold NaN or infinity, first in row 3",
        ),
        ({"exclude": (np.arange(2), np.arange(3))}, r"4 gallery items but gallery sources of shape \(3,\)"),
        ({"ties": "random"}, "'random' is none of pessimistic, stable"),
        ({"empty": "one"}, "'one' is none of exclude, zero"),
    ],
)
def test_bad_input_is_named(change, message):
    good = {
        "query": np.ones((2, 3)), "gallery": np.ones((4, 3)),
        "query_labels": np.arange(2), "gallery_labels": np.arange(4),
    }  # fmt: skip
    with pytest.raises(DataError, match=message):
        evaluate_retrieval(**(good | change))


def test_unknown_metric_is_answered_with_those_there_are():
    with pytest.raises(CmpnasError, match=r"unknown metric 'mAP'.*map@r"):
        evaluate_retrieval(np.eye(2), np.eye(2), np.arange(2), np.arange(2), ["mAP"])
    with pytest.raises(CmpnasError, match="k is at most 1,000,000,000"):
        evaluate_retrieval(np.eye(2), np.eye(2), np.arange(2), np.arange(2), ["ndcg@99999999999999"])


@pytest.mark.parametrize("name", ["hit@0", "hit@01", "hit@k", "map@k/R", "hit@", "hit"])
def test_a_metric_without_a_whole_k_is_unknown(name):
    with pytest.raises(CmpnasError, match=f"unknown metric '{name}'"):
        get_metric(name)
