"""Published retrieval benchmarks: readers of their own files and their own numbers, one file each."""

from cmpnas.retrieval.protocols.captions import Captions
from cmpnas.retrieval.protocols.deepfashion2 import DeepFashion2
from cmpnas.retrieval.protocols.faces import Faces
from cmpnas.retrieval.protocols.labels import Labels
from cmpnas.retrieval.protocols.landmarks import Landmarks
from cmpnas.retrieval.protocols.oneshot import OneShot
from cmpnas.retrieval.protocols.result import Result
from cmpnas.retrieval.protocols.revisited import Revisited

__all__ = ["Captions", "DeepFashion2", "Faces", "Labels", "Landmarks", "OneShot", "Result", "Revisited"]
