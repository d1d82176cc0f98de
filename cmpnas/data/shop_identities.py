"""Who the products of the embedded ``shop`` are: shape, parts, colours, pattern, print and caption."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PALETTE = {
    "red": (0.80, 0.13, 0.15), "orange": (0.93, 0.50, 0.13), "yellow": (0.93, 0.82, 0.20),
    "green": (0.18, 0.55, 0.24), "teal": (0.12, 0.58, 0.58), "blue": (0.16, 0.32, 0.73),
    "navy": (0.10, 0.14, 0.36), "purple": (0.48, 0.22, 0.62), "pink": (0.92, 0.55, 0.68),
    "brown": (0.46, 0.29, 0.16), "grey": (0.52, 0.53, 0.55), "black": (0.11, 0.11, 0.12),
    "white": (0.93, 0.93, 0.91), "beige": (0.84, 0.75, 0.60),
}  # fmt: skip

#: Half-width of the silhouette at eight heights, top to bottom, and the half-height.
PROFILES = {
    "mug": ((0.44, 0.44, 0.44, 0.44, 0.44, 0.44, 0.43, 0.40), 0.50),
    "bottle": ((0.13, 0.13, 0.14, 0.26, 0.31, 0.31, 0.31, 0.29), 0.76),
    "vase": ((0.27, 0.18, 0.17, 0.30, 0.42, 0.44, 0.36, 0.24), 0.70),
    "shirt": ((0.30, 0.40, 0.40, 0.38, 0.37, 0.37, 0.38, 0.39), 0.62),
    "dress": ((0.20, 0.25, 0.24, 0.22, 0.30, 0.39, 0.47, 0.54), 0.76),
    "bag": ((0.42, 0.45, 0.48, 0.50, 0.52, 0.53, 0.54, 0.53), 0.46),
    "lamp": ((0.26, 0.36, 0.46, 0.56, 0.07, 0.07, 0.22, 0.30), 0.70),
    "jar": ((0.30, 0.40, 0.43, 0.43, 0.43, 0.43, 0.43, 0.38), 0.58),
    "bowl": ((0.66, 0.66, 0.63, 0.58, 0.50, 0.40, 0.26, 0.28), 0.36),
    "cushion": ((0.60, 0.56, 0.54, 0.53, 0.53, 0.54, 0.56, 0.60), 0.56),
}
CATEGORIES = tuple(PROFILES)
PARTS = {  # the part that goes with each category
    "mug": "handle", "bottle": "cap", "vase": "handles", "shirt": "sleeves", "dress": "belt",
    "bag": "strap", "lamp": "cap", "jar": "lid", "bowl": "handles", "cushion": "tassels",
}  # fmt: skip
PATTERNS = ("plain", "striped", "checked", "dotted", "banded")
PRINTS = ("none", "disc", "triangle", "square", "star", "flower", "ring")
_ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
_FREQUENCIES = (5.0, 9.0, 14.0)
_FAMILY = 4  # siblings share a shape and most of a look


@dataclass(frozen=True)
class Identities:
    """``n`` products as arrays, row ``i`` of each describing product ``i``.

    ``category``, ``pattern``, ``print_shape`` and ``part_on`` are int64 ``(n,)``; ``profile`` is
    float32 ``(n, 8)``; the colours are float32 ``(n, 3)`` in [0, 1]; the rest float32 ``(n,)``.
    """

    category: np.ndarray
    profile: np.ndarray
    half_height: np.ndarray
    part_on: np.ndarray
    part_size: np.ndarray
    pattern: np.ndarray
    angle: np.ndarray
    frequency: np.ndarray
    print_shape: np.ndarray
    print_size: np.ndarray
    print_x: np.ndarray
    print_y: np.ndarray
    body_colour: np.ndarray
    pattern_colour: np.ndarray
    part_colour: np.ndarray
    print_colour: np.ndarray
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.category)


def draw_identities(n: int, seed: int) -> Identities:
    """Draw ``n`` products in families of four siblings.

    Siblings share category, silhouette and body colour and differ in a few of the other
    attributes, so that neither shape nor colour alone tells them apart.
    """
    rng = np.random.default_rng([seed, 101])
    families = -(-n // _FAMILY)
    attributes = {
        "category": len(CATEGORIES), "body": len(PALETTE), "second": len(PALETTE) - 1,
        "part_colour": len(PALETTE), "print_colour": len(PALETTE) - 1, "pattern": len(PATTERNS),
        "angle": len(_ANGLES), "frequency": len(_FREQUENCIES), "print": len(PRINTS),
        "place": 3, "part_on": 4,
    }  # fmt: skip
    fixed = {"category", "body"}
    drawn = {}
    for name, size in attributes.items():
        base = np.repeat(rng.integers(size, size=families), _FAMILY)
        own = rng.integers(size, size=families * _FAMILY)
        keep = (rng.random(families * _FAMILY) < 0.4) | (name in fixed)
        drawn[name] = np.where(keep, base, own)[:n]

    jitter = np.repeat(rng.normal(1.0, 0.09, (families, 8)), _FAMILY, axis=0)[:n]
    stretch = np.repeat(rng.uniform(0.85, 1.12, families), _FAMILY)[:n]
    shapes = list(PROFILES.values())
    profile = np.array([shapes[c][0] for c in drawn["category"]]) * jitter
    half_height = np.array([shapes[c][1] for c in drawn["category"]]) * stretch

    colours = np.array(list(PALETTE.values()))
    second = (drawn["body"] + 1 + drawn["second"]) % len(PALETTE)  # never the body's own colour
    printed = (drawn["body"] + 1 + drawn["print_colour"]) % len(PALETTE)

    def colour(index: np.ndarray) -> np.ndarray:
        shade = colours[index] + rng.normal(0, 0.035, (n, 3))
        return np.clip(shade, 0, 1).astype(np.float32)

    f32 = np.float32
    names = list(PALETTE)
    part_on = (drawn["part_on"] > 0).astype(np.int64)  # three products in four have their part
    return Identities(
        category=drawn["category"],
        profile=profile.astype(f32),
        half_height=half_height.astype(f32),
        part_on=part_on,
        part_size=rng.uniform(0.8, 1.25, n).astype(f32),
        pattern=drawn["pattern"],
        angle=np.array(_ANGLES, f32)[drawn["angle"]],
        frequency=np.array(_FREQUENCIES, f32)[drawn["frequency"]],
        print_shape=drawn["print"],
        print_size=rng.uniform(0.16, 0.25, n).astype(f32),
        print_x=rng.uniform(-0.08, 0.08, n).astype(f32),
        print_y=((drawn["place"] - 1) * 0.2).astype(f32),
        body_colour=colour(drawn["body"]),
        pattern_colour=colour(second),
        part_colour=colour(drawn["part_colour"]),
        print_colour=colour(printed),
        captions=tuple(
            _caption(
                CATEGORIES[drawn["category"][i]],
                names[drawn["body"][i]],
                PATTERNS[drawn["pattern"][i]],
                names[second[i]],
                PRINTS[drawn["print"][i]],
                names[printed[i]],
                bool(part_on[i]),
                names[drawn["part_colour"][i]],
            )
            for i in range(n)
        ),
    )


def _caption(
    category: str,
    body: str,
    pattern: str,
    second: str,
    shape: str,
    printed: str,
    part_on: bool,
    part_colour: str,
) -> str:
    text = f"a {body} {category}"
    if pattern != "plain":
        text = f"a {body} {category}, {pattern} in {second}"
    extras = []
    if shape != "none":
        extras.append(f"a {printed} {shape}")
    if part_on:
        part = PARTS[category]
        extras.append(f"{part_colour} {part}" if part.endswith("s") else f"a {part_colour} {part}")
    return text + (" with " + " and ".join(extras) if extras else "")
