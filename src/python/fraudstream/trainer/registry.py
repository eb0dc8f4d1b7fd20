"""Runs and versions of the model, in MLflow; which is the champion, and was; and the challenger.

A version is a folder of files (`fraudstream.model.bundle`), logged as artifacts of its run: no
MLflow flavour, nothing pickled.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from datetime import datetime
from pathlib import Path
import time

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.entities import Param
from mlflow.entities import RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.exceptions import RestException

from fraudstream.cli.tracking import WHO_ARE_YOU
from fraudstream.model.bundle import BUNDLE_ARTIFACTS
from fraudstream.model.bundle import CHALLENGER
from fraudstream.model.bundle import CHAMPION
from fraudstream.model.bundle import Bundle

_AVERAGE_PRECISION = "average_precision"
_DECISION = "decision"
_REPLACED = "replaced"
_THRESHOLD = "threshold"
_THRESHOLD_POLICY = "threshold_policy"


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
    threshold, threshold_policy
        A score at or over it is an alert, and how it was chosen; ``None`` and empty if the version
        was registered by something else.
    decision
        What was decided on it last, and why; empty if nothing was.
    decisions
        All that was ever decided on it, by time (UTC, RFC 3339), the first one first.
    is_champion, is_challenger
        Whether it serves, and whether it scores in the champion's shadow.
    """

    number: str
    run: str
    created: datetime
    average_precision: float | None
    threshold: float | None
    threshold_policy: str
    decision: str
    decisions: Mapping[str, str]
    is_champion: bool
    is_challenger: bool

    @property
    def role(self) -> str | None:
        """What it does in the stream: ``champion``, ``challenger``, or nothing."""
        if self.is_champion:
            return CHAMPION
        return CHALLENGER if self.is_challenger else None


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
        self.describe(run, parameters)
        status = "FAILED"
        try:
            yield run
            status = "FINISHED"
        finally:
            # Also after Ctrl-C: a run that nobody works on must not stay open for ever.
            with self._answering():
                self._client.set_terminated(run, status)

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

    def describe(
        self, run: str, parameters: Mapping[str, object], tags: Mapping[str, str] | None = None
    ) -> None:
        """Add parameters and tags to a run."""
        with self._answering():
            self._client.log_batch(
                run,
                params=[Param(name, str(value)) for name, value in parameters.items()],
                tags=[RunTag(name, value) for name, value in (tags or {}).items()],
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
        manifest = bundle.manifest
        tags = {
            "digest": bundle.digest,
            "feature_set": bundle.feature_set,
            _THRESHOLD: repr(bundle.threshold),
            _THRESHOLD_POLICY: manifest.threshold_policy,
            **{
                f"{_THRESHOLD}.{name}": repr(value)
                for name, value in manifest.threshold_figures.items()
            },
            _AVERAGE_PRECISION: repr(manifest.metrics[_AVERAGE_PRECISION]),
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
        return self._bearing(CHAMPION)

    def challenger(self) -> str | None:
        """Return the number of the version in the champion's shadow, or ``None`` if none is."""
        return self._bearing(CHALLENGER)

    def _bearing(self, alias: str) -> str | None:
        with self._answering():
            try:
                found = self._client.get_model_version_by_alias(self._name, alias)
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
        """Make a version the champion, and note why, and whom it replaced.

        Raises
        ------
        UnknownVersion
            If there is no such version.
        """
        before = self.champion()
        with self._answering():
            self._client.set_registered_model_alias(self._name, CHAMPION, version)
            if before not in (None, version):
                self._client.set_model_version_tag(self._name, version, _REPLACED, before)
        self.note(version, f"champion: {reason}")

    def shadow(self, version: str) -> None:
        """Make a version the challenger, in place of any other.

        Raises
        ------
        UnknownVersion
            If there is no such version.
        """
        with self._answering():
            self._client.set_registered_model_alias(self._name, CHALLENGER, version)

    def end_shadow(self) -> None:
        """Leave no version as challenger.

        Raises
        ------
        UnknownVersion
            If the model is not registered.
        """
        with self._answering():
            self._client.delete_registered_model_alias(self._name, CHALLENGER)

    def replaced(self, version: str) -> str:
        """Return the version that served until `version` became champion.

        Raises
        ------
        UnknownVersion
            If there is no such version, or none served before it.
        """
        with self._answering():
            found = self._client.get_model_version(self._name, version)
        if _REPLACED not in found.tags:
            raise UnknownVersion(
                f"no version of {self._name} served before version {version}: "
                "name one with --version; `trainer.pex models` shows them"
            )
        return str(found.tags[_REPLACED])

    def note(self, version: str, decision: str) -> None:
        """Write on a version what was decided on it, and keep what was decided before."""
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        with self._answering():
            # The record comes first: what stands under the plain name has been recorded.
            for tag in (f"{_DECISION}.{now.replace('+00:00', 'Z')}", _DECISION):
                self._client.set_model_version_tag(self._name, version, tag, decision)

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
        champion, challenger = self.champion(), self.challenger()
        found = [_version(each, champion, challenger) for each in self._registered()]
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
            # The client calls it an internal error too when there is nobody to answer it.
            if error.error_code == "INTERNAL_ERROR" and not isinstance(error, RestException):
                raise RegistryUnreachable(
                    f"no MLflow server answers at {self._uri} in time: "
                    "start it, or give its address with --tracking-uri"
                ) from error
            if error.error_code == "UNAUTHENTICATED":
                raise RegistryRefused(f"{self._uri} {WHO_ARE_YOU}") from error
            raise RegistryRefused(f"{self._uri} refused: {error.message}") from error
        except OSError as error:
            raise RegistryUnreachable(
                f"the MLflow server at {self._uri} stopped answering: {error}"
            ) from error


def _version(found: ModelVersion, champion: str | None, challenger: str | None) -> Version:
    tags = found.tags
    return Version(
        number=str(found.version),
        run=found.run_id or "",
        created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        average_precision=_number(tags.get(_AVERAGE_PRECISION)),
        threshold=_number(tags.get(_THRESHOLD)),
        threshold_policy=tags.get(_THRESHOLD_POLICY, ""),
        decision=tags.get(_DECISION, ""),
        decisions={
            name.removeprefix(f"{_DECISION}."): text
            for name, text in sorted(tags.items())
            if name.startswith(f"{_DECISION}.")
        },
        is_champion=str(found.version) == champion,
        # The stream takes a version that is both for the champion.
        is_challenger=str(found.version) == challenger != champion,
    )


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
