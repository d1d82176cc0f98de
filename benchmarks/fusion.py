"""embed step first"""
from pathlib import Path
import sys
import torch
from cmpnas.data import load_splits
from cmpnas.data.items import union
from cmpnas.gallery.fusion import fill_bank
from cmpnas.gallery.settings import LocalSettings, OnnxSettings
from cmpnas.gallery.sources import of_brought
from cmpnas.recipe import load_recipe

_MODELS = {
    "v2": ("mobilenet_v2_imagenet_a", "t171"),
    "v1": ("mobilenet_v1_imagenet", "t81"),
    "v1_075": ("mobilenet_v1_075_192_imagenet", "t81"),
    "insects": ("mobilenet_v2_insects", "t167"),
}

torch.set_num_threads(1)
work = Path(sys.argv[1])
recipe = load_recipe("grocery")
splits = load_splits(recipe.data, None)
sources = [
    of_brought(
        OnnxSettings(kind="onnx", name=name, file=f"pretrained/{file}.onnx"),
        LocalSettings(tokens=9, output=value), recipe.data, None,
    )
    for name, (file, value) in _MODELS.items()
]
fill_bank(work / "learn", sources, union([splits.train, splits.pool, splits.search.query, splits.search.gallery]), splits.fingerprint)
print("learn done", flush=True)
fill_bank(work / "test", sources, union([splits.test.query, splits.test.gallery]), splits.fingerprint)
print("test done", flush=True)
