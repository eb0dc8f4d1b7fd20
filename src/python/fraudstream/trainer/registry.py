"""Runs and versions of the model, in MLflow; and which version is the champion.

A version is a folder of files (`fraudstream.model.bundle`), logged as artifacts of its run: no
MLflow flavour, nothing pickled.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from datetime import datetime
from datetime import timedelta
from pathlib import Path
import tempfile
import time

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.entities import Param
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from fraudstream.cli.tracking import WHO_ARE_YOU
from fraudstream.features.definitions import FeatureSet
from fraudstream.model.bundle import BUNDLE_ARTIFACTS
from fraudstream.model.bundle import CHAMPION
from fraudstream.model.bundle import Bundle
from fraudstream.model.bundle import BundleRefused
from fraudstream.model.bundle import load_bundle

#: How long a version may take to be decided on once its turn has come. Far longer than it takes to
#: load the champion and to score the report rows; so long a training that died holds up the next.
TURN = timedelta(minutes=5)

_AVERAGE_PRECISION = "average_precision"
_DECISION = "decision"
_GIVEN_UP = "given up: its training ended, or stalled, when it was its turn"
_POLL_S = 0.25


class RegistryUnreachable(ConnectionError):
    """The MLflow server does not answer."""


class RegistryRefused(ValueError):
    """The MLflow server answers, and does not do what was asked."""


class UnknownVersion(LookupError):
    """The registry has no such model, or no such version of it."""


@dataclass(frozen=True)
class Version:
    """A registered version of the model.

    Attributes
    ----------
    number
        As the registry counts.
    run
        The run that made it.
    created
        When it was registered, UTC.
    average_precision
        On its own report rows; ``None`` if it was registered by something else.
    decision
        What was decided on it, and why; empty if nothing was.
    is_champion
        Whether it serves.
    """

    number: str
    run: str
    created: datetime
    average_precision: float | None
    decision: str
    is_champion: bool


@dataclass(frozen=True)
class Rival:
    """The present champion, as a candidate meets it.

    Attributes
    ----------
    version
        Its number.
    average_precision
        On the candidate's report rows; ``None`` if it cannot be served any more.
    refusal
        Why it cannot be served; empty if it can.
    """

    version: str
    average_precision: float | None
    refusal: str = ""


@dataclass(frozen=True)
class Decision:
    """Whether a candidate becomes champion, and why, for people to read."""

    is_promoted: bool
    reason: str


def decide(average_precision: float, rival: Rival | None) -> Decision:
    """Decide whether a candidate replaces the champion.

    Parameters
    ----------
    average_precision
        The candidate's, on the report rows.
    rival
        The champion on the same rows; ``None`` if there is none.

    Examples
    --------
    >>> decide(0.8, Rival("3", 0.7)).reason
    'better than version 3: average precision 0.8000 against 0.7000 on the same rows'
    >>> decide(0.8, Rival("3", 0.8)).is_promoted
    False
    """
    if rival is None:
        return Decision(True, "there was no champion")
    if rival.average_precision is None:
        return Decision(True, f"version {rival.version} cannot be served: {rival.refusal}")
    figures = (
        f"version {rival.version}: average precision {average_precision:.4f} against "
        f"{rival.average_precision:.4f} on the same rows"
    )
    if average_precision > rival.average_precision:
        return Decision(True, f"better than {figures}")
    return Decision(False, f"no better than {figures}")


def settle(
    registry: "Registry",
    candidate: Bundle,
    version: str,
    feature_set: FeatureSet,
    features: npt.NDArray[np.float64],
    is_fraud: npt.NDArray[np.bool_],
    say: Callable[[str], None] = lambda text: None,
    turn: timedelta = TURN,
) -> Decision:
    """Compare a new version with the champion as both would serve, and let the better one serve.

    Versions are decided on one at a time, in the order of their numbers, whichever process made
    them: each meets the champion that the one before it has left (docs/adr/0005).

    Parameters
    ----------
    registry
        Where both are registered.
    candidate, version
        The new version's bundle and number.
    feature_set
        The features that are served: a champion of others is replaced.
    features, is_fraud
        The rows to compare on, shapes (n, k) and (n,); the candidate has not chosen anything on
        them.
    say, turn
        See `await_turn`.

    Returns
    -------
    Decision
        It is also noted on the version.
    """
    average_precision = float(average_precision_score(is_fraud, candidate.score(features)))
    await_turn(registry, version, say, turn)
    while True:
        champion = registry.champion()
        rival = None
        if champion is not None:
            rival = _meet(registry, champion, feature_set, features, is_fraud)
        if registry.decision(version) == _GIVEN_UP:
            return Decision(False, _GIVEN_UP)
        # Somebody may have promoted another by hand meanwhile: then that is the one to beat.
        if registry.champion() == champion:
            break
    decision = decide(average_precision, rival)
    if decision.is_promoted:
        registry.promote(version, decision.reason)
    else:
        registry.note(version, f"not champion: {decision.reason}")
    return decision


def await_turn(
    registry: "Registry",
    version: str,
    say: Callable[[str], None],
    turn: timedelta = TURN,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until every earlier version of the model has been decided on.

    Parameters
    ----------
    registry, version
        Whose turn is awaited.
    say
        Tells people what is waited for.
    turn
        A version that has been the first in the queue for so long, seen from here, is given up:
        the training that made it was killed, or hangs. It is never promoted by that training.
    clock, pause
        Seconds that only grow, and how to let some pass.
    """
    first, since = None, clock()
    while True:
        waiting = registry.first_undecided(before=version)
        if waiting is None:
            return
        if waiting != first:
            first, since = waiting, clock()
            say(f"waiting until version {waiting} has been decided on")
        elif clock() - since >= turn.total_seconds():
            registry.note(waiting, _GIVEN_UP)
        else:
            pause(_POLL_S)


def _meet(
    registry: "Registry",
    champion: str,
    feature_set: FeatureSet,
    features: npt.NDArray[np.float64],
    is_fraud: npt.NDArray[np.bool_],
) -> Rival:
    with tempfile.TemporaryDirectory(prefix="fraudstream-") as folder:
        try:
            bundle = load_bundle(registry.fetch(champion, Path(folder)), feature_set, champion)
        except (BundleRefused, UnknownVersion) as error:
            return Rival(champion, None, str(error))
    return Rival(champion, float(average_precision_score(is_fraud, bundle.score(features))))


class Registry:
    """A model's runs and versions.

    Parameters
    ----------
    tracking_uri
        Where the MLflow server answers, ``http://…`` or ``https://…``.
    model_name
        Of the registered model.

    Raises
    ------
    RegistryRefused
        If `tracking_uri` is no web address.
    """

    def __init__(self, tracking_uri: str, model_name: str) -> None:
        if not tracking_uri.startswith(("http://", "https://")):
            raise RegistryRefused(
                f"expected the address of an MLflow server (http://…), got {tracking_uri!r}: "
                "give it with --tracking-uri"
            )
        self._uri = tracking_uri
        self._name = model_name
        self._client = MlflowClient(tracking_uri, tracking_uri)

    def check(self) -> None:
        """Raise `RegistryUnreachable` now rather than after an hour of training."""
        with self._answering():
            self._client.search_experiments(max_results=1)

    @contextmanager
    def run(
        self,
        experiment: str,
        parameters: Mapping[str, object],
        tags: Mapping[str, str] | None = None,
    ) -> Iterator[str]:
        """Open a run for the block and yield its id; where the block raises, the run has failed."""
        with self._answering():
            number = self._experiment(experiment)
            run: str = self._client.create_run(number, tags=dict(tags or {})).info.run_id
            self._client.log_batch(
                run, params=[Param(name, str(value)) for name, value in parameters.items()]
            )
        try:
            yield run
        except BaseException:
            with self._answering():
                self._client.set_terminated(run, "FAILED")
            raise
        with self._answering():
            self._client.set_terminated(run, "FINISHED")

    def _experiment(self, name: str) -> str:
        """Return the number of an experiment, made if absent."""
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException as error:
                # Another training may have been faster.
                found = self._client.get_experiment_by_name(name)
                if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                    raise
        return str(found.experiment_id)

    def measure(self, run: str, metrics: Mapping[str, float], at: datetime) -> None:
        """Log what is known of a model at a moment."""
        at_ms = int(at.timestamp() * 1000)
        with self._answering():
            self._client.log_batch(
                run, metrics=[Metric(name, value, at_ms, 0) for name, value in metrics.items()]
            )

    def log(
        self,
        run: str,
        curves: Mapping[str, Sequence[float]],
        metrics: Mapping[str, float],
        pictures: Path,
        bundle: Path,
    ) -> None:
        """Log what a run gave: curves over epochs, figures, pictures, and the bundle."""
        now_ms = int(time.time() * 1000)
        logged = [Metric(name, value, now_ms, 0) for name, value in metrics.items()]
        for name, values in curves.items():
            logged += [Metric(name, value, now_ms, step) for step, value in enumerate(values)]
        with self._answering():
            self._client.log_batch(run, metrics=logged)
            self._client.log_artifacts(run, str(pictures), "pictures")
            self._client.log_artifacts(run, str(bundle), BUNDLE_ARTIFACTS)

    def register(self, run: str, bundle: Bundle) -> str:
        """Register the run's bundle as the next version and return its number."""
        tags = {
            "digest": bundle.digest,
            "feature_set": bundle.feature_set,
            "threshold": repr(bundle.threshold),
            _AVERAGE_PRECISION: repr(bundle.manifest.metrics[_AVERAGE_PRECISION]),
        }
        with self._answering():
            try:
                self._client.create_registered_model(self._name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            version = self._client.create_model_version(
                self._name,
                source=f"runs:/{run}/{BUNDLE_ARTIFACTS}",
                run_id=run,
                tags=tags,
                await_creation_for=0,
            )
        return str(version.version)

    def champion(self) -> str | None:
        """Return the number of the version that serves, or ``None`` if none does."""
        with self._answering():
            try:
                found = self._client.get_model_version_by_alias(self._name, CHAMPION)
            except MlflowException as error:
                # So the server says that it has no such model, and no such alias. Any other
                # refusal must not pass for a registry without a champion.
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
                return None
        return str(found.version)

    def fetch(self, version: str, folder: Path) -> Path:
        """Download the bundle of a version below `folder` and return where it lies.

        Raises
        ------
        UnknownVersion
            If there is no such version, or its run has no bundle any more.
        """
        with self._answering():
            run = self._client.get_model_version(self._name, version).run_id or ""
            return Path(self._client.download_artifacts(run, BUNDLE_ARTIFACTS, str(folder)))

    def promote(self, version: str, reason: str) -> None:
        """Make a version the champion, and note why.

        Raises
        ------
        UnknownVersion
            If there is no such version.
        """
        with self._answering():
            self._client.set_registered_model_alias(self._name, CHAMPION, version)
        self.note(version, f"champion: {reason}")

    def note(self, version: str, decision: str) -> None:
        """Write on a version what was decided on it."""
        with self._answering():
            self._client.set_model_version_tag(self._name, version, _DECISION, decision)

    def decision(self, version: str) -> str:
        """Return what was decided on a version, and why; empty if nothing was.

        Raises
        ------
        UnknownVersion
            If there is no such version.
        """
        with self._answering():
            found = self._client.get_model_version(self._name, version)
        return str(found.tags.get(_DECISION, ""))

    def first_undecided(self, before: str) -> str | None:
        """Return the lowest version below `before` that was not decided on; ``None`` if none."""
        waiting = [
            int(each.version)
            for each in self._registered()
            if int(each.version) < int(before) and not each.tags.get(_DECISION)
        ]
        return str(min(waiting)) if waiting else None

    def versions(self) -> list[Version]:
        """Return all versions, the newest first; none if the model is not registered."""
        champion = self.champion()
        found = []
        for each in self._registered():
            precision = each.tags.get(_AVERAGE_PRECISION)
            found.append(
                Version(
                    number=str(each.version),
                    run=each.run_id or "",
                    created=datetime.fromtimestamp(each.creation_timestamp / 1000, UTC),
                    average_precision=None if precision is None else float(precision),
                    decision=each.tags.get(_DECISION, ""),
                    is_champion=str(each.version) == champion,
                )
            )
        return sorted(found, key=lambda version: -int(version.number))

    def _registered(self) -> list[ModelVersion]:
        found: list[ModelVersion] = []
        token = None
        while True:
            with self._answering():
                page = self._client.search_model_versions(
                    f"name = '{self._name}'", max_results=200, page_token=token
                )
            found += page
            token = page.token
            if not token:
                return found

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise UnknownVersion(f"{self._uri} has none: {error.message}") from error
            if error.error_code == "INTERNAL_ERROR":
                raise RegistryUnreachable(
                    f"no MLflow server answers at {self._uri}: "
                    "start it, or give its address with --tracking-uri"
                ) from error
            if error.error_code == "UNAUTHENTICATED":
                raise RegistryRefused(f"{self._uri} {WHO_ARE_YOU}") from error
            raise RegistryRefused(f"{self._uri} refused: {error.message}") from error
        except OSError as error:
            raise RegistryUnreachable(
                f"the MLflow server at {self._uri} stopped answering: {error}"
            ) from error
