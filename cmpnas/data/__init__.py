"""Pictures, labels and the three splits that never mix."""

from cmpnas.data.items import Items, Protocol, Splits
from cmpnas.data.load import load_splits

__all__ = ["Items", "Protocol", "Splits", "load_splits"]
