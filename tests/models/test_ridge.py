"""Linear maps in closed form, against scikit-learn and against a system of equations written out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from torch import nn

from cmpnas.models import ridge
from cmpnas.models.ridge import fit_near_identity


def fitted(source, target):
    layer = nn.Linear(source.shape[1], target.shape[1])
    fit_near_identity(layer, source, target)
    assert not layer.bias.any()
    return layer.weight.detach().numpy().T


@pytest.mark.parametrize("pictures", [30, 4000])
def test_near_the_identity_is_a_ridge_of_what_is_beyond_it(pictures, monkeypatch):
    """Ridge regression of the difference to the multiple of the identity that fits best."""
    monkeypatch.setattr(ridge, "_ROWS_AT_ONCE", 7)
    rng = np.random.default_rng(0)
    source = rng.normal(size=(pictures, 5)).astype(np.float32)
    target = (source @ rng.normal(size=(5, 5)) + rng.normal(size=(pictures, 5))).astype(np.float32)
    share = (source * target).sum() / (source * source).sum()
    alpha = 30 * (source * source).sum() / pictures
    beyond = Ridge(alpha=alpha, fit_intercept=False).fit(source.astype(np.float64), target - share * source)
    assert fitted(source, target) == pytest.approx(share * np.eye(5) + beyond.coef_.T, abs=1e-5)


def test_few_pictures_turn_nothing_and_many_turn_all():
    """A fifth of the axes is not heard at all by the second side: it goes only where that is known well."""
    rng, heard = np.random.default_rng(0), np.array([1.0] * 8 + [0.0] * 2)
    source = rng.normal(size=(20_000, 10)).astype(np.float32)
    target = source * heard + 0.1 * rng.normal(size=source.shape).astype(np.float32)
    assert np.diag(fitted(source, target)) == pytest.approx(heard, abs=0.02)
    few = np.diag(fitted(source[:3], target[:3]))
    assert few.std() < 0.2 < few.mean()
