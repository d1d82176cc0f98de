"""A finished model that somebody else trained, fed as it wants to be fed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.errors import DataError
from cmpnas.gallery.settings import AnyBrought
from cmpnas.train.device import device

Triple = tuple[float, float, float]
HALF: Triple = (0.5, 0.5, 0.5)


class FrozenModel(nn.Module):
    """Any encoder as float pictures ``(B, 3, H, W)`` in [-1, 1] to features, float32 ``(B, width)``.

    Pictures are resized to the model's own side (bilinear, anti-aliased when they shrink) and scaled as it was
    trained.

    Args:
        run: float ``(B, 3, size, size)`` on the device that computes to ``(B, D)`` or ``(B, D, 1, 1)``.
        count: multiply-adds of one picture; asked where the settings do not state them.
        fingerprint: hash of everything that the model is made of.
        mean, std: the model's own, where the settings state none.

    Raises:
        DataError: ``run`` does not take such pictures or gives something else.
    """

    def __init__(
        self,
        settings: AnyBrought,
        run: Callable[[Tensor], Tensor],
        size: int,
        count: Callable[[], int],
        fingerprint: str,
        mean: Triple = HALF,
        std: Triple = HALF,
    ) -> None:
        super().__init__()
        self._run, self.size, self.fingerprint = run, size, fingerprint
        mean, std = settings.mean or mean, settings.std or std
        # Of pictures in [-1, 1]: one half in 0..1 becomes the identity, to the last bit.
        self._mean = torch.tensor(mean, device=device())[:, None, None] * 2 - 1
        self._std = torch.tensor(std, device=device())[:, None, None] * 2
        self.width = self._try()
        self.mflops = settings.mflops or count() / 1e6

    def forward(self, images: Tensor) -> Tensor:
        pictures = images.to(device())
        if pictures.shape[-2:] != (self.size, self.size):
            shrinks = self.size < pictures.shape[-1]
            side = (self.size, self.size)
            pictures = F.interpolate(pictures, side, mode="bilinear", antialias=shrinks, align_corners=False)
        features = self._run((pictures - self._mean) / self._std)
        if not isinstance(features, Tensor):
            raise DataError(f"the model gives a {type(features).__name__}, not one tensor; wrap it so that it does.")
        if features.ndim == 4 and features.shape[2:] == (1, 1):
            features = features.flatten(1)
        if features.ndim != 2 or len(features) != len(images):
            raise DataError(
                f"the model gives {tuple(features.shape)} for {len(images)} pictures; it must give one vector each."
            )
        if not torch.isfinite(features).all():
            raise DataError("the model gives NaN or infinity for a picture; check its file, mean and std.")
        return features.to(images.device, torch.float32)

    @torch.no_grad()
    def _try(self) -> int:
        """Width of the features, from two grey pictures."""
        try:
            return self(torch.zeros(2, 3, self.size, self.size)).shape[1]
        except DataError:
            raise
        except Exception as fault:  # whatever runs the model has its own
            reason = reason_of(fault)
            raise DataError(f"the model cannot run on pictures of {self.size} px ({reason}); check its size.") from None


def reason_of(fault: Exception) -> str:
    """The line of another library's error that says what happened: TorchScript's is the last."""
    lines = str(fault).strip().splitlines() or [type(fault).__name__]
    return lines[-1].strip()[:200].rstrip(".")
