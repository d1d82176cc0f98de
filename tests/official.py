"""Small files in the layouts in which large data sets are published."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_picture(path: Path, seed: int, width: int = 24, height: int = 20) -> None:
    """A JPEG of coarse noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(256, size=(3, 4, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height)).save(path)


def write_deepfashion2(root: Path) -> None:
    """Pairs 1 to 8, 20 and 40 in train, 1 to 3 in validation: two user and two shop pictures each, of items of
    style 1 and 2 and, in shops, one of style 0."""
    for split, pairs in (("train", [*range(1, 9), 20, 40]), ("validation", range(1, 4))):
        number = 0
        for pair in pairs:
            for source in ("user", "user", "shop", "shop"):
                number += 1
                items = {"item2": _item(2, [10, 4, 22, 18]), "item1": _item(1, [0, 0, 9, 20])}
                if source == "shop":
                    items["item3"] = _item(0, [3, 3, 20, 17])
                annotation = {**items, "source": source, "pair_id": pair}
                write_picture(root / split / "image" / f"{number:06d}.jpg", 100 * pair + number)
                path = root / split / "annos" / f"{number:06d}.json"
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps(annotation))


def _item(style: int, box: list[int]) -> dict[str, object]:
    left, top, right, bottom = box
    return {
        "segmentation": [[left, top, right, top, right, bottom]], "scale": 2, "viewpoint": 2, "zoom_in": 1,
        "landmarks": [left, top, 1, 0, 0, 0], "style": style, "bounding_box": box, "category_id": 9, "occlusion": 2,
        "category_name": "skirt",
    }  # fmt: skip


def write_identities(root: Path, n: int = 202) -> None:
    """Identities ``n000000`` and on of one face each; those whose numbers divide by 100 have six."""
    for identity in range(n):
        for face in range(1 if identity % 100 else 6):
            write_picture(root / f"n{identity:06d}" / f"{face}.jpg", identity, 16, 16)


def gldv2_id(landmark: int, picture: int) -> str:
    """A made-up id, whose first letters differ."""
    return f"{(landmark * 7919 + picture * 104729) % 16**3:03x}{landmark:06x}{picture:07x}"


def write_gldv2(root: Path) -> dict[int, list[str]]:
    """Twelve landmarks of five pictures with train_clean.csv and train.csv; returns the ids of each."""
    ids = {landmark: [gldv2_id(landmark, n) for n in range(5)] for landmark in (0, *range(1, 9), 100, 200, 300)}
    clean, plain = ["landmark_id,images"], ["id,url,landmark_id"]
    for landmark, names in ids.items():
        clean.append(f"{landmark},{' '.join(names)}")
        for name in names:
            write_picture(root / "train" / name[0] / name[1] / name[2] / f"{name}.jpg", landmark)
    for n in range(5):
        plain += [f'{names[n]},"https://a.b/c,d.jpg",{landmark}' for landmark, names in ids.items()]
    (root / "train_clean.csv").write_text("\n".join(clean) + "\n")
    (root / "train.csv").write_text("\n".join(plain) + "\n")
    return ids
