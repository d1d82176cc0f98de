"""The judge where architectures are raced: what the first queries say decides who goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cmpnas.models.together import Together
from cmpnas.search.evaluator import Evaluator, first_queries
from cmpnas.search.records import Proposal, Record


class RacingEvaluator(Evaluator):
    """Embeds the other queries and the gallery by those architectures alone that are above one of their marks.

    Args:
        racing: the share of the queries that comes first; all else is as of `Evaluator`.
    """

    def __init__(self, *given: Any, racing: float, **named: Any) -> None:
        super().__init__(*given, **named)
        search = self.search
        first = first_queries(search, racing)
        rest = np.setdiff1d(np.arange(len(search.query)), first)
        self._first, self._rest = self._batches(search.query, first), self._batches(search.query, rest)
        self._in_order = np.argsort(np.concatenate([first, rest]))
        self._of_first = self._indexed.relevance_of(first)

    def _evaluate(self, plan: Sequence[Proposal], networks: Together) -> list[Record]:
        first = self._embedded(networks, self._first, len(plan))
        seen = [self._indexed.against(query, relevance=self._of_first) for query in first]
        scores = [{name: one[self.metric] for name, one in against.items()} for against in seen]
        on = [i for i, proposal in enumerate(plan) if not _stops(scores[i], proposal.marks)]
        stopped = sorted(set(range(len(plan))) - set(on))
        records = [self._record(plan[i], seen[i], math.nan, raced=first.shape[1]) for i in stopped]
        if on:
            networks.only(on)
            rest = self._embedded(networks, self._rest, len(on))
            queries = np.concatenate([first[on], rest], axis=1)[:, self._in_order]
            for i, record in zip(on, self._judge([plan[i] for i in on], networks, queries), strict=True):
                galleries = {name: replace(pair, first=scores[i][name]) for name, pair in record.galleries.items()}
                records.append(replace(record, galleries=galleries))
        return records


def _stops(scores: Mapping[str, float], marks: Mapping[str, float]) -> bool:
    """Is there a mark against every gallery option, and no score above it?"""
    return all(name in marks and score <= marks[name] for name, score in scores.items())
