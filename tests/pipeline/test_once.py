"""What is computed once is computed again for another key, and after a crash."""

from __future__ import annotations

import numpy as np
import pytest

from cmpnas.errors import RunError
from cmpnas.pipeline.once import once


def test_an_array_is_of_the_key_beside_it(tmp_path):
    path, made = tmp_path / "in" / "a.npy", []

    def of(key: str, crash: bool = False) -> float:
        def make() -> None:
            made.append(key)
            np.save(path, np.array([float(key)]))
            if crash:
                raise KeyboardInterrupt

        return float(once(path, key, make)[0])

    assert [of("1"), of("1"), of("2"), of("2")] == [1, 1, 2, 2]
    assert made == ["1", "2"]
    with pytest.raises(KeyboardInterrupt):
        of("3", crash=True)
    assert of("2") == 2  # of which the file was before the crash, and is not any more
    path.write_bytes(b"")
    with pytest.raises(RunError, match=r"a\.npy cannot be read .*; delete .*a\.json and repeat the command\.$"):
        of("2")
