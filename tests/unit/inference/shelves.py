"""A registry of models on a folder, and who is told of them, for tests of the models at work."""

import atexit
from collections import Counter
from dataclasses import replace
import functools
import hashlib
from pathlib import Path
import shutil
import tempfile

import numpy as np

from fraudstream.inference.fitness import LEAST_ROWS
from fraudstream.inference.registry import Registered
from fraudstream.inference.registry import Registry
from fraudstream.inference.registry import RegistryUnreachable
from fraudstream.model.network import predict
from unit.model.example_bundles import tiny_manifest
from unit.model.example_bundles import tiny_network
from unit.model.example_bundles import tiny_rows
from unit.model.example_bundles import write_tiny

TRAFFIC = tiny_rows(LEAST_ROWS, seed=5)


@functools.cache
def made(seed: int, **manifest: object) -> Path:
    """Return a bundle to copy: a tenth of the traffic are alerts to it, unless told otherwise."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    threshold = float(np.quantile(predict(tiny_network(seed), TRAFFIC), 0.9))
    write_tiny(folder, replace(tiny_manifest(), **{"threshold": threshold, **manifest}), seed=seed)
    return folder


class Shelf(Registry):
    """A registry on a folder: versions are folders, and it can be out of reach."""

    def __init__(self, folder: Path, name: str = "shelf") -> None:
        super().__init__(f"http://{name}", "tiny-detector")
        vars(self).update(
            folder=folder / name, name=name, aliases={}, reachable=True, digests={}, fetched=[]
        )

    folder: Path
    name: str
    aliases: dict[str, str]
    reachable: bool
    digests: dict[str, str]
    fetched: list[str]

    def set(self, **changed: object) -> None:
        vars(self).update(changed)

    def add(self, version: str, seed: int = 0, alias: str = "champion", **manifest: object) -> Path:
        folder = Path(shutil.copytree(made(seed, **manifest), self.folder / version))
        self.digests[version] = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
        self.aliases[alias] = version
        return folder

    def bearing(self, *aliases: str) -> dict[str, Registered]:
        if not self.reachable:
            raise RegistryUnreachable("no MLflow server answers")
        return {
            alias: Registered(version, f"{self.name}-{version}", 1_000, self.digests[version])
            for alias, version in self.aliases.items()
            if alias in aliases
        }

    def fetch(self, version: str, folder: Path) -> Path:
        if not self.reachable:
            raise RegistryUnreachable("no artifact store answers")
        self.fetched.append(version)
        return Path(shutil.copytree(self.folder / version, folder / "bundle"))


class Told:
    """Remembers what became of models."""

    def __init__(self) -> None:
        self.serving: dict[str, str] = {}
        self.refusals: Counter[tuple[str, str]] = Counter()

    def serves(self, role, bundle, since_s):
        self.serving.pop(role, None)
        if bundle is not None:
            assert since_s == 1.0
            self.serving[role] = bundle.version

    def refused(self, role, check):
        self.refusals[role, check] += 1
