"""Where models come from: the versions of one model in MLflow, by alias.

MLflow's client is imported with the first question, which takes seconds: a stream that goes on with
a model that it has kept begins meanwhile.
"""

from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
import tempfile
from typing import TYPE_CHECKING
from typing import NamedTuple

from fraudstream.cli.tracking import WHO_ARE_YOU
from fraudstream.model.bundle import BUNDLE_ARTIFACTS
from fraudstream.model.bundle import Bundle
from fraudstream.model.bundle import load_bundle

if TYPE_CHECKING:
    from mlflow import MlflowClient


class RegistryUnreachable(ConnectionError):
    """The registry does not answer."""


class Registered(NamedTuple):
    """A version as a registry has it.

    Attributes
    ----------
    version
        Its number. Two registries may count alike.
    run
        The run that made it: no two registries have the same.
    created_ms
        When it was registered; milliseconds since the epoch.
    digest
        Of its bundle, if the registry was told.
    """

    version: str
    run: str
    created_ms: int
    digest: str | None


@dataclass(frozen=True)
class Registry:
    """The versions of a model.

    Parameters
    ----------
    tracking_uri
        Of the MLflow server.
    model_name
        Of the registered model.
    """

    tracking_uri: str
    model_name: str
    _seen: dict[tuple[tuple[int, int], str], Registered] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def bearing(self, *aliases: str) -> dict[str, Registered]:
        """Return the versions that bear aliases, by alias; nothing of one that none bears.

        It asks for the model, and for each version that is new since the last time. MLflow hashes
        a password several times to answer one question: that is most of its work.

        Raises
        ------
        RegistryUnreachable
            If the server does not answer, or not sensibly.
        """
        from mlflow.exceptions import MlflowException

        client = self._client()
        try:
            model = client.get_registered_model(self.model_name)
            # By its times as well: another registry, or this one put back, may count alike.
            times = (model.creation_timestamp, model.last_updated_timestamp)
            borne = {each: str(model.aliases[each]) for each in aliases if each in model.aliases}
            found = {
                version: self._seen.get((times, version)) or self._registered(client, version)
                for version in borne.values()
            }
        except MlflowException as error:
            # It has no such model, or could not have one of such a name.
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return {}
            if error.error_code == "UNAUTHENTICATED":
                raise RegistryUnreachable(f"{self.tracking_uri} {WHO_ARE_YOU}") from error
            raise RegistryUnreachable(self._unreachable()) from error
        self._seen.clear()
        self._seen.update({(times, version): each for version, each in found.items()})
        return {alias: found[version] for alias, version in borne.items()}

    def fetch(self, version: str, folder: Path) -> Path:
        """Download the bundle of `version` below `folder` and return where it lies.

        Raises
        ------
        RegistryUnreachable
            If the server or its artifact store does not answer.
        """
        from mlflow.exceptions import MlflowException

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

    def _registered(self, client: "MlflowClient", version: str) -> Registered:
        found = client.get_model_version(self.model_name, version)
        return Registered(
            version, found.run_id or "", found.creation_timestamp, found.tags.get("digest")
        )

    def _client(self) -> "MlflowClient":
        from mlflow import MlflowClient

        return MlflowClient(self.tracking_uri, self.tracking_uri)

    def _unreachable(self) -> str:
        return (
            f"no MLflow server answers at {self.tracking_uri}: "
            "start it, or give its address with --tracking-uri"
        )
