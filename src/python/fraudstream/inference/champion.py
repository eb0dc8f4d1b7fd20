"""The models at work: watched in the registry, checked, kept on disk, pinned to batches.

The champion's scores count; a challenger, if there is one, scores the same transactions in its
shadow. A new model is fetched and checked beside the stream, and serves from the next batch on.
What fails a check is refused, and the last good model serves on.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
import tempfile
import threading
import time
from typing import Any
from typing import NamedTuple
from typing import Protocol

import structlog

from fraudstream.features.history import Float64
from fraudstream.inference.fitness import LEAST_ROWS
from fraudstream.inference.fitness import Bounds
from fraudstream.inference.fitness import Recent
from fraudstream.inference.fitness import objection
from fraudstream.inference.kept import Kept
from fraudstream.inference.kept import Name
from fraudstream.inference.kept import name_of
from fraudstream.inference.registry import Registered
from fraudstream.inference.registry import Registry
from fraudstream.inference.registry import RegistryUnreachable
from fraudstream.model.bundle import CHALLENGER
from fraudstream.model.bundle import CHAMPION
from fraudstream.model.bundle import Bundle
from fraudstream.model.bundle import BundleRefused

log = structlog.get_logger()


class NoChampion(LookupError):
    """There is no model to serve: none in the registry, and none kept on this machine."""


class ChampionGone(ValueError):
    """A batch was begun with a champion that cannot be had any more."""


class Witness(Protocol):
    """Is told what becomes of models."""

    def serves(self, role: str, bundle: Bundle | None, since_s: float) -> None:
        """Take note of the model of a role; `since_s` is when it was registered, epoch seconds."""
        ...

    def refused(self, role: str, check: str) -> None:
        """Take note of a model that failed a check."""
        ...


class Pin(NamedTuple):
    """What a batch is tried with.

    Attributes
    ----------
    champion
        The model whose scores count.
    challenger
        The model that scores in its shadow; ``None`` if there is none.
    shards
        Into how many parts its steps but the first are cut.
    """

    champion: Bundle
    challenger: Bundle | None
    shards: int


class _Chosen(NamedTuple):
    """A model that has passed all checks, and how the registry knows it."""

    registered: Registered
    bundle: Bundle


class Models:
    """The champion and the challenger of the next batch.

    Parameters
    ----------
    registry
        Where to look for new ones.
    kept
        Where checked bundles are kept. A restart, also without a registry, goes on with the last
        ones.
    witness
        Is told what serves and what is refused.
    bounds
        What a new model may do with recent traffic.
    """

    def __init__(
        self, registry: Registry, kept: Kept, witness: Witness, bounds: Bounds | None = None
    ) -> None:
        self._registry = registry
        self._kept = kept
        self._witness = witness
        self._bounds = bounds or Bounds()
        self._recent = Recent()
        # Guards what serves and the folder, between the batches and the watch.
        self._lock = threading.Lock()
        self._chosen: dict[str, _Chosen] = {}
        self._waiting: dict[str, _Chosen] = {}
        self._refused: set[tuple[str, Registered]] = set()
        self._is_reachable = True
        for role, noted in kept.noted_serving().items():
            self._resume(role, noted)

    # --- for the batches -------------------------------------------------------------------------

    def for_batch(self, batch: int, shards: int) -> Pin:
        """Return the models for a batch, and `shards`; the same however often it is repeated.

        But a batch that is begun again has no challenger: were it the challenger by which its
        workers ended, the batch would never come to an end.

        Raises
        ------
        NoChampion
            If there is none to serve.
        ChampionGone
            If the batch was begun with a champion that does not pass its checks any more, and nor
            does the registry's copy.
        RegistryUnreachable
            If that copy is needed, and the registry does not answer.
        """
        with self._lock:
            noted = self._kept.remembered(batch)
            if noted is not None:
                noted = {**noted, "models": {CHAMPION: noted["models"][CHAMPION]}}
            else:
                used = {role: name_of(each.bundle) for role, each in self._chosen.items()}
                if CHAMPION not in used:
                    raise self._no_champion()
                noted = self._kept.remember(batch, {"models": used, "shards": shards})
            try:
                return self._pinned(noted)
            except BundleRefused as error:
                raise ChampionGone(
                    f"batch {batch} was begun with version {noted['models'][CHAMPION][0]} of the "
                    f"model, which fails the check of its {error.check} now: run the fraudstream "
                    "that began it once more, and stop it with Ctrl-C or SIGTERM; or give another "
                    "--checkpoint, with which all is scored again"
                ) from error

    def saw(self, rows: Float64) -> None:
        """Take note of the features of some of the latest traffic, shape (n, features)."""
        self._recent.add(rows)

    @property
    def have_scored(self) -> bool:
        """Whether they have scored anything since the start."""
        return len(self._recent.rows) > 0

    def files(self, bundle: Bundle) -> dict[str, bytes]:
        """Return the files of a kept bundle, for workers on other machines."""
        return self._kept.files(bundle)

    # --- for the watch ---------------------------------------------------------------------------

    def current(self) -> Bundle:
        """Return the champion of the next batch; where there is none, look for one.

        Raises
        ------
        NoChampion
            If there is none to serve.
        RegistryUnreachable
            If there is none on this machine, and the registry does not answer.
        BundleRefused
            If there is none on this machine, and that of the registry is unfit.
        """
        if CHAMPION not in self._chosen:
            self._look(CHAMPION, self._registry.bearing(CHAMPION))
        champion = self._bundle_of(CHAMPION)
        if champion is None:
            raise self._no_champion()
        return champion

    def look(self) -> None:
        """Look for new models: those that pass all checks serve from the next batch on.

        Whatever is wrong with the registry or with what it holds is logged, and changes nothing.
        """
        try:
            registered = self._registry.bearing(CHAMPION, CHALLENGER)
            for role in (CHAMPION, CHALLENGER):
                self._look(role, registered)
        except RegistryUnreachable as error:
            if self._is_reachable:
                log.warning("registry unreachable", why=str(error))
            self._is_reachable = False
        except BundleRefused:
            # The first champion: it was told when it was refused.
            return
        else:
            self._is_reachable = True
        with self._lock:
            at_work = [*self._chosen.values(), *self._waiting.values()]
            self._kept.forget_all_but(name_of(each.bundle) for each in at_work)

    def _look(self, role: str, registered: Mapping[str, Registered]) -> None:
        found = registered.get(role)
        if role == CHALLENGER and (found is None or self._is_chosen(CHAMPION, found)):
            # Two of one model would tell nothing.
            self._choose(role, None)
            return
        if found is None or (role, found) in self._refused:
            return
        if self._is_chosen(role, found):
            self._waiting.pop(role, None)
            return
        try:
            candidate = self._obtain(role, found)
            is_fit = self._is_fit(role, candidate)
        except BundleRefused as error:
            self._refuse(role, found, error)
            return
        if is_fit:
            self._choose(role, candidate)

    def _obtain(self, role: str, found: Registered) -> _Chosen:
        """Return a model that has passed the checks of its bundle."""
        waiting = self._waiting.get(role)
        if waiting is not None and waiting.registered == found:
            return waiting
        if found.digest is not None and self._kept.holds((found.version, found.digest)):
            try:
                return _Chosen(found, self._kept.load((found.version, found.digest)))
            except BundleRefused as error:
                log.warning("kept model damaged", version=found.version, why=str(error))
        return _Chosen(found, self._fetched(found.version, found.digest))

    def _fetched(self, version: str, digest: str | None) -> Bundle:
        """Return a bundle of the registry's, from now on kept here."""
        with tempfile.TemporaryDirectory(dir=self._kept.incoming) as scratch:
            folder = self._registry.fetch(version, Path(scratch))
            bundle = self._kept.keep(folder, version)
            if digest not in (None, bundle.digest):
                raise BundleRefused(
                    folder, "digest", f"expected {digest}, as registered, got {bundle.digest}"
                )
        return bundle

    def _is_fit(self, role: str, candidate: _Chosen) -> bool:
        """Return whether a model may serve now; ``False`` if there is too little to tell by.

        Raises
        ------
        BundleRefused
            If it must not.
        """
        serving = self._bundle_of(CHAMPION)
        if serving is None:
            return role == CHAMPION
        rows = self._recent.rows
        if len(rows) < LEAST_ROWS:
            if self._waiting.get(role) != candidate:
                log.info("model waits for traffic", role=role, version=candidate.bundle.version)
            self._waiting[role] = candidate
            return False
        self._waiting.pop(role, None)
        if (why := objection(candidate.bundle, serving, rows, self._bounds)) is not None:
            raise BundleRefused(Path(candidate.bundle.version), *why)
        return True

    def _refuse(self, role: str, found: Registered, error: BundleRefused) -> None:
        self._refused.add((role, found))
        self._witness.refused(role, error.check)
        serving = self._bundle_of(CHAMPION)
        log.warning(
            "model refused",
            role=role,
            version=found.version,
            serving=serving and serving.version,
            why=str(error),
        )
        if serving is None:
            raise error
        if role == CHALLENGER:
            self._choose(role, None)

    def _choose(self, role: str, chosen: _Chosen | None) -> None:
        before = self._bundle_of(role)
        if chosen is None and before is None:
            return
        with self._lock:
            if chosen is None:
                del self._chosen[role]
            else:
                self._chosen[role] = chosen
            self._kept.note_serving(
                {
                    name: {"registered": each.registered._asdict(), "digest": each.bundle.digest}
                    for name, each in self._chosen.items()
                }
            )
        self._tell(role)
        log.info(
            "model serves" if chosen else "model serves no more",
            role=role,
            version=chosen and chosen.bundle.version,
            before=before and before.version,
            digest=chosen and chosen.bundle.digest,
        )

    def _resume(self, role: str, noted: Mapping[str, Any]) -> None:
        """Go on with a model that served before a restart."""
        registered = Registered(**noted["registered"])
        try:
            bundle = self._kept.load((registered.version, noted["digest"]))
        except BundleRefused as error:
            log.warning("kept model refused", role=role, why=str(error))
            return
        self._chosen[role] = _Chosen(registered, bundle)
        self._tell(role)

    def _tell(self, role: str) -> None:
        chosen = self._chosen.get(role)
        if chosen is None:
            self._witness.serves(role, None, 0.0)
        else:
            self._witness.serves(role, chosen.bundle, chosen.registered.created_ms / 1000)

    def _pinned(self, noted: Mapping[str, Any]) -> Pin:
        models = {role: (name[0], name[1]) for role, name in noted["models"].items()}
        challenger = self._loaded(models[CHALLENGER]) if CHALLENGER in models else None
        return Pin(self._loaded(models[CHAMPION]), challenger, noted["shards"])

    def _loaded(self, name: Name) -> Bundle:
        for each in self._chosen.values():
            if name_of(each.bundle) == name:
                return each.bundle
        try:
            return self._kept.load(name)
        except BundleRefused as error:
            log.warning("kept model damaged", version=name[0], why=str(error))
            return self._fetched(*name)

    def _bundle_of(self, role: str) -> Bundle | None:
        chosen = self._chosen.get(role)
        return chosen and chosen.bundle

    def _is_chosen(self, role: str, found: Registered) -> bool:
        chosen = self._chosen.get(role)
        return chosen is not None and chosen.registered == found

    def _no_champion(self) -> NoChampion:
        return NoChampion(
            f"{self._registry.tracking_uri} has no champion of {self._registry.model_name}: "
            "train one with `trainer.pex train`"
        )


@contextmanager
def watched(
    models: Models, every_s: float = 5.0, first_s: float = 60.0, patience_s: float = 30.0
) -> Iterator[None]:
    """Look for new models while the block runs, beside it: a registry may take its time.

    Parameters
    ----------
    models
        Is told to look.
    every_s
        How many seconds to wait between two looks.
    first_s
        The first look comes after the first scores, or after so many seconds. MLflow's client
        keeps a processor busy for seconds when it is imported, and a stream that was started again
        has a backlog.
    patience_s
        For so long the look at hand is waited for at the end: a process that ends while a thread
        of its own is at work in a library may not come to its end. A registry answers before, or
        is given up.
    """
    stop = threading.Event()
    first = time.monotonic() + first_s

    def watch() -> None:
        while not stop.is_set():
            try:
                if models.have_scored or time.monotonic() > first:
                    models.look()
            except Exception:
                # Whatever it is, it is told with its trace and the stream serves on. Were this
                # thread to end, no champion would ever be taken up again, and nobody would notice.
                log.exception("look for models failed")
            stop.wait(every_s)

    watching = threading.Thread(target=watch, name="models", daemon=True)
    watching.start()
    try:
        yield
    finally:
        stop.set()
        watching.join(patience_s)


def await_first(
    models: Models, stop: threading.Event, alive: Callable[[], None], probe_s: float = 1.0
) -> Bundle | None:
    """Wait until there is a model to serve and return it; ``None`` if told to stop before.

    Parameters
    ----------
    models
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
            return models.current()
        except (NoChampion, RegistryUnreachable, BundleRefused) as error:
            if not told:
                log.warning("waiting for a model", why=str(error))
                told = True
        stop.wait(probe_s)
    return None
