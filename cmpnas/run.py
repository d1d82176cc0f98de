"""The run folder: where everything of one run is, and the promise that it is of one recipe."""

from __future__ import annotations

import fcntl
import json
import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from cmpnas.changes import differences, told
from cmpnas.distributed import rank
from cmpnas.errors import CmpnasError, RunError
from cmpnas.files import append_line, drop_partial_line, hash_of, read_json, whole_lines, write, write_json
from cmpnas.problems import read_yaml
from cmpnas.provenance import machine, versions
from cmpnas.recipe import Experiment, Recipe, TextRecipe, check_recipe

#: What a start that was killed at once may leave behind.
_FIRST = ("recipe.yaml", "recipe.yaml.partial", "manifest.json.partial", "lock")


@dataclass(frozen=True)
class Folder:
    """Paths of one run and what is recorded beside its results, whatever kind of recipe it is of."""

    path: Path
    recipe: Experiment

    @property
    def supernet(self) -> Path:
        return self.path / "supernet.pt"

    def supernet_checkpoint(self, key: str) -> Path:
        """Of a supernet made of what ``key`` names; one that was begun of something else is not gone on with."""
        return self.path / f"supernet.checkpoint.{key}.pt"

    @property
    def records(self) -> Path:
        return self.path / "records.jsonl"

    @property
    def ahead(self) -> Path:
        return self.path / "records.ahead.jsonl"

    @property
    def study(self) -> str:
        """The name of this run's tasks in a storage, like that of no other run."""
        manifest = self.manifest()
        return f"{self.recipe.name}-{manifest.get('id', manifest['recipe_hash'])}"

    @property
    def queries(self) -> Path:
        return self.path / "queries"

    @property
    def front(self) -> Path:
        return self.path / "front.json"

    def trained(self, name: str) -> Path:
        """Where the network of this name (an id, and what is special about its training) is trained."""
        return self.path / "trained" / name

    @classmethod
    def begin(cls, path: Path, recipe: Experiment, *, resume: bool, data: str) -> Self:
        """Open ``path`` for ``recipe``, or make it.

        Args:
            data: fingerprint of the data set.

        Raises:
            RunError: it holds a run of another recipe or other data, or one that was interrupted and
                ``resume`` is not given.
        """
        folder = cls(path, recipe)
        manifest = path / "manifest.json"
        if manifest.exists():
            folder._must_match(cls.open(path), data)
            if not resume and not folder.front.exists():
                raise RunError(f"{path} holds an interrupted run; add --resume to continue it, or name another --run.")
        elif path.is_dir() and any(file.name not in _FIRST for file in path.iterdir()):
            raise RunError(f"{path} is not empty and not a run folder; name another --run.")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise RunError(f"cannot make run folder {path}: {fault.strerror}; name another --run.") from None
        if not manifest.exists():
            write(path / "recipe.yaml", recipe.to_yaml())
            write_json(manifest, _manifest(recipe, data))
        return folder

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a run that exists.

        Raises:
            RunError: ``path`` is not a run folder, or not of this kind.
        """
        found = open_run(path)
        if not isinstance(found, cls):
            kind = "texts (task: text)" if isinstance(found, TextRunFolder) else "pictures"
            raise RunError(f"{path} is a run of {kind}; this command is not for those.")
        return found

    def manifest(self) -> dict[str, Any]:
        """What the run was made with.

        Raises:
            RunError: the file is damaged.
        """
        return _mapping(self.path / "manifest.json", "test_opened")

    def must_be_of(self, data: str, advice: str) -> None:
        """Check that the run was made from the data with this fingerprint.

        Raises:
            RunError: it was not; ``advice`` says what to do.
        """
        if (known := self.manifest().get("data")) != data:
            raise RunError(f"{self.path} was made from other data (fingerprint {known}, now {data}); {advice}.")

    def note_opened(self, split: str) -> None:
        """Note in the manifest that the test split is opened now, if ``split`` is that."""
        if split == "test":
            manifest = self.manifest()
            manifest["test_opened"].append(datetime.now(UTC).isoformat(timespec="seconds"))
            write_json(self.path / "manifest.json", manifest)

    def read_front(self) -> dict[str, Any]:
        """The content of ``front.json``.

        Raises:
            RunError: the search has not ended, or the file is damaged.
        """
        if not self.front.exists():
            raise RunError(f"{self.path} has no front.json; finish the search with: {self.resume_command()}")
        return _mapping(self.front, "pairs")

    def resume_command(self) -> str:
        """What to type to go on with this run."""
        command = ("cmpnas", "search", "--recipe", self.path / "recipe.yaml", "--run", self.path, "--resume")
        return shlex.join(map(str, command))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from working on this run meanwhile.

        The processes of ``torchrun`` count as one.

        Raises:
            RunError: another process is at it.
        """
        if rank() > 0:
            yield
            return
        with (self.path / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunError(
                    f"another process is working on {self.path}; wait for it, or name another --run."
                ) from None
            yield

    @contextmanager
    def adopted(self, say: Callable[[str], None]) -> Iterator[None]:
        """Make this recipe that of the run, unless something refuses it (`CmpnasError`): then the former one stays.

        ``say`` is told what changes.
        """
        if rank() > 0:
            yield
            return
        path = self.path / "recipe.yaml"
        former = path.read_text(encoding="utf-8")
        there, here = (of.model_dump(mode="json", by_alias=True) for of in (open_run(self.path).recipe, self.recipe))
        for key, old, new in differences(there, here):
            say(f"recipe: {key} is {told(new)} from now on; it was {told(old)}")
        write(path, self.recipe.to_yaml())
        try:
            yield
        except CmpnasError:
            write(path, former)
            raise

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Append the seconds that a stage took to ``timings.jsonl``."""
        start = time.perf_counter()
        yield
        if rank() > 0:
            return
        path = self.path / "timings.jsonl"
        drop_partial_line(path)
        append_line(path, {"stage": stage, "seconds": round(time.perf_counter() - start, 3)})

    def seconds(self) -> dict[str, float]:
        """Seconds by stage, of all starts together."""
        total: dict[str, float] = {}
        path = self.path / "timings.jsonl"
        for line in whole_lines(path):
            try:
                entry = json.loads(line)
                total[entry["stage"]] = round(total.get(entry["stage"], 0.0) + entry["seconds"], 3)
            except (ValueError, KeyError, TypeError) as fault:
                raise RunError(f"{path} is damaged ({fault}); delete it, nothing else depends on it.") from None
        return total

    def _must_match(self, found: Folder, data: str) -> None:
        for key, there, here in differences(found.recipe.identity(), self.recipe.identity()):
            raise RunError(
                f"{self.path} holds a run of another recipe ({key} is {told(there)} there, {told(here)} here); "
                "name another --run."
            )
        self.must_be_of(data, "name another --run")


@dataclass(frozen=True)
class RunFolder(Folder):
    """A run of pictures that ask for pictures."""

    recipe: Recipe

    @property
    def gallery(self) -> Path:
        return self.path / "gallery" / self.recipe.gallery.name


@dataclass(frozen=True)
class TextRunFolder(Folder):
    """A run of texts that ask for pictures."""

    recipe: TextRecipe

    @property
    def tokeniser(self) -> Path:
        return self.path / "tokeniser.json"

    @property
    def fine(self) -> Path:
        return self.path / "fine.pt"

    @property
    def index(self) -> Path:
        return self.path / "index"

    def regions(self, split: str) -> Path:
        """Regions of the pictures of one split."""
        return self.path / "regions" / f"{split}.npy"


def open_run(path: Path) -> RunFolder | TextRunFolder:
    """Open a run that exists, of whichever kind.

    Raises:
        RunError: ``path`` is not a run folder.
    """
    if not (path / "manifest.json").exists() or not (path / "recipe.yaml").exists():
        raise RunError(f"{path} is not a run folder; make one with: cmpnas search --run {path}")
    recipe = check_recipe(read_yaml(path / "recipe.yaml", RunError), str(path / "recipe.yaml"))
    return TextRunFolder(path, recipe) if isinstance(recipe, TextRecipe) else RunFolder(path, recipe)


def _mapping(path: Path, key: str) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or key not in content:
        raise RunError(f"{path} has no {key!r}; it is damaged or of another program.")
    return content


def _manifest(recipe: Experiment, data: str) -> dict[str, Any]:
    return {
        "id": secrets.token_hex(4),
        "recipe": recipe.name,
        "recipe_hash": hash_of(recipe.identity()),
        "seed": recipe.seed,
        "data": data,
        "versions": versions(),
        "machine": machine(),
        "test_opened": [],
    }
