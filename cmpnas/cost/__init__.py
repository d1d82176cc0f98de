"""Multiply-adds and parameters in closed form, budgets, and the audit by fvcore."""

from cmpnas.cost.budget import Budget
from cmpnas.cost.value import Cost

__all__ = ["Budget", "Cost"]
