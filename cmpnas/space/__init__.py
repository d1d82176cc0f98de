"""Search spaces: architectures, exact counting, sampling under a budget."""

from cmpnas.space.arch import Arch
from cmpnas.space.layer import Layer
from cmpnas.space.library import list_spaces, load_space
from cmpnas.space.space import SearchSpace

__all__ = ["Arch", "Layer", "SearchSpace", "list_spaces", "load_space"]
