"""IJB-B and IJB-C (Maze et al., ICB 2018): open-set 1:N identification and 1:1 verification of templates.

Ground truth is a folder with the published lists (``NAME`` is ijbb or ijbc): ``NAME_face_tid_mid.txt`` (file,
template, media), ``NAME_1N_gallery_G1.csv`` and ``G2`` (S1 and S2 of IJB-B), ``NAME_1N_probe_mixed.csv``
(TEMPLATE_ID, SUBJECT_ID, ...) and ``NAME_template_pair_label.txt`` (template, template, 0 or 1). Embeddings are of the
faces, in the order of the first.

The two galleries are searched separately and then averaged; a shortcut through all negative *pairs* in one pooled
gallery, found in public code, is another quantity.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmpnas.data.lists import read_csv
from cmpnas.errors import DataError
from cmpnas.retrieval.bootstrap import interval
from cmpnas.retrieval.protocols.result import Result
from cmpnas.retrieval.similarity import as_matrix, must_share_space, unit_rows

FPIRS = (0.001, 0.01, 0.1)
FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_AT_ONCE = 2**18  # pairs of templates
_Templates = tuple[np.ndarray, np.ndarray]  # ids and unit vectors


@dataclass(frozen=True)
class Identification:
    """1:N of one gallery.

    Attributes:
        mated: best similarity to the probe's own subject, float ``(M,)``.
        wrong: best similarity of the same probes to anybody else, ``(M,)``.
        non_mated: best similarity of probes whose subject is not in the gallery, ``(U,)``.
    """

    mated: np.ndarray
    wrong: np.ndarray
    non_mated: np.ndarray

    def found(self, fpir: float) -> np.ndarray:
        """Per mated probe, whether it is identified: first, and above the threshold of ``fpir``."""
        return (self.mated > self.wrong) & (self.mated > self.threshold(fpir))

    def threshold(self, fpir: float) -> float:
        """The ``fpir``-th largest of the non-mated probes' best similarities."""
        place = max(int(len(self.non_mated) * fpir + 1e-9) - 1, 0)
        return float(np.sort(self.non_mated)[::-1][place])

    def tpir(self, fpir: float) -> float:
        """True positive identification rate; FNIR is 1 minus it."""
        return float(self.found(fpir).mean())


@dataclass(frozen=True)
class Faces:
    """The lists; template ids are sorted, rows of `pool` follow them.

    Attributes:
        template, media: int64 ``(F,)``, of each face.
        galleries: both, by name: (template ids, subject ids).
        probes: (template ids, subject ids).
        pairs: int64 ``(P, 3)``: template, template, same subject or not; None where the list is not there.
    """

    template: np.ndarray
    media: np.ndarray
    galleries: dict[str, tuple[np.ndarray, np.ndarray]]
    probes: tuple[np.ndarray, np.ndarray]
    pairs: np.ndarray | None

    @staticmethod
    def read(folder: Path) -> Faces:
        """The published lists of a folder.

        Raises:
            DataError: a list is missing or of another form.
        """
        found = sorted(folder.glob("ijb?_face_tid_mid.txt"))
        if not found:
            raise DataError(f"{folder} has no ijbc_face_tid_mid.txt; name the folder with the benchmark's lists.")
        name = found[0].name.split("_")[0]
        faces = _read_integers(found[0], columns=(1, 2))
        letter = "S" if name == "ijbb" else "G"
        galleries = {
            gallery: _templates(folder / f"{name}_1N_gallery_{gallery}.csv") for gallery in (f"{letter}1", f"{letter}2")
        }
        pairs = folder / f"{name}_template_pair_label.txt"
        return Faces(
            faces[:, 0],
            faces[:, 1],
            galleries,
            _templates(folder / f"{name}_1N_probe_mixed.csv"),
            _read_integers(pairs, columns=(0, 1, 2)) if pairs.exists() else None,
        )

    def pool(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Template ids ``(T,)`` and unit vectors float32 ``(T, D)``: frames of one media are averaged, media summed.

        Args:
            embeddings: ``(F, D)`` of the faces, not normalised before.
        """
        faces = as_matrix(embeddings, "face embeddings")
        if len(faces) != len(self.template):
            raise DataError(f"{len(faces)} embeddings; the benchmark lists {len(self.template)} faces.")
        both = np.stack([self.template, self.media], 1)
        media, member, frames = np.unique(both, axis=0, return_inverse=True, return_counts=True)
        means = _group_sums(np.asarray(faces, np.float32), member.ravel(), len(media)) / frames[:, None]
        templates, group = np.unique(media[:, 0], return_inverse=True)
        sums = _group_sums(means, group, len(templates))
        bad = np.flatnonzero(~(np.isfinite(sums).all(1) & sums.any(1)))
        if len(bad):
            raise DataError(f"the faces of template {templates[bad[0]]} add up to no direction; embed them again.")
        return templates, unit_rows(sums, "template")

    def _pool_both(self, query: np.ndarray, gallery: np.ndarray) -> tuple[_Templates, _Templates]:
        both = self.pool(query), self.pool(gallery)
        must_share_space(both[0][1], both[1][1])
        return both

    def identify(self, query: np.ndarray, gallery: np.ndarray) -> dict[str, Identification]:
        """1:N of both galleries, probes embedded by the query model and galleries by the gallery model."""
        return self._identify(*self._pool_both(query, gallery))

    def _identify(self, query: _Templates, gallery: _Templates) -> dict[str, Identification]:
        ids, probes = query
        probe = probes[_rows_of(ids, self.probes[0])]
        ids, enrolled = gallery
        return {
            name: _search(probe, self.probes[1], enrolled[_rows_of(ids, templates)], subjects)
            for name, (templates, subjects) in self.galleries.items()
        }

    @staticmethod
    def _verify(pairs: np.ndarray, query: _Templates, gallery: _Templates) -> tuple[np.ndarray, np.ndarray]:
        """1:1 similarities float32 ``(P,)`` of all pairs, the second template by the query model, and their labels."""
        same = pairs[:, 2].astype(bool)
        if same.all() or not same.any():
            raise DataError("1:1 needs pairs of the same and of different people; check the list of template pairs.")
        ids, enrolled = gallery
        first = _rows_of(ids, pairs[:, 0])
        ids, probes = query
        second = _rows_of(ids, pairs[:, 1])
        similarity = np.empty(len(first), np.float32)
        for start in range(0, len(first), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            similarity[part] = np.einsum("pd,pd->p", enrolled[first[part]], probes[second[part]])
        return similarity, same

    def results(self, query: np.ndarray, gallery: np.ndarray) -> list[Result]:
        """TPIR and FNIR at `FPIRS` of each gallery and their mean; TAR at `FARS` where pairs are listed."""
        lines: list[Result] = []
        both = self._pool_both(query, gallery)
        identified = self._identify(*both)
        for fpir in FPIRS:
            found = {name: one.found(fpir).astype(np.float64) for name, one in identified.items()}
            mean, queries = float(np.mean([own.mean() for own in found.values()])), sum(map(len, found.values()))
            lines += [_mean(f"1:N {name}", f"tpir@fpir={fpir:g}", own) for name, own in found.items()]
            lines.append(Result("1:N mean", f"tpir@fpir={fpir:g}", mean, None, queries))
            lines.append(Result("1:N mean", f"fnir@fpir={fpir:g}", 1 - mean, None, queries))
        if self.pairs is not None:
            similarity, same = self._verify(self.pairs, *both)
            lines += [_mean("1:1", f"tar@far={far:g}", accepted(similarity, same, far)) for far in FARS]
        return lines


def accepted(similarity: np.ndarray, same: np.ndarray, far: float) -> np.ndarray:
    """Per pair of the same person, 1 where it is accepted when the share ``far`` of the pairs of different people,
    rounded down, is; their mean is the true accept rate."""
    different = np.sort(similarity[~same])[::-1]
    allowed = int(len(different) * far + 1e-9)
    threshold = different[allowed] if allowed < len(different) else -np.inf
    return (similarity[same] > threshold).astype(np.float64)


def _mean(part: str, metric: str, values: np.ndarray) -> Result:
    return Result(part, metric, float(values.mean()), interval(values), len(values))


def _search(probe: np.ndarray, who: np.ndarray, enrolled: np.ndarray, subjects: np.ndarray) -> Identification:
    known = np.isin(who, subjects)
    if known.all() or not known.any():
        raise DataError("open-set search needs probes of people in the gallery and of others; check the lists.")
    own, other = np.empty(len(probe), np.float32), np.empty(len(probe), np.float32)
    rows = max(1, 2**24 // len(enrolled))
    for start in range(0, len(probe), rows):
        part = slice(start, start + rows)
        similarity = probe[part] @ enrolled.T
        same = who[part, None] == subjects[None]
        own[part] = np.where(same, similarity, -np.inf).max(1)
        other[part] = np.where(same, -np.inf, similarity).max(1)
    return Identification(own[known], other[known], other[~known])


def _group_sums(rows: np.ndarray, group: np.ndarray, n: int) -> np.ndarray:
    """Sum of the rows of each group: ``(n, D)``."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(n))
    return np.add.reduceat(rows[order], starts, axis=0)


def _rows_of(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    missing = np.flatnonzero(ids[place] != wanted)
    if len(missing):
        raise DataError(f"template {wanted[missing[0]]} is listed but has no face.")
    return place


def _templates(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Template and subject ids, a template once however many faces it lists."""
    rows = read_csv(path, ("TEMPLATE_ID", "SUBJECT_ID"))
    if not rows["TEMPLATE_ID"]:
        raise DataError(f"{path} lists no template; fetch it again.")
    try:
        ids = [[int(text) for text in rows[name]] for name in ("TEMPLATE_ID", "SUBJECT_ID")]
        both = np.unique(np.transpose(np.array(ids, np.int64)), axis=0)
    except (ValueError, OverflowError) as fault:
        raise DataError(f"{path} holds an id that is no number ({fault}).") from None
    if len(np.unique(both[:, 0])) != len(both):
        raise DataError(f"{path} lists a template with two subjects; fetch it again.")
    return both[:, 0], both[:, 1]


def _read_integers(path: Path, columns: tuple[int, ...]) -> np.ndarray:
    try:
        rows = np.loadtxt(path, np.int64, usecols=columns, ndmin=2, encoding="utf-8-sig")
        if not len(rows):
            raise ValueError("it is empty")
        return rows
    except (ValueError, IndexError) as fault:
        raise DataError(f"{path} is not columns of numbers ({str(fault).splitlines()[0]}); fetch it again.") from None
