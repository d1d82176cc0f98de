"""A finished model that somebody else trained, fed as it wants to be fed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmpnas.errors import DataError
from cmpnas.gallery.settings import AnyBrought
from cmpnas.train.device import device

Triple = tuple[float, float, float]
HALF: Triple = (0.5, 0.5, 0.5)
_ALIKE = 0.02  # of the length of features, what half precision and other sums of another batch may change


class Feed(nn.Module):
    """Float pictures ``(B, 3, H, W)`` in [-1, 1] to what a model was trained on: its side, its mean and std in 0..1.

    Bilinear, anti-aliased when pictures shrink.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, size: int, mean: Triple, std: Triple) -> None:
        super().__init__()
        self.size = size
        # Of pictures in [-1, 1]: one half in 0..1 becomes the identity, to the last bit.
        self.register_buffer("mean", torch.tensor(mean)[:, None, None] * 2 - 1, persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None] * 2, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != (self.size, self.size):
            shrinks, side = self.size < images.shape[-1], (self.size, self.size)
            images = F.interpolate(images, side, mode="bilinear", antialias=shrinks, align_corners=False)
        return (images - self.mean) / self.std


class FrozenModel(nn.Module):
    """Any encoder as float pictures ``(B, 3, H, W)`` in [-1, 1] to features, float32 ``(B, width)``.

    Pictures are resized to the model's own side and scaled as it was trained (`Feed`).

    Args:
        run: float ``(B, 3, size, size)`` on the device that computes to ``(B, D)`` or ``(B, D, 1, 1)``.
        count: multiply-adds of one picture; asked where the settings do not state them.
        fingerprint: hash of everything that the model is made of.
        mean, std: the model's own, where the settings state none.
        run_with_map: as ``run``, with a feature map beside what it gives.

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
        run_with_map: Callable[[Tensor], Sequence[Tensor]] | None = None,
    ) -> None:
        super().__init__()
        self.run, self.run_with_map, self.size, self.fingerprint = run, run_with_map, size, fingerprint
        self.feed = Feed(size, settings.mean or mean, settings.std or std).to(device())
        self.width = self._try()
        self.mflops = settings.mflops or count() / 1e6

    def forward(self, images: Tensor) -> Tensor:
        return self._checked(self.run(self.feed(images.to(device()))), images)

    def with_map(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features as `forward` gives them, and a feature map ``(B, C, H, W)``.

        Raises:
            DataError: the model was opened without one.
        """
        if self.run_with_map is None:
            raise DataError("the model was opened without a feature map; name the output that is one.")
        features, found = self.run_with_map(self.feed(images.to(device())))
        return self._checked(features, images), found.to(images.device, torch.float32)

    @staticmethod
    def _checked(features: object, images: Tensor) -> Tensor:
        if not isinstance(features, Tensor):
            raise DataError(f"the model gives a {type(features).__name__}, not one tensor; wrap it so that it does.")
        if features.ndim == 4 and features.shape[2:] == (1, 1):
            features = features.flatten(1)
        if features.ndim != 2 or len(features) != len(images):
            raise DataError(
                f"the model gives {tuple(features.shape)} for {len(images)} pictures; it must give one vector each."
            )
        found = features.to(images.device, torch.float32)
        if not torch.linalg.vector_norm(found, dim=1).isfinite().all():
            raise DataError(
                "the model gives NaN or infinity for a picture, or numbers too large to have a direction; check its "
                "file, mean and std."
            )
        return found

    @torch.no_grad()
    def _try(self) -> int:
        """Width of the features, from pictures that are seen together and one that is seen again, alone."""
        pictures = torch.rand(2, 3, self.size, self.size, generator=torch.Generator().manual_seed(0)) * 2 - 1
        together, alone = self._seen(pictures), self._seen(pictures[:1])
        if torch.linalg.vector_norm(together[:1] - alone) > _ALIKE * torch.linalg.vector_norm(alone):
            raise DataError(
                "the model gives other features for a picture when it sees it again, beside others or alone; save it "
                "in eval mode, or its dropout and BatchNorm go on as in training."
            )
        return alone.shape[1]

    def _seen(self, pictures: Tensor) -> Tensor:
        try:
            found: Tensor = self(pictures)
            return found
        except DataError:
            raise
        except Exception as fault:  # whatever runs the model has its own
            raise DataError(
                f"the model cannot run on {len(pictures)} pictures of {self.size} px ({reason_of(fault)}); check its "
                "size, and that it takes any number of pictures."
            ) from None


def reason_of(fault: Exception) -> str:
    """The line of another library's error that says what happened: TorchScript's is the last."""
    lines = str(fault).strip().splitlines() or [type(fault).__name__]
    return lines[-1].strip()[:200].rstrip(".")
