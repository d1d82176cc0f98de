"""What every controller promises: feasible, never twice, a function of seed and results alone."""

from __future__ import annotations

import random

import numpy as np
import pytest

from cmpnas.cost import Budget
from cmpnas.errors import CmpnasError
from cmpnas.search.controllers import CONTROLLERS, find_controller, make_controller
from cmpnas.search.feasible import Within
from cmpnas.testing import check_controller

LIGHT = [name for name in CONTROLLERS if name != "optuna:gp" and not name.startswith("nni:")]


def score(arch) -> float:
    """A stand-in for an evaluation: any fixed function of the architecture."""
    return sum(float(value) * (1 + index % 3) for index, (_, value) in enumerate(arch.choices)) / 100


def drive(controller, space, steps):
    asked = []
    for _ in range(steps):
        arch = controller.ask()
        if arch is None:
            break
        asked.append(arch)
        controller.tell(arch, score(arch), space.cost(arch).mflops)
    return asked


@pytest.mark.parametrize("name", LIGHT)
def test_promises(name):
    check_controller(name)


def test_promises_of_gp():
    pytest.importorskip("scipy", reason="Optuna's Gaussian process needs scipy")
    check_controller("optuna:gp", steps=8)
