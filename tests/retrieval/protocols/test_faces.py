"""IJB-C: the published lists, pooling by hand, and identification rates known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from cmpnas.errors import DataError
from cmpnas.retrieval.protocols import Faces
from cmpnas.retrieval.protocols.faces import accepted

SUBJECTS = 20  # of each gallery; every subject has one probe
HEADER = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT\n"


def synthetic(folder):
    """Subject i has gallery template 1000 + i with embedding e_i; its probe has template 2000 + i.

    A probe of gallery G1 or G2 (subjects 0 to 19, 20 to 39) has similarity (i % 20 + 1) / 25 to its own subject and,
    in the other gallery, (i % 20 + 1) / 50 to the subject of the same place. The first two probes of each gallery
    resemble their successor in their own gallery by .9.
    """
    total = 2 * SUBJECTS
    axes = np.eye(2 * total)
    faces = [axes[i] for i in range(total)]
    templates = [1000 + i for i in range(total)]
    for i in range(total):
        place = i % SUBJECTS
        vector = (place + 1) / 25 * axes[i] + (place + 1) / 50 * axes[(i + SUBJECTS) % total]
        if place < 2:
            vector = vector + 0.9 * axes[i + 1]
        faces.append(vector + np.sqrt(1 - vector @ vector) * axes[total + i])
        templates.append(2000 + i)
    lines = [f"{n}.jpg {t} {n}\n" for n, t in enumerate(templates, 1)]
    (folder / "ijbc_face_tid_mid.txt").write_text("".join(lines))
    for name, first in (("G1", 0), ("G2", SUBJECTS)):
        rows = [f"{1000 + i},{i},img/{i}.jpg,{i},1,2,3,4\n" for i in range(first, first + SUBJECTS)]
        (folder / f"ijbc_1N_gallery_{name}.csv").write_text(HEADER + "".join(rows))
    rows = [f"{2000 + i},{i},frames/{i}.png,{i},1,2,3,4\n" for i in range(total)] * 2  # two faces a template
    (folder / "ijbc_1N_probe_mixed.csv").write_text(HEADER + "".join(rows))
    pairs = [f"{1000 + i} {2000 + j} {int(i == j)}\n" for i in range(total) for j in range(total)]
    (folder / "ijbc_template_pair_label.txt").write_text("".join(pairs))
    return Faces.read(folder), np.array(faces)


def shortcut(faces, embeddings, f):
    """What a public script computes instead: both galleries as one, the threshold from all negative pairs."""
    ids, vectors = faces.pool(embeddings)
    at = {template: row for row, template in enumerate(ids)}
    enrolled = [pair for gallery in faces.galleries.values() for pair in zip(*gallery, strict=True)]
    probes = list(zip(*faces.probes, strict=True))
    own, negatives = [], []
    for probe, who in probes:
        for template, subject in enrolled:
            (own if who == subject else negatives).append(float(vectors[at[probe]] @ vectors[at[template]]))
    threshold = sorted(negatives, reverse=True)[int(np.ceil(len(probes) * f)) - 1]
    return np.mean([score > threshold for score in own])


def test_closed_form(tmp_path):
    faces, embeddings = synthetic(tmp_path)
    assert sorted(faces.galleries) == ["G1", "G2"]
    identified = faces.identify(embeddings, embeddings)
    # Probes of the other gallery score .02 to .40 here; of 20, the second largest is the threshold at FPIR .1: .38.
    # Own scores are .04 to .80, and the first two are not first.
    for one in identified.values():
        assert one.non_mated == pytest.approx(np.arange(1, 21) / 50)
        assert one.threshold(0.1) == pytest.approx(0.38)
        above = sum((place + 1) / 25 > 0.38 for place in range(SUBJECTS))
        assert one.tpir(0.1) == pytest.approx(above / SUBJECTS) == pytest.approx(11 / 20)
        assert one.tpir(1.0) == pytest.approx(18 / 20)  # all above the lowest, but the first two are not first
    lines = {(line.part, line.metric): line.value for line in faces.results(embeddings, embeddings)}
    assert lines["1:N mean", "tpir@fpir=0.1"] == pytest.approx(11 / 20)
    assert lines["1:N mean", "fnir@fpir=0.1"] == pytest.approx(9 / 20)
    # The shortcut's four largest negatives of all 40 x 39 pairs are .9: it accepts nobody at .1. At .2 its threshold is
    # the eighth largest, .38, where the protocol's is the fourth of 20, .34: 11 against 12 of 20.
    assert shortcut(faces, embeddings, 0.1) == 0
    assert shortcut(faces, embeddings, 0.2) == pytest.approx(11 / 20)
    assert identified["G1"].tpir(0.2) == pytest.approx(12 / 20)


def test_galleries_differ_and_are_averaged(tmp_path):
    faces, embeddings = synthetic(tmp_path)
    worse = embeddings.copy()
    worse[-1] = worse[-1] * 0 + np.eye(len(worse))[-1]  # the last probe of G2 resembles nobody
    lines = {(line.part, line.metric): line for line in faces.results(worse, embeddings)}
    first, second = (lines[f"1:N {name}", "tpir@fpir=0.1"].value for name in ("G1", "G2"))
    assert second < first
    assert lines["1:N mean", "tpir@fpir=0.1"].value == pytest.approx((first + second) / 2)


def test_templates_average_the_frames_of_a_video_and_add_up_media(tmp_path):
    faces, _ = synthetic(tmp_path)
    vectors = np.array([[1.0, 0], [3.0, 0], [0, 2.0], [5.0, 5.0]])
    pooled = Faces(np.array([7, 7, 7, 9]), np.array([1, 1, 2, 3]), faces.galleries, faces.probes, None)
    ids, unit = pooled.pool(vectors)
    assert ids.tolist() == [7, 9]
    assert unit == pytest.approx(np.array([[1, 1], [1, 1]]) / np.sqrt(2))  # (1 + 3) / 2 and 2


def test_verification_accepts_the_share_asked_for():
    similarity = np.concatenate([np.arange(10) / 10, np.arange(100) / 100])  # the same, then different people
    same = np.arange(110) < 10

    def tar(far):
        return accepted(similarity, same, far).mean()

    assert tar(0.1) == pytest.approx(0.1)  # ten impostors are above .89; of the own only .9
    assert tar(0.31) == pytest.approx(0.3)  # 31 above .68: .7, .8, .9
    assert tar(1.0) == 1.0
    assert tar(1e-6) == 0.0  # none may exceed .99


def test_wrong_lists_are_named(tmp_path):
    with pytest.raises(DataError, match="has no ijbc_face_tid_mid"):
        Faces.read(tmp_path)
    faces, embeddings = synthetic(tmp_path)
    with pytest.raises(DataError, match="3 embeddings; the benchmark lists 80 faces"):
        faces.pool(embeddings[:3])
    with pytest.raises(DataError, match="query embeddings have 80 dimensions, gallery embeddings 60"):
        faces.results(embeddings, embeddings[:, :60] + 1)
    with pytest.raises(DataError, match="the faces of template 1000 add up to no direction"):
        faces.results(embeddings * (np.arange(80) > 0)[:, None], embeddings)
    (tmp_path / "ijbc_1N_gallery_G1.csv").write_text(HEADER + "77777,1,a.jpg,1,1,1,1,1\n")
    with pytest.raises(DataError, match="template 77777 is listed but has no face"):
        Faces.read(tmp_path).identify(embeddings, embeddings)
    (tmp_path / "ijbc_1N_gallery_G1.csv").write_text(HEADER + "1,1,a.jpg,1,1,1,1,1\n1,2,b.jpg,1,1,1,1,1\n")
    with pytest.raises(DataError, match="a template with two subjects"):
        Faces.read(tmp_path)
    (tmp_path / "ijbc_1N_gallery_G1.csv").write_text(HEADER)
    with pytest.raises(DataError, match="lists no template"):
        Faces.read(tmp_path)
    (tmp_path / "ijbc_1N_gallery_G2.csv").unlink()
    (tmp_path / "ijbc_1N_gallery_G1.csv").write_text(HEADER + "1001,1,a.jpg,1,1,1,1,1\n")
    with pytest.raises(DataError, match=r"gallery_G2.* does not exist"):
        Faces.read(tmp_path)
    (tmp_path / "ijbc_face_tid_mid.txt").write_text("1.jpg one 2\n")
    with pytest.raises(DataError, match="is not columns of numbers"):
        Faces.read(tmp_path)
