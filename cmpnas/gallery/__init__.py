"""Gallery options: a model trained here, a finished model or embeddings that the user brings, several models mixed."""

from cmpnas.gallery.base import Embedded, Gallery, anchor

__all__ = ["Embedded", "Gallery", "anchor"]
