"""One set of shared weights holding every architecture of a space.

There is one definition of each block, the static module in `cmpnas.models.blocks`. The supernet owns,
for each position and parameter, a tensor as large as any architecture needs; a path runs the static
modules on slices of those tensors. So a path *is* the static network, forward and backward, and
nothing remembers which path ran last.

Sharing is entangled (leading channels, centre-cropped kernels) but for the decisions that a stage
declares ``separate``: each of their values has weights of its own, as in single path one-shot NAS.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from cmpnas.errors import SpaceError
from cmpnas.models.blocks import build_layer
from cmpnas.models.network import Network, initialise, network_of
from cmpnas.space.arch import Arch
from cmpnas.space.layer import Layer
from cmpnas.space.space import SearchSpace


class Supernet(nn.Module):
    """Shared weights for ``space``.

    BatchNorm uses batch statistics: a shared network has no population of its own. Statistics of
    an architecture come from `carve` and `cmpnas.models.calibrate`.

    Args:
        space: what may vary.
        embedding_dim: width of the embedding, by default the space's.
    """

    def __init__(self, space: SearchSpace, embedding_dim: int | None = None) -> None:
        super().__init__()
        if embedding_dim is not None and embedding_dim != space.embedding_dim:
            space = space.resized(embedding_dim=embedding_dim)
        self.space = space
        self.shared = nn.ModuleDict()
        self._skeletons: dict[Layer, nn.Module] = {}
        shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        for layer in {e.layer: None for edges in space.lattice.edges for e in edges if e.layer}:
            largest = shapes.setdefault(layer.shared_by, {})
            for name, value in self._skeleton(layer).named_parameters():
                known = largest.get(name, value.shape)
                if len(known) != value.ndim:
                    raise SpaceError(
                        f"{name} of {layer.shared_by} has {value.ndim} dimensions in one choice and {len(known)} in "
                        "another: they cannot share weights; name a decision that tells them apart in 'separate'."
                    )
                largest[name] = tuple(map(max, known, value.shape))
        for shared_by, tensors in shapes.items():
            store = _Store({name: torch.empty(shape) for name, shape in tensors.items()})
            initialise(store.tensors)
            self.shared[_module_key(shared_by)] = store

    def forward(self, images: Tensor, arch: Arch) -> Tensor:
        """Embed ``(N, 3, H, W)`` by the path ``arch``: ``(N, D)``, with batch statistics."""
        x = images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images
        for layer in self.space.layers(arch):
            x = functional_call(self._skeleton(layer), self.slices(layer), (x,))
        return x

    def slices(self, layer: Layer) -> dict[str, Tensor]:
        """The shared weights of ``layer``, by parameter name; views, so gradients reach the shared."""
        store: Any = self.shared[_module_key(layer.shared_by)]
        tensors, wanted = store.tensors, self._skeleton(layer).named_parameters()
        return {name: _slice(tensors[name], value.shape) for name, value in wanted}

    def carve(self, arch: Arch) -> Network:
        """A plain static network of ``arch`` with copied weights and no trace of the supernet.

        Its BatchNorm statistics are unset (mean 0, variance 1): calibrate before use.
        """
        return network_of(self.space)(self.space.layers(arch), self.block)

    def block(self, layer: Layer, weights: dict[str, Tensor] | None = None) -> nn.Module:
        """The static module of ``layer`` with ``weights``, by default `copied` ones, and unset statistics."""
        block = _twin(self._skeleton(layer), {})
        for name, value in (weights or self.copied(layer)).items():
            path, _, parameter = name.rpartition(".")
            setattr(block.get_submodule(path), parameter, nn.Parameter(value))
        for module in block.modules():
            if isinstance(module, _BatchNorm):
                _unset_statistics(module, next(self.parameters()))
        return block

    @torch.no_grad()
    def copied(self, layer: Layer) -> dict[str, Tensor]:
        """The shared weights of ``layer`` as tensors of their own, in channels-last memory."""
        formats = {4: torch.channels_last}
        return {
            name: value.clone(memory_format=formats.get(value.ndim, torch.contiguous_format))
            for name, value in self.slices(layer).items()
        }

    def _skeleton(self, layer: Layer) -> nn.Module:
        """The static module of ``layer`` without storage, made once for all layers of its form."""
        form = layer.form
        found = self._skeletons.get(form)
        if found is None:
            with torch.device("meta"):
                found = build_layer(form)
            for module in found.modules():
                if isinstance(module, _BatchNorm):
                    _forget_statistics(module)
            if left := [name for name, _ in found.named_buffers()]:
                raise SpaceError(f"block {layer.kind!r} has a buffer, {left[0]!r}, that a supernet cannot hold.")
            self._skeletons[form] = found
        return found


class _Store(nn.Module):
    """Parameters under names with dots, which `nn.ParameterDict` does not allow."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        for name, value in tensors.items():
            self.register_parameter(name.replace(".", "/"), nn.Parameter(value))

    @property
    def tensors(self) -> dict[str, Any]:
        return {name.replace("/", "."): value for name, value in self._parameters.items()}


def _module_key(name: str) -> str:
    """``name`` as a submodule may be called."""
    return name.replace(".", "_")


def _slice(shared: Tensor, shape: torch.Size) -> Tensor:
    """Leading channels and the centre of the kernel."""
    for dim, (have, want) in enumerate(zip(shared.shape, shape, strict=True)):
        if have != want:
            shared = shared.narrow(dim, (have - want) // 2 if dim >= 2 else 0, want)
    return shared


def _twin(module: nn.Module, made: dict[nn.Module, nn.Module]) -> nn.Module:
    """Another module of the same parameters and buffers: fifteen times as fast as building it again."""
    if module not in made:
        twin = made[module] = object.__new__(type(module))
        # Its dictionaries (parameters, buffers, hooks) are its own.
        twin.__dict__ = {
            name: value.copy() if isinstance(value, dict) else value for name, value in vars(module).items()
        }
        twin._modules = {
            name: _twin(child, made) if child is not None else None for name, child in module._modules.items()
        }
    return made[module]


def _forget_statistics(module: _BatchNorm) -> None:
    module.track_running_stats = False
    module.running_mean = module.running_var = module.num_batches_tracked = None


def _unset_statistics(module: _BatchNorm, like: Tensor) -> None:
    """Mean 0 and variance 1, of no batches."""
    module.track_running_stats = True
    module.running_mean, module.running_var = like.new_zeros(module.num_features), like.new_ones(module.num_features)
    module.num_batches_tracked = like.new_zeros((), dtype=torch.long)
