"""A search as a study of Optuna, for the tools that read one."""

from __future__ import annotations

import math
import warnings
from typing import Any

from cmpnas.report.results import Searched
from cmpnas.search.records import Record
from cmpnas.space import SearchSpace


def study_of(run: Searched, space: SearchSpace, storage: Any) -> Any:
    """An ``optuna.Study`` in ``storage`` with a finished trial for every record, in order.

    Its values are M(q, g) against each gallery (to maximize) and the cost that the search lowered, its parameters the
    decisions that the architecture takes; id, parameters and M(q, q) are user attributes.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions: list[Any] = [*["maximize"] * len(run.galleries), "minimize"]
    study = optuna.create_study(storage=storage, study_name=run.name, directions=directions)
    metric, costs = run.front["metric"], run.costs(run.own_cost, run.galleries[0])
    cost = "ms" if run.own_cost == "latency" else "MFLOPs"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([*[f"{metric} against {name}" for name in run.galleries], cost])
    genes = {name: optuna.distributions.CategoricalDistribution(values) for name, values in space.decisions.items()}
    study.add_trials(
        optuna.trial.create_trial(
            params=dict(record.arch.choices),
            distributions={name: genes[name] for name, _ in record.arch.choices},
            values=[*[record.galleries[name].heterogeneous for name in run.galleries], float(costs[n])],
            user_attrs={"id": record.arch.id, "params_m": record.params_m, **_own(record)},
        )
        for n, record in enumerate(run.records)
    )
    return study


def _own(record: Record) -> dict[str, float]:
    return {} if math.isnan(record.homogeneous) else {"homogeneous": record.homogeneous}
