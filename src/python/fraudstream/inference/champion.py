"""The model that serves: watched in the registry, checked, kept on disk, pinned to batches."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
import shutil
import tempfile
import threading
import time
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
import orjson
import structlog

from fraudstream.cli.tracking import WHO_ARE_YOU
from fraudstream.features.definitions import FeatureSet
from fraudstream.model.bundle import BUNDLE_ARTIFACTS
from fraudstream.model.bundle import CHAMPION
from fraudstream.model.bundle import Bundle
from fraudstream.model.bundle import BundleRefused
from fraudstream.model.bundle import load_bundle

_BATCHES_REMEMBERED = 20

log = structlog.get_logger()


class NoChampion(LookupError):
    """There is no model to serve: none in the registry, and none kept on this machine."""


class RegistryUnreachable(ConnectionError):
    """The registry does not answer."""


@dataclass(frozen=True)
class Registry:
    """Where champions come from.

    Parameters
    ----------
    tracking_uri
        Of the MLflow server.
    model_name
        Of the registered model.
    """

    tracking_uri: str
    model_name: str

    def champion_version(self) -> str | None:
        """Return the version that bears the alias ``champion``, or ``None`` if none does.

        Raises
        ------
        RegistryUnreachable
            If the server does not answer, or not sensibly.
        """
        try:
            found = self._client().get_model_version_by_alias(self.model_name, CHAMPION)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            if error.error_code == "UNAUTHENTICATED":
                raise RegistryUnreachable(f"{self.tracking_uri} {WHO_ARE_YOU}") from error
            raise RegistryUnreachable(self._unreachable()) from error
        return str(found.version)

    def fetch(self, version: str, folder: Path) -> Path:
        """Download the bundle of `version` below `folder` and return where it lies.

        Raises
        ------
        RegistryUnreachable
            If the server or its artifact store does not answer.
        """
        client = self._client()
        try:
            run = client.get_model_version(self.model_name, version).run_id
            return Path(client.download_artifacts(str(run), BUNDLE_ARTIFACTS, str(folder)))
        except (MlflowException, OSError) as error:
            raise RegistryUnreachable(
                f"version {version} of {self.model_name} could not be downloaded from "
                f"{self.tracking_uri}: {error}"
            ) from error

    def bundle(self, version: str, digest: str) -> Bundle | None:
        """Return the bundle of `version`, or ``None`` if it is not the one with this digest.

        Raises
        ------
        RegistryUnreachable
            As of `fetch`.
        """
        with tempfile.TemporaryDirectory(prefix="fraudstream-") as folder:
            found = load_bundle(self.fetch(version, Path(folder)), version=version)
        return found if found.digest == digest else None

    def _client(self) -> MlflowClient:
        return MlflowClient(self.tracking_uri, self.tracking_uri)

    def _unreachable(self) -> str:
        return (
            f"no MLflow server answers at {self.tracking_uri}: "
            "start it, or give its address with --tracking-uri"
        )


class Pin(NamedTuple):
    """What a batch was first tried with, and is repeated with.

    Attributes
    ----------
    bundle
        The model that scores it.
    shards
        Into how many parts its steps but the first are cut.
    """

    bundle: Bundle
    shards: int


class Champion:
    """The model to score the next batch with.

    Parameters
    ----------
    registry
        Where to look for a new champion.
    folder
        Where checked bundles are kept, one a version, and which batch used which. A restart, also
        without a registry, goes on with the last one.
    feature_set
        The features that are served: a bundle trained on others is refused.
    every_s
        How many seconds to wait at least between two looks at the registry.
    """

    def __init__(
        self,
        registry: Registry,
        folder: Path,
        feature_set: FeatureSet,
        every_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._folder = folder
        self._feature_set = feature_set
        self._every_s = every_s
        self._clock = clock
        self._next_look = clock()
        self._serving: Bundle | None = None
        self._refused: set[str] = set()
        (folder / "batches").mkdir(parents=True, exist_ok=True)

    def for_batch(self, batch: int, shards: int) -> Pin:
        """Return the model for a batch, and `shards`; the same however often it is repeated.

        Raises
        ------
        NoChampion
            If there is none to serve.
        RegistryUnreachable
            If there is none on this machine, and the registry does not answer.
        """
        pin = self._folder / "batches" / f"{batch}.json"
        if pin.exists():
            pinned = orjson.loads(pin.read_bytes())
            return Pin(self._kept(pinned["version"]), pinned["shards"])
        bundle = self.current()
        document = {"version": bundle.version, "digest": bundle.digest, "shards": shards}
        _write_whole(pin, orjson.dumps(document))
        (self._folder / "batches" / f"{batch - _BATCHES_REMEMBERED}.json").unlink(missing_ok=True)
        return Pin(bundle, shards)

    def current(self) -> Bundle:
        """Return the champion, after a look at the registry if one is due; see `for_batch`."""
        if self._serving is None:
            self._serving = self._last_good()
        if self._clock() >= self._next_look:
            try:
                self._look()
            except RegistryUnreachable as error:
                if self._serving is None:
                    raise
                log.warning("registry unreachable", serving=self._serving.version, why=str(error))
            self._next_look = self._clock() + self._every_s
        if self._serving is None:
            raise NoChampion(
                f"{self._registry.tracking_uri} has no champion of {self._registry.model_name}: "
                "train one with `trainer.pex train`"
            )
        return self._serving

    def _look(self) -> None:
        version = self._registry.champion_version()
        serving = self._serving.version if self._serving else None
        if version is None or version == serving or version in self._refused:
            return
        try:
            self._serving = self._obtain(version)
        except BundleRefused as error:
            self._refused.add(version)
            log.warning("champion refused", version=version, serving=serving, why=str(error))
            if serving is None:
                raise
            return
        _write_whole(self._folder / "last.json", orjson.dumps({"version": version}))
        log.info("champion serves", version=version, before=serving, digest=self._serving.digest)

    def _obtain(self, version: str) -> Bundle:
        kept = self._folder / version
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
                found = self._registry.fetch(version, Path(scratch))
                load_bundle(found, self._feature_set, version)
                shutil.move(found, kept)
        return load_bundle(kept, self._feature_set, version)

    def _kept(self, version: str) -> Bundle:
        if self._serving is not None and self._serving.version == version:
            return self._serving
        return load_bundle(self._folder / version, self._feature_set, version)

    def _last_good(self) -> Bundle | None:
        last = self._folder / "last.json"
        if not last.exists():
            return None
        return self._kept(orjson.loads(last.read_bytes())["version"])

    def files(self, bundle: Bundle) -> dict[str, bytes]:
        """Return the files of a kept bundle, for workers on other machines."""
        folder = self._folder / bundle.version
        return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def await_first(
    champion: Champion, stop: threading.Event, alive: Callable[[], None], probe_s: float = 1.0
) -> Bundle | None:
    """Wait until there is a model to serve and return it; ``None`` if told to stop before.

    Parameters
    ----------
    champion
        Is asked again and again; why there is none is logged once.
    stop
        Ends the waiting.
    alive
        Is called before each look.
    probe_s
        Seconds between two looks.
    """
    told = False
    while not stop.is_set():
        alive()
        try:
            return champion.current()
        except (NoChampion, RegistryUnreachable, BundleRefused) as error:
            if not told:
                log.warning("waiting for a model", why=str(error))
                told = True
        stop.wait(probe_s)
    return None


def _write_whole(file: Path, content: bytes) -> None:
    scratch = file.with_suffix(".new")
    scratch.write_bytes(content)
    scratch.replace(file)
