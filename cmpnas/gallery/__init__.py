"""Gallery options: a model trained here, or embeddings that the user brings."""

from cmpnas.gallery.base import Embedded, Gallery, anchor

__all__ = ["Embedded", "Gallery", "anchor"]
