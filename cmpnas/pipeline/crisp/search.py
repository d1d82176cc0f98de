"""From a text recipe to the front of coarse encoders and numbers of candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmpnas.cost import Budget
from cmpnas.data.load import data_file, named_folder
from cmpnas.errors import BudgetError
from cmpnas.files import write_json
from cmpnas.models.supernet import Supernet
from cmpnas.pipeline.crisp.fine import fine_table
from cmpnas.pipeline.crisp.stages import TextStages, load_text_splits, must_be_alone
from cmpnas.pipeline.stages import Say
from cmpnas.progress import track
from cmpnas.recipe import TextRecipe
from cmpnas.retrieval.bootstrap import interval
from cmpnas.retrieval.planner import scan_hits
from cmpnas.retrieval.weighing import weigh
from cmpnas.run import TextRunFolder
from cmpnas.search import rounds
from cmpnas.search.controllers import make_controller, read_known
from cmpnas.search.controllers.by_nni import require_nni
from cmpnas.search.front import non_dominated
from cmpnas.search.records import Ahead, PairScore, Proposal, Record, RecordLog
from cmpnas.space import Arch, load_space
from cmpnas.text.captions import Captioned
from cmpnas.text.encoding import TextEncoder
from cmpnas.text.settings import EncoderRegions, OnnxRegions
from cmpnas.text.tokeniser import require_tokenizers
from cmpnas.text.train import vocabulary_of


def search_text(
    recipe: TextRecipe, path: Path, *, data: str | None = None, resume: bool = False, say: Say = print
) -> dict[str, Any]:
    """Run ``recipe`` in the folder ``path`` up to its front, and return the content of ``front.json``.

    Raises:
        CmpnasError: a mistake of the user's; nothing that was computed is lost.
    """
    check_text(recipe, data)
    splits = load_text_splits(recipe, data)
    for plan in (recipe.fine.train, recipe.coarse.supernet, recipe.coarse.train):
        plan.must_fit(len(splits.train))
    run = TextRunFolder.begin(path, recipe, resume=resume, data=splits.fingerprint)
    stages = TextStages(run, splits, data, say)
    with run.locked(), run.adopted(say):
        RecordLog(run.records, stages.space).must_be_of(stages.scores_key)
        _ = stages.fine
        costs = QueryCosts.of(stages, len(splits.search))
        budget = costs.encoder_budget(recipe)
        stages.space.require_reachable(budget)
        _ = stages.supernet
        with run.timed("search"):
            records = _search(stages, costs, budget)
        front = _front(stages, costs, records)
        write_json(run.front, front)
    return front


@dataclass(frozen=True)
class QueryCosts:
    """Multiply-adds of a query beside the coarse text encoder.

    Attributes:
        index: similarities of vectors with all pictures.
        read: encoding the query for the fine model.
        score: one candidate.
        n: pictures.
    """

    index: int
    read: int
    score: int
    n: int

    @staticmethod
    def of(stages: TextStages, n: int) -> QueryCosts:
        """Over ``n`` pictures, at the longest text."""
        fine, regions = stages.fine, stages.regions("search").shape[1]
        score = fine.macs(stages.recipe.captions.max_tokens, regions)
        return QueryCosts(n * stages.recipe.coarse.dim, fine.text_macs, score, n)

    def total(self, encoder: int, k: int) -> int:
        """Of a cascade of ``k`` candidates."""
        return encoder + self.index + self.read + k * self.score

    @property
    def scan(self) -> int:
        """Of the fine model over all pictures."""
        return self.read + self.n * self.score

    def most(self, encoder: int, recipe: TextRecipe) -> int | None:
        """Candidates, from 0, that a query's budget leaves room for beside an encoder; None if there is no budget."""
        whole = recipe.search.budget_mflops
        return None if whole is None else max(0, int((whole * 1e6 - self.total(encoder, 0)) // self.score))

    def encoder_budget(self, recipe: TextRecipe) -> Budget:
        """What a query's budget leaves for the coarse encoder with the fewest candidates.

        Raises:
            BudgetError: nothing.
        """
        whole = recipe.search.budget_mflops
        if whole is None:
            return recipe.search.budget
        rest, least = self.total(0, min(recipe.search.ks)) / 1e6, min(recipe.search.ks)
        if whole <= rest:
            raise BudgetError(
                f"{whole:g} MFLOPs a query are spent before its encoder runs: {rest:.4g} go into {self.n:,} "
                f"similarities and {least} candidates; raise --budget-mflops, or set smaller search.ks."
            )
        return Budget(whole - rest, recipe.search.budget_params_m)


class TextEvaluator:
    """Scores coarse encoders on the search split, with every number of candidates at once.

    The fine model's scores of all captions and pictures are computed once; a cascade of any encoder and any number of
    candidates is then a matter of ordering, by both scores as far as the encoder's own adds to the fine one. Its score
    is the share of queries that find a right picture first: counted among all pictures, less what so few candidates are
    expected to forgo (`Odds.forgone`), for single hits are mostly luck where captions are few.
    """

    def __init__(self, stages: TextStages) -> None:
        self.stages, self.pairs = stages, stages.pairs("search")
        self.supernet: Supernet = stages.supernet[0]
        self.pictures = stages.vectors(stages.supernet[1], "search")
        self.fine = fine_table(stages)
        self.relevant = relevant(self.pairs)
        self.ks = tuple(k for k in stages.recipe.search.ks if k <= len(self.pairs)) or (len(self.pairs),)

    def __call__(self, n: int, arch: Arch) -> Record:
        """``arch`` with the supernet's weights, as record number ``n``."""
        encode = TextEncoder(self.supernet.carve(arch).eval(), self.stages.tokeniser.limited(vocabulary_of(arch)))
        table = encode(self.pairs.captions) @ self.pictures.T
        _, final, forgone = weigh(table, self.fine, self.relevant, max(self.ks))
        expected = scan_hits(final, self.relevant)[:, None] - forgone
        hits = {f"k{k}": expected[:, k - 1] for k in self.ks}
        cost = self.stages.space.cost(arch)
        scores = {name: _share(values) for name, values in hits.items()}
        return Record(n, arch, cost.mflops, cost.params_m, scores, float(scan_hits(table, self.relevant).mean()))


def _share(expected: np.ndarray) -> PairScore:
    """The mean of what each query is expected to find; where odds are read off few, that may be less than nothing."""
    low, high = interval(expected)
    return PairScore(max(float(expected.mean()), 0.0), (max(low, 0.0), max(high, 0.0)))


def relevant(pairs: Captioned) -> np.ndarray:
    """Which picture each caption describes: bool ``(C, N)``."""
    return pairs.caption_labels[:, None] == pairs.labels[None]


def _search(stages: TextStages, costs: QueryCosts, budget: Budget) -> list[Record]:
    """Ask, evaluate, record, tell; records of an earlier start are told without being evaluated."""
    settings = stages.recipe.search
    log, ahead = RecordLog(stages.run.records, stages.space), Ahead(stages.run.ahead, stages.space)
    controller = make_controller(
        settings.controller, stages.space, budget,
        population=settings.population, seed=stages.recipe.seed, known=settings.known,
    )  # fmt: skip
    evaluator = TextEvaluator(stages)
    known = len(log.read())
    stages.say(f"search: {max(0, settings.trials - known)} of {settings.trials} encoders to evaluate")

    def judge(plan: Sequence[Proposal]) -> Iterator[list[Record]]:
        return ([evaluator(proposal.n, proposal.arch)] for proposal in plan)

    def best(record: Record) -> float:
        return max(score for score, _, _ in _points(record, costs, settings.budget_mflops))

    # A controller plans by what encoders cost, which is in the order of what their queries do.
    proceeding = rounds.search(
        controller, judge, log, ahead, trials=settings.trials, score=best, cost=lambda record: record.mflops
    )
    records = list(track(proceeding, "search", total=max(settings.trials, known)))
    if len(records) < settings.trials:
        stages.say(f"search: ends after {len(records)}, nothing new is left within the budget")
    return records


def _points(record: Record, costs: QueryCosts, budget: float | None) -> list[tuple[float, float, int]]:
    """What an encoder reaches with each number of candidates that the budget allows: score, MFLOPs a query, k."""
    points = []
    for name, score in record.galleries.items():
        k = int(name[1:])
        spent = costs.total(round(record.mflops * 1e6), k) / 1e6
        if budget is None or spent <= budget:
            points.append((score.heterogeneous, spent, k))
    return points


def _front(stages: TextStages, costs: QueryCosts, records: list[Record]) -> dict[str, Any]:
    """The pairs of an encoder and a number of candidates that no other beats, cheapest first."""
    budget = stages.recipe.search.budget_mflops
    points = [(record, *point) for record in records for point in _points(record, costs, budget)]
    scores, spent = (np.array([point[column] for point in points]) for column in (1, 2))
    scan_hit, pairs = float(scan_hits(fine_table(stages), relevant(stages.pairs("search"))).mean()), []
    for index in non_dominated(scores, spent):
        record, score, mflops, k = points[index]
        pairs.append(
            {
                "query": {
                    "space": record.arch.space, "id": record.arch.id, "arch": record.arch.to_json(), "mflops": mflops,
                    "encoder_mflops": record.mflops, "params_m": record.params_m, "latency_ms": None,
                },
                "k": k,
                "scores": {
                    "homogeneous": record.homogeneous,
                    "heterogeneous": score,
                    "interval": list(record.galleries[f"k{k}"].interval),
                },
                "cost_reduction": costs.scan / 1e6 / mflops,
                "paragon_gap": scan_hit - score,
            }
        )  # fmt: skip
    return {
        "schema": 1,
        "task": "text",
        "recipe": stages.recipe.name,
        "budget": stages.recipe.search.budget.to_json(),
        "metric": "hit@1",
        "paragon": {"gallery": "fine scan", "mflops": costs.scan / 1e6, "score": scan_hit},
        "pairs": pairs,
    }


def check_text(recipe: TextRecipe, data: str | None = None) -> None:
    """Raise at once what can be known to be wrong without reading data; ``data`` is their folder if known."""
    must_be_alone()
    require_tokenizers()
    if recipe.search.controller.startswith("nni:"):
        require_nni()
    # No query costs less than its encoder alone.
    space, budget = recipe.space(), Budget(recipe.search.budget_mflops, recipe.search.budget_params_m)
    space.require_reachable(budget)
    read_known(recipe.search.known, space, budget)
    regions = recipe.regions
    if isinstance(regions, EncoderRegions):
        load_space(regions.space, size=recipe.data.size).named(regions.arch)  # type: ignore[union-attr]
    elif isinstance(regions, OnnxRegions) and named_folder(data):
        data_file(recipe.data, data, regions.file)  # type: ignore[arg-type]


def dry_run_text(recipe: TextRecipe, data: str | None = None) -> dict[str, Any]:
    """What `search_text` would do, without reading data or weights and writing files; raises what `check_text` does."""
    check_text(recipe, data)
    space = recipe.space()
    low, high = (space.cost(arch).mflops for arch in space.extremes())
    return {
        "recipe": recipe.name,
        "space": space.name,
        "tokens": space.size,
        "architectures": space.count(),
        "mflops": [low, high],
        "budget": recipe.search.budget.to_json(),
        "controller": recipe.search.controller,
        "evaluations": recipe.search.trials,
        "known": len(recipe.search.known),
        "candidates": list(recipe.search.ks),
        "stages": ["fine", "regions", "supernet", "search", "front"],
    }
