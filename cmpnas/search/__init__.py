"""Records, controllers, the evaluator and the front."""

from cmpnas.search.front import build_front, non_dominated, pick
from cmpnas.search.records import Record, RecordLog

__all__ = ["Record", "RecordLog", "build_front", "non_dominated", "pick"]
