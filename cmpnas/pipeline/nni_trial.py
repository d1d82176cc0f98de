"""What NNI starts as a trial: evaluate the architectures of one task and report their records.

python -m cmpnas.pipeline.nni_trial RUN [DATA]
"""

from __future__ import annotations

import sys
from pathlib import Path

import nni

from cmpnas.errors import CmpnasError
from cmpnas.pipeline.options import evaluator
from cmpnas.pipeline.stages import Stages
from cmpnas.search.records import Proposal


def main() -> None:
    path, data = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    content = nni.get_next_parameter()["plan"]
    try:
        stages = Stages.of_run(path, data, lambda message: print(message, file=sys.stderr))
        plan = [Proposal.from_json(proposal, stages.space) for proposal in content]
        records = [record for records in evaluator(stages).together(plan) for record in records]
    except CmpnasError as fault:
        nni.report_final_result({"default": 0.0, "plan": content, "error": str(fault)})
        raise
    best = max(map(stages.reward, records))
    nni.report_final_result({"default": best, "plan": content, "records": [record.to_json() for record in records]})


if __name__ == "__main__":
    main()
