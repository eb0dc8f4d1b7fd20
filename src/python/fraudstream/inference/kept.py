"""Models on this machine: checked bundles, which of them serve, and which batch used which."""

from collections.abc import Iterable
from collections.abc import Mapping
from pathlib import Path
import shutil
from typing import Any

import orjson
import structlog

from fraudstream.features.definitions import FeatureSet
from fraudstream.inference.durable import write_once
from fraudstream.inference.durable import write_whole
from fraudstream.model.bundle import Bundle
from fraudstream.model.bundle import BundleRefused
from fraudstream.model.bundle import load_bundle

_BATCHES_REMEMBERED = 20

log = structlog.get_logger()

#: What names a model for ever: its version, which two registries may both have, and its digest.
Name = tuple[str, str]


class Kept:
    """A folder of models.

    Parameters
    ----------
    folder
        Holds a folder for each bundle, a document for each batch that is remembered, and one for
        what serves. Made if absent.
    feature_set
        The features that are served: a bundle trained on others is refused.
    """

    def __init__(self, folder: Path, feature_set: FeatureSet) -> None:
        self._bundles = folder / "bundles"
        self._batches = folder / "batches"
        self._serving = folder / "serving.json"
        self._feature_set = feature_set
        #: For what is not checked yet; on the same file system. What was left in it is removed.
        self.incoming = folder / "incoming"
        shutil.rmtree(self.incoming, ignore_errors=True)
        for each in (self._bundles, self._batches, self.incoming):
            each.mkdir(parents=True, exist_ok=True)

    def keep(self, found: Path, version: str) -> Bundle:
        """Check the bundle in a folder, move it here, and return it.

        Raises
        ------
        BundleRefused
            If it fails a check. It stays where it is.
        """
        bundle = load_bundle(found, self._feature_set, version)
        try:
            return self.load(name_of(bundle))
        except BundleRefused:
            # It is not here, or damaged by now.
            shutil.rmtree(self._place(name_of(bundle)), ignore_errors=True)
            shutil.move(found, self._place(name_of(bundle)))
        return bundle

    def load(self, name: Name) -> Bundle:
        """Return a bundle that is kept here, after all checks.

        Raises
        ------
        BundleRefused
            If it is not here, or fails a check.
        """
        version, digest = name
        bundle = load_bundle(self._place(name), self._feature_set, version)
        if bundle.digest != digest:
            raise BundleRefused(
                self._place(name), "digest", f"expected {digest}, got {bundle.digest}"
            )
        return bundle

    def holds(self, name: Name) -> bool:
        """Return whether something is kept under this name."""
        return self._place(name).exists()

    def files(self, bundle: Bundle) -> dict[str, bytes]:
        """Return the files of a kept bundle, for workers on other machines."""
        return {
            file.name: file.read_bytes() for file in sorted(self._place(name_of(bundle)).iterdir())
        }

    def remember(self, batch: int, document: Mapping[str, Any]) -> dict[str, Any]:
        """Note durably what a batch is scored with, and return what is noted of it.

        That is what was there first: a driver that was given up, and does not know it yet, must
        not change it. A batch of long ago is forgotten.
        """
        file = self._batches / f"{batch}.json"
        if not write_once(file, document):
            log.warning("batch was begun by another driver", batch=batch)
        (self._batches / f"{batch - _BATCHES_REMEMBERED}.json").unlink(missing_ok=True)
        noted: dict[str, Any] = orjson.loads(file.read_bytes())
        return noted

    def remembered(self, batch: int) -> dict[str, Any] | None:
        """Return what was noted of a batch, or ``None`` if nothing was."""
        return _read(self._batches / f"{batch}.json")

    def note_serving(self, document: Mapping[str, Any]) -> None:
        """Note durably what serves."""
        write_whole(self._serving, document)

    def noted_serving(self) -> dict[str, Any]:
        """Return what served last; nothing on a new machine, or where it is damaged."""
        try:
            return _read(self._serving) or {}
        except orjson.JSONDecodeError as error:
            log.warning("what served is not known", file=str(self._serving), why=str(error))
            return {}

    def forget_all_but(self, needed: Iterable[Name]) -> None:
        """Delete the bundles that are neither needed nor used by a batch that is remembered."""
        names = set(needed)
        for pin in self._batches.glob("*.json"):
            for version, digest in orjson.loads(pin.read_bytes())["models"].values():
                names.add((version, digest))
        places = set(map(self._place, names))
        for folder in self._bundles.iterdir():
            if folder not in places:
                shutil.rmtree(folder)

    def _place(self, name: Name) -> Path:
        return self._bundles / "-".join(name)


def name_of(bundle: Bundle) -> Name:
    """Return the name that a bundle is kept under."""
    return bundle.version, bundle.digest


def _read(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    document: dict[str, Any] = orjson.loads(file.read_bytes())
    return document
