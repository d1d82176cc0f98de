"""The search space of text encoders: bags of words, GRUs and small transformers, each with learned pooling.

An encoder is ``tokens - (positions) - layers - pool``. Costs are closed forms in the number of tokens ``L`` (a text is
padded to it), the width ``W`` and the embedding's ``D``, in multiply-adds:

* tokens and positions: none, they are looked up;
* a transformer layer of feed-forward ratio ``r``: ``4 L W^2 + 2 L^2 W + 2 r L W^2``, of which ``2 L^2 W`` are the two
  products of attention;
* a GRU layer: ``6 L W^2``, three gates of what comes and three of what is remembered;
* pooling: ``W D``, and ``2 L W`` more where the weights of words are learned.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cmpnas.cost.value import Cost, linear
from cmpnas.space import Block, Lattice, Layer
from cmpnas.space.arch import Value
from cmpnas.space.spec import Choice
from cmpnas.strict import Strict

Mixer = Literal["bag", "gru", "transformer"]
Pooling = Literal["weighted", "mean"]
_Whole = Annotated[int, Field(gt=0, le=1_000_000)]


class TextSpec(Strict):
    """What of a text encoder may vary. ``layers``, ``heads`` and ``ratio`` are of GRUs and transformers alone; each
    transformer layer decides on its own heads and feed-forward ratio."""

    vocabulary: Choice[_Whole] = (512, 1024, 2048)
    width: Choice[_Whole] = (64, 96, 128, 192)
    mixer: Choice[Mixer] = ("bag", "gru", "transformer")
    layers: Choice[_Whole] = (1, 2)
    heads: Choice[_Whole] = (2, 4)
    ratio: Choice[_Whole] = (1, 2, 4)
    pool: Choice[Pooling] = ("weighted", "mean")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        odd = [(width, heads) for width in self.width for heads in self.heads if width % heads]
        if odd and "transformer" in self.mixer:
            raise ValueError(f"a width of {odd[0][0]} cannot be cut into {odd[0][1]} heads")
        return self

    @property
    def open_decisions(self) -> list[str]:
        """Decisions with several values that matter to some encoder."""
        idle = {"bag": {"layers", "heads", "ratio"}, "gru": {"heads", "ratio"}}.get("+".join(self.mixer), set())
        return [name for name in TextSpec.model_fields if len(getattr(self, name)) > 1 and name not in idle]


class TextSpace:
    """A blueprint of text encoders; its ``size`` is the number of tokens."""

    name, unit, embedding_dim = "text", "tokens", 128

    def __init__(self, spec: TextSpec = TextSpec(), size: int = 24) -> None:  # noqa: B008
        self.spec, self.size = spec, size

    def lattice(self, size: int, embedding_dim: int) -> Lattice:
        """Nodes in the order of decisions: tokens, mixer, layers, pooling."""
        spec, lattice = self.spec, Lattice()
        root = lattice.add()
        # An edge must lead to a higher node: the widths' own nodes first, the pools' and the end after all others.
        chosen = {width: lattice.add() for width in spec.width}
        ends: list[tuple[int, int]] = []  # (node, width) where only pooling is left
        for vocabulary in spec.vocabulary:
            for width in spec.width:
                taken = (("vocabulary", vocabulary), ("width", width))
                _join(lattice, root, chosen[width], _layer("tokens", vocabulary, width, size), taken)
        for width, node in chosen.items():
            mixed: dict[Mixer, int] = {}
            for mixer in spec.mixer:
                mixed[mixer] = lattice.add()
                position = _layer("positions", width, width, size) if mixer == "transformer" else None
                _join(lattice, node, mixed[mixer], position, (("mixer", mixer),))
            for mixer, first in mixed.items():
                ends += [(first, width)] if mixer == "bag" else self._layers(lattice, first, width, mixer, size)
        end = lattice.add()
        for node, width in ends:
            for pool in spec.pool:
                _join(lattice, node, end, _layer("pool", width, embedding_dim, size, pool=pool), (("pool", pool),))
        return lattice

    def _layers(self, lattice: Lattice, first: int, width: int, mixer: str, size: int) -> list[tuple[int, int]]:
        """Chains of layers from ``first``, a chain for each depth; their last nodes."""
        found = []
        for depth in self.spec.layers:
            node = lattice.add()
            _join(lattice, first, node, None, (("layers", depth),))
            for number in range(1, depth + 1):
                after, position = lattice.add(), f"layer{number}"
                if mixer == "gru":
                    _join(lattice, node, after, _layer("gru", width, width, size, position), ())
                else:
                    for heads in self.spec.heads:
                        for ratio in self.spec.ratio:
                            layer = _layer("transformer", width, width, size, position, heads=heads, ratio=ratio)
                            taken = ((f"{position}.heads", heads), (f"{position}.ratio", ratio))
                            _join(lattice, node, after, layer, taken)
                node = after
            found.append((node, width))
        return found


def _layer(kind: str, cin: int, cout: int, size: int, position: str = "", **options: Value) -> Layer:
    own = {"tokens": size} if kind == "positions" else {}
    return Layer(position or kind, f"{__name__}:{kind.upper()}", cin, cout, 1, size, tuple((own | options).items()))


def _join(
    lattice: Lattice, origin: int, target: int, layer: Layer | None, choices: tuple[tuple[str, Value], ...]
) -> None:
    cost = Cost() if layer is None else _BLOCKS[layer.kind].cost(layer)
    lattice.join(origin, target, cost, layer, choices)


def _tokens_cost(layer: Layer) -> Cost:
    return Cost(0, layer.cin * layer.cout, layer.size + layer.size * layer.cout)


def _positions_cost(layer: Layer) -> Cost:
    return Cost(0, layer.size * layer.cout, layer.size * layer.cout)


def _transformer_cost(layer: Layer) -> Cost:
    length, width, inner = layer.size, layer.cout, layer.cout * layer.integer("ratio")
    heads, norms = layer.integer("heads"), 4 * width
    params = 4 * (width * width + width) + linear(width, inner).params + linear(inner, width).params + norms
    attended = 4 * length * width * width + 2 * length * length * width
    peak = length * width + max(3 * length * width + heads * length * length, length * inner + length * width)
    return Cost(attended + 2 * length * width * inner, params, peak)


def _gru_cost(layer: Layer) -> Cost:
    length, width = layer.size, layer.cout
    params = 6 * (width * width + width) + 2 * width  # six maps with biases, and the norm before them
    return Cost(6 * length * width * width, params, 2 * length * width + 4 * width)


def _pool_cost(layer: Layer) -> Cost:
    weighted = layer.option("pool") == "weighted"
    length, width = layer.size, layer.cin
    own = Cost(2 * length * width if weighted else 0, width + 1 if weighted else 0, length * width + length)
    return own + Cost(0, 2 * width) + linear(width, layer.cout)


TOKENS = Block(_tokens_cost, "cmpnas.text.blocks:Tokens")
POSITIONS = Block(_positions_cost, "cmpnas.text.blocks:Positions")
TRANSFORMER = Block(_transformer_cost, "cmpnas.text.blocks:Transformer", each=("heads", "ratio"))
GRU = Block(_gru_cost, "cmpnas.text.blocks:Gru")
POOL = Block(_pool_cost, "cmpnas.text.blocks:Pool", whole=("pool",))
_BLOCKS = {
    f"{__name__}:{name}": block
    for name, block in (
        ("TOKENS", TOKENS), ("POSITIONS", POSITIONS), ("TRANSFORMER", TRANSFORMER), ("GRU", GRU), ("POOL", POOL)
    )
}  # fmt: skip
