"""The base of what is read from recipes and other files that people write."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Checked when it is read, then never changed; an unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)
