"""Static blocks, the weight-sharing supernet over them, calibration and classifiers."""

from cmpnas.models.calibrate import calibrate
from cmpnas.models.heads import MarginClassifier
from cmpnas.models.network import Network, build_network
from cmpnas.models.supernet import Supernet
from cmpnas.models.together import Together

__all__ = ["MarginClassifier", "Network", "Supernet", "Together", "build_network", "calibrate"]
