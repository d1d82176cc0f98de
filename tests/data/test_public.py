"""Public sets come from the first mirror that has them right; nothing else is kept."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from cmpnas.cli.app import main
from cmpnas.data.public import PUBLIC, PublicSet
from cmpnas.recipe import load_recipe

CONTENT = {"a.gz": b"first", "b.gz": b"second" * 1000}


class _Asked(SimpleHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirrors(tmp_path, monkeypatch):
    """Three mirrors on loopback: one is empty, one has damaged files, one is right."""
    served = tmp_path / "served"
    for mirror, change in (("empty", None), ("damaged", b"x"), ("right", b"")):
        (served / mirror).mkdir(parents=True)
        for name, content in CONTENT.items() if change is not None else ():
            (served / mirror / name).write_bytes(content + change)
    monkeypatch.setattr(_Asked, "asked", [])
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Asked, directory=str(served)))
    Thread(target=server.serve_forever, daemon=True).start()
    files = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}

    def use(*names: str) -> None:
        urls = tuple(f"http://127.0.0.1:{server.server_port}/{name}/" for name in names)
        monkeypatch.setitem(PUBLIC, "tiny_set", PublicSet("a set for tests", urls, files))

    yield use
    server.shutdown()
    server.server_close()


def get(root: Path, *more: str) -> int:
    return main(["data", "get", "tiny_set", "--data", str(root), *more])


def test_the_first_mirror_that_is_right_serves(mirrors, tmp_path, capsys):
    mirrors("empty", "damaged", "right")
    assert get(tmp_path / "data", "--json") == 0
    folder = tmp_path / "data" / "tiny_set"
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == CONTENT
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"folder": str(folder), "files": ["a.gz", "b.gz"]}
    assert not captured.err
    assert len(_Asked.asked) == 6


def test_what_is_there_is_not_loaded_again(mirrors, tmp_path, capsys):
    mirrors("right")
    assert get(tmp_path) == 0
    (tmp_path / "tiny_set" / "b.gz").unlink()
    assert get(tmp_path) == 0
    assert _Asked.asked == ["/right/a.gz", "/right/b.gz", "/right/b.gz"]
    assert f"cmpnas search --recipe tiny_set --data {tmp_path}" in capsys.readouterr().out


def test_damaged_files_are_not_kept(mirrors, tmp_path, capsys):
    mirrors("empty", "damaged")
    assert get(tmp_path) == 2
    assert not list((tmp_path / "tiny_set").iterdir())
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "404" in error
    assert "invalid hash value" in error
    assert "repeat the command" in error


def test_a_file_of_the_same_name_is_left_alone(mirrors, tmp_path, capsys):
    mirrors("right")
    other = tmp_path / "tiny_set" / "a.gz"
    other.parent.mkdir()
    other.write_bytes(b"mine")
    assert get(tmp_path) == 2
    assert other.read_bytes() == b"mine"
    assert "move it away" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["get", "fashion_mnits"], "unknown public data set 'fashion_mnits'. Did you mean 'fashion_mnist'?"),
        (["got", "fashion_mnist"], "Try: cmpnas data --help"),
        (["get"], "NAME"),
    ],
)
def test_mistakes_are_one_line(arguments, message, tmp_path, capsys):
    assert main(["data", *arguments, *(["--data", str(tmp_path)] if len(arguments) > 1 else [])]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["data", "get", "fashion_mnist", "--data", str(tmp_path / "file")]) == 2
    assert "cannot make" in capsys.readouterr().err


def test_public_sets_are_those_that_recipes_read(data_root):
    """The sums are those of the official files, and a recipe of the same name finds them in that folder."""
    for name, known in PUBLIC.items():
        recipe = load_recipe(name)
        assert recipe.data.folder == name
        assert {file for pair in recipe.data.files.values() for file in pair} == set(known.files)
        for file, sha256 in known.files.items():
            assert hashlib.sha256((data_root / name / file).read_bytes()).hexdigest() == sha256
