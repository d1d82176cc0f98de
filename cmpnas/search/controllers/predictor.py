"""Predict scores from the evaluations so far, and evaluate where the front is expected to gain most."""

from __future__ import annotations

import numpy as np

from cmpnas.search.controllers.novelty import Novelty
from cmpnas.search.feasible import Candidates, Feasible
from cmpnas.search.front import non_dominated
from cmpnas.search.gaussian import GaussianProcess
from cmpnas.search.hypervolume import Front
from cmpnas.space import Arch

_ALL = 5_000  # feasible sets of up to so many are searched whole
_DRAWN, _BRED, _ROUNDS, _PARENTS = 1_000, 250, 2, 50  # otherwise: draws, and children of each round of evolution
_SHARE, _AT_MOST = 10, 50  # a fit serves one proposal for so many evaluations (20 at the 200th), up to so many
_LEARNT = 1_000  # evaluations that are learnt from: so many of the front, and the last so many
_AGAIN = 25  # what matters is asked again when evaluations have grown by this part: in every plan of the first 1,000
_CHANGES = 1.5  # decisions that a mutation draws anew, on average
_FEW = 300  # candidates that are looked at again after each proposal of a plan
_BEYOND = 1.05  # cost of the end of the span over that of the dearest, so that the best at any cost counts


class Predictor:
    """Gaussian process and exact expected hypervolume improvement: a front from few evaluations

    After the ends of the front and some architectures drawn evenly over log cost (``population / 4`` in all), scores
    are predicted from decisions and cost. Cost is known, so the expected gain of the area below the front has a closed
    form (`Front.expected_gain`). It is maximised over everything in a small set, and by rounds of evolution from random
    draws and the front in a large one. Proposals that are outstanding count as scored as expected.
    """

    def __init__(self, feasible: Feasible, *, population: int, seed: int) -> None:
        self.feasible = feasible
        self._rng = np.random.default_rng([seed, 2])
        self._known = Novelty(feasible, seed)
        self._small = feasible.everything(_ALL)
        self._values = np.array([len(values) for values in feasible.decisions.values()])
        ends = feasible.nearest_many(np.array([feasible.genes(arch) for arch in feasible.ends()]))
        seeds = self._rng.integers(2**63, size=2).tolist()
        self._drawn = _join(feasible.draw(_DRAWN // 2, seeds[0]), feasible.draw(_DRAWN // 2, seeds[1], "cost"))
        costs = np.append(ends.cost, self._drawn.cost)  # milliseconds have other ends than multiply-adds
        self._span = float(costs.min()), float(costs.max()) * _BEYOND
        self._encoder = _Encoder(self._values, self._drawn)
        self._process = GaussianProcess(self._encoder.groups)
        self._told = Candidates(ends.genes[:0], ends.cost[:0])
        self._scores: list[float] = []
        self._outstanding: dict[bytes, Candidates] = {}
        self._asked_again = 0  # once there are so many evaluations
        self._plan = _join(ends, _spread(self._drawn, max(2, population // 4)))

    def ask(self) -> Arch | None:
        """The next of a plan that is made when the last is used up; None when nothing new is left."""
        if not len(self._plan.genes) and len(self._scores) > 1:
            self._plan = self._best()
        while len(self._plan.genes):
            first, self._plan = _rows(self._plan, slice(1)), _rows(self._plan, slice(1, None))
            if self._known.add(arch := self.feasible.arch(first.genes[0])):
                self._outstanding[first.genes.tobytes()] = first
                return arch
        if (fresh := self._known.draw()) is not None:
            self._known.add(fresh)
        return fresh

    def tell(self, arch: Arch, score: float, cost: float) -> None:
        """Learn from ``arch`` at the next fit."""
        self._known.add(arch)
        genes = self.feasible.genes(arch)[None]
        self._outstanding.pop(genes.tobytes(), None)
        self._told = _join(self._told, Candidates(genes, np.array([cost])))
        self._scores.append(score)

    def _best(self) -> Candidates:
        """The next plan: one after another what promises the most gain, if those before turn out as expected."""
        scores = np.array(self._scores)
        stays = non_dominated(scores, self._told.cost)
        some = stays[np.linspace(0, len(stays) - 1, min(len(stays), _LEARNT)).round().astype(int)]
        learnt = np.union1d(some, np.arange(max(0, len(scores) - _LEARNT), len(scores)))
        again = len(scores) >= self._asked_again
        if again:
            self._asked_again = len(scores) + len(scores) // _AGAIN
        self._process.fit(*self._encoder(_rows(self._told, learnt)), scores[learnt], again=again)
        waiting = _join(_rows(self._told, slice(0)), *self._outstanding.values())
        expected = np.append(scores, self._process.predict(*self._encoder(waiting)).mean)
        front = Front(expected, np.append(self._told.cost, waiting.cost), floor=scores.min(), span=self._span)
        pool = self._pool(front, self._told.genes[stays])
        few = np.argsort(-self._gain(pool, front), kind="stable")[:_FEW]
        count = min(max(1, len(scores) // _SHARE), _AT_MOST)
        return self._one_after_another(waiting, _rows(pool, few), front, count)

    def _one_after_another(self, waiting: Candidates, pool: Candidates, front: Front, count: int) -> Candidates:
        points = _join(waiting, pool)
        belief = self._process.predict(*self._encoder(points))
        left = np.arange(len(points.genes)) >= len(waiting.genes)
        taken: list[int] = []
        for number in range(len(waiting.genes)):
            belief.expect(number)
        while left.any() and len(taken) < count:
            gain = front.expected_gain(belief.mean, belief.deviation, points.cost)
            best = int(np.where(left, _steadied(gain), -1.0).argmax())
            front.add(belief.mean[best], points.cost[best])
            belief.expect(best)
            left[best] = False
            taken.append(best)
        return _rows(points, taken)

    def _gain(self, candidates: Candidates, front: Front) -> np.ndarray:
        belief = self._process.predict(*self._encoder(candidates))
        return _steadied(front.expected_gain(belief.mean, belief.deviation, candidates.cost))

    def _pool(self, front: Front, stays: np.ndarray) -> Candidates:
        """New candidates: all of a small set; else draws, and children of the best of these and of the front.

        Args:
            stays: the genes of the front.
        """
        if self._small is not None:
            return self._known.new(self._small)
        pool = self._known.new(self._drawn)
        for _ in range(_ROUNDS):
            best = np.argsort(-self._gain(pool, front), kind="stable")[:_PARENTS]
            children = self._children(np.concatenate([stays, pool.genes[best]]))
            pool = self._known.new(_join(pool, self.feasible.nearest_many(children)))
        return pool

    def _children(self, parents: np.ndarray) -> np.ndarray:
        """Half are copies of a parent, half mix two, and in all some decisions are drawn anew."""
        mothers, fathers = parents[self._rng.integers(len(parents), size=(2, _BRED))]
        mixed = (self._rng.random(mothers.shape) < 0.5) & (self._rng.random((_BRED, 1)) < 0.5)
        children = np.where(mixed, fathers, mothers)
        anew = (self._rng.random(children.shape) * self._values).astype(children.dtype)
        drawn = self._rng.random(children.shape) < _CHANGES / len(self._values)
        return np.where(drawn | (children < 0), anew, children)


class _Encoder:
    """Candidates as what a `GaussianProcess` reads: a group of features for each decision, and a trend in log cost.

    A decision has its place in the list of its values as one feature, and each value as a feature of its own.

    Args:
        values: how many each decision has.
        sample: what features are centred and scaled by.
    """

    def __init__(self, values: np.ndarray, sample: Candidates) -> None:
        self._values = values
        #: For each feature its decision, a number from 0.
        self.groups = np.repeat(np.arange(len(values)), values + 1).tolist()
        costs, raw = np.log(sample.cost), self._raw(sample.genes)
        self._cost, self._centre = (costs.mean(), costs.std() or 1.0), raw.mean(0)
        spread = np.add.reduceat(raw.var(0), np.cumsum([0, *(values[:-1] + 1)]))
        self._scale = np.repeat(1 / np.sqrt(np.where(spread > 0, spread, 1.0)), values + 1)

    def __call__(self, candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
        """Features ``(N, F)`` and trend ``(N, 3)``: constant, log cost and its square."""
        cost = (np.log(candidates.cost) - self._cost[0]) / self._cost[1]
        trend = np.stack([np.ones_like(cost), cost, cost**2 - 1], 1)
        return (self._raw(candidates.genes) - self._centre) * self._scale, trend

    def _raw(self, genes: np.ndarray) -> np.ndarray:
        columns = []
        for mine, count in zip(genes.T, self._values, strict=True):
            columns.append(np.where(mine < 0, 0.0, mine / max(1, count - 1) - 0.5))
            columns += [(mine == place).astype(float) for place in range(count)]
        return np.stack(columns, 1)


def _spread(candidates: Candidates, count: int) -> Candidates:
    """``count`` of them, evenly over their order by cost."""
    order = np.argsort(candidates.cost, kind="stable")
    return _rows(candidates, order[((np.arange(count) + 0.5) * len(order) / count).astype(int)])


def _rows(candidates: Candidates, rows: slice | np.ndarray | list[int]) -> Candidates:
    return Candidates(candidates.genes[rows], candidates.cost[rows])


def _join(*several: Candidates) -> Candidates:
    genes, cost = zip(*several, strict=True)
    return Candidates(np.concatenate(genes), np.concatenate(cost))


def _steadied(gain: np.ndarray) -> np.ndarray:
    """In parts per million of the greatest: what sums in another order differ by must not decide."""
    return np.round(gain / max(gain.max(initial=0.0), 1e-300), 6)
