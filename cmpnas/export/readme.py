"""``README.md`` of a bundle: what it is and ten lines that use it."""

from __future__ import annotations

from typing import Any

from cmpnas.export.bundle import ALIGN, GALLERY, INT8, ONNX, PARTS, PROGRAM, SOURCE, WEIGHTS8
from cmpnas.export.pictures import Pictures

_ABOUT = {
    ONNX: "the query encoder in float32, for any runtime that reads ONNX",
    INT8: "the same in int8, for processors that are faster in it; measure on yours",
    WEIGHTS8: "the same, weights in int8, sums in float32: small, as fast as float32 where constants are folded",
    PROGRAM: "the same for torch: `torch.export.load`",
    SOURCE: "the same as plain source; `load()` needs torch alone",
    "weights.pt": f"the weights of `{SOURCE}`",
    GALLERY: "the gallery side that built the index, from pictures to stored vectors",
    PARTS: "the gallery side from what its models said of an image to the stored vector",
    ALIGN: "from a vector as it is stored to the vector that this encoder is to search",
    "arch.json": "the architecture, for cmpnas",
}

_TEXT = """# Query encoder {id}

Embeds pictures so that they can be searched for in an index that the gallery option `{gallery}` built
(hash {index}): no other index will do. {mflops:.3f} MFLOPs (million multiply-adds) a picture,
{params:.3f} M parameters. Against that index{aligned}: {metric} {score:.4f} [{low:.4f}, {high:.4f}],
{split} split{learned}, {queries} queries.

Input `images`: {dtype} {shape}, {colour}, {range}{before}.
Output `embedding`: float32 (N, {dim}), unit length; compare by inner product.

```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{onnx}")
images = np.zeros((2, {sides}), np.{dtype})  # your pictures
query = session.run(None, {{"images": images}})[0]
# gallery: the stored vectors, float32 (items, {dim}){through}
# best = np.argsort(-(query @ gallery.T), axis=1)[:, :10]
```

{files}
{gallery_files}
`manifest.json` has everything: hashes, scores with intervals, costs with units, how this was checked. To check again:
`cmpnas verify . --index index.faiss --data DIR`.
"""


_THROUGH = f"""; aligned once, some thousands at a time:
# align = onnxruntime.InferenceSession("{ALIGN}")
# gallery = align.run(None, {{"vectors": gallery}})[0]"""
_JOINED = """
# and joined by `own`, what this encoder says of the same pictures in the same order:
# gallery = gallery + own
# gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)"""
_FLATTERING = " (whose pictures it learned from: the score flatters it)"
_TAUGHT = " (it learned from the pictures of that index, not from these queries)"
_STEPS = {"heterogeneous": "", "aligned": _THROUGH, "joined": _THROUGH + _JOINED}
_PREPARED = {
    "heterogeneous": "",
    "aligned": f", its vectors taken through `{ALIGN}` once",
    "joined": f", its vectors taken through `{ALIGN}` once and joined by this encoder's own",
}


def readme(manifest: dict[str, Any]) -> str:
    """The text, from what the manifest says."""
    query, gallery, scores = manifest["query"], manifest["gallery"], manifest["scores"]
    taken = manifest["input"]
    low, high = scores["heterogeneous"]["interval"]
    return _TEXT.format(
        id=query["id"],
        gallery=gallery["name"],
        index=gallery["index"],
        mflops=query["mflops"],
        params=query["params_m"],
        metric=scores["metric"],
        score=scores["heterogeneous"]["score"],
        low=low,
        high=high,
        split=scores["split"],
        learned=_FLATTERING if scores["learned_from_split"] else _TAUGHT if scores["index_is_learned"] else "",
        queries=scores["queries"],
        dtype=taken["dtype"],
        shape="({})".format(", ".join(map(str, ("N", *taken["shape"][1:])))),
        colour=taken["colour"],
        range=f"{taken['range'][0]} to {taken['range'][1]}",
        before="; " + ", ".join(taken["before"]) if taken["before"] else "",
        sides=", ".join(map(str, Pictures.from_json(taken).shape)),
        dim=manifest["embedding_dim"],
        aligned=_PREPARED[scores["index"]],
        through=_STEPS[scores["index"]],
        onnx=ONNX,
        files="\n".join(f"- `{name}`: {_ABOUT[name]}" for name in _ABOUT if name in manifest["files"]),
        gallery_files=_gallery_side(gallery, manifest.get("gallery_files", {})),
    )


def _gallery_side(gallery: dict[str, Any], files: dict[str, Any]) -> str:
    """What goes into the gallery side's files and comes out, and the models that it is made of."""
    lines = []
    for name, file in files.items():
        taken = ", ".join(map(_value, file["inputs"]))
        lines.append(f"`{name}` takes {taken} and gives {', '.join(map(_value, file['outputs']))}.")
    if PARTS in files:
        hashes = "; ".join(
            f"`{model['name']}` {model['model']}"
            + (f", transform {model['transform']}" if model.get("transform") else "")
            for model in gallery["models"]
        )
        lines.append(f"Vectors may have any length. Models, by their hashes: {hashes}.")
    if files and "reject" in gallery:
        lines.append(f"Leave what has a `distance` above {gallery['reject']['limit']:.9g} out of the index.")
    return "".join(f"\n{line}\n" for line in lines)


def _value(value: dict[str, Any]) -> str:
    """An input or an output of a file."""
    return f"`{value['name']}` {value['dtype']} ({', '.join(map(str, ('N', *value['shape'][1:])))})"
