"""How long a space's operators and networks take on this device, and how networks follow from operators."""

from cmpnas.measure.stopwatch import Device, OnnxRuntime
from cmpnas.measure.table import measure

__all__ = ["Device", "OnnxRuntime", "measure"]
