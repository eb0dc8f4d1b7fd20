"""A real MLflow server on this machine, without Docker."""

from base64 import b64encode
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
import json
from pathlib import Path
from urllib.parse import urlencode

from fraudstream.stack.process import Process
from fraudstream.stack.process import ProcessFailed
from fraudstream.stack.process import answers
from fraudstream.stack.process import free_port
from fraudstream.stack.secrets import Secrets

_ADMIN = "admin"

# Who has no other right to something may read it: the stream has to see the champion that the
# trainer has registered. Whoever made something may do what they like with it.
_ACCESS = """\
[mlflow]
default_permission = READ
database_uri = {database_uri}
admin_username = {admin}
admin_password = {password}
"""


class MlflowRefused(ValueError):
    """The MLflow server answers, and does not do what its administrator asks."""


@dataclass(frozen=True)
class Backend:
    """What an MLflow server stands on when it serves more than one demo.

    Attributes
    ----------
    database_uri
        Of the database of runs, models and users; without a password in it.
    artifacts_uri, environment
        Where artifacts go, such as ``s3://bucket``, and the variables by which that is reached.
    secrets
        Holds or gets ``mlflow-admin-password`` and ``mlflow-session-key``, and what `provide`
        makes.
    """

    database_uri: str
    artifacts_uri: str
    environment: Mapping[str, str]
    secrets: Secrets


class MlflowServer(Process):
    """A real MLflow server that hands artifacts out itself, and answers to its own address only.

    Parameters
    ----------
    executable
        The MLflow command line, such as ``["./mlflow-server.pex"]``.
    folder
        Takes its log; and without a `backend` its database, on SQLite, and its artifacts. Made if
        absent. One that an earlier server has used goes on with that server's runs and models.
    port
        Where to listen on 127.0.0.1; 0 takes a free one.
    backend
        Where it keeps everything instead; then it asks for a password. Without, it lets anybody
        in.

    Attributes
    ----------
    uri
        The tracking URI for clients.
    """

    def __init__(
        self,
        executable: Sequence[str],
        folder: Path,
        port: int = 0,
        backend: Backend | None = None,
    ) -> None:
        self._port = port or free_port()
        self._backend = backend
        self.uri = f"http://127.0.0.1:{self._port}"
        database_uri = f"sqlite:///{folder / 'mlflow.db'}"
        artifacts_uri = str(folder / "artifacts")
        if backend is not None:
            database_uri, artifacts_uri = backend.database_uri, backend.artifacts_uri
        super().__init__(
            "MLflow",
            [
                *(*executable, "server", "--host", "127.0.0.1", "--port", str(self._port)),
                # A page that a browser has open could otherwise reach it under a name of its own.
                *("--allowed-hosts", f"127.0.0.1:{self._port},localhost:{self._port}"),
                # Each worker imports all of MLflow anew; one serves three apps.
                *("--workers", "1", "--serve-artifacts"),
                *("--backend-store-uri", database_uri, "--artifacts-destination", artifacts_uri),
                *(() if backend is None else ("--app-name", "basic-auth")),
            ],
            folder / "mlflow.log",
            {
                # Nothing of ours runs jobs in the server, and their runners are more processes.
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
        )

    def start(self) -> None:
        """Write down who gets in, if not anybody, and start the server."""
        if self._backend is not None:
            self._environment.update(_protected(self._backend))
        super().start()

    def is_ready(self) -> bool:
        """Return whether the server says that it is healthy."""
        return answers(self._port, "/health")

    def provide(self, user: str) -> Path:
        """See to it that the ready server, which has a backend, knows a user.

        A user reads everything, and changes only what it has made itself.

        Parameters
        ----------
        user
            Its password is the secret ``mlflow-{user}-password``, also if it was another one
            before.

        Returns
        -------
        Path
            ``mlflow-{user}.credentials`` among the secrets: what our apps take as
            ``--tracking-credentials``.

        Raises
        ------
        MlflowRefused
            If the server does not do it.
        """
        secrets = self._secrets()
        password = secrets.read(f"mlflow-{user}-password")
        named = {"username": user, "password": password}
        path = f"users/get?{urlencode({'username': user})}"
        status = self._ask("GET", path, {}, user, password)
        if status != HTTPStatus.OK:
            admin_password = secrets.read("mlflow-admin-password")
            for method, path in (("POST", "users/create"), ("PATCH", "users/update-password")):
                status = self._ask(method, path, named, _ADMIN, admin_password)
                # There is one of that name already, with another password.
                if status != HTTPStatus.BAD_REQUEST:
                    break
            if status != HTTPStatus.OK:
                raise MlflowRefused(f"{self.uri} refused to make the user {user}: status {status}")
        return secrets.write(
            f"mlflow-{user}.credentials", f"username={user}\npassword={password}\n"
        )

    def _secrets(self) -> Secrets:
        if self._backend is None:
            raise ProcessFailed("MLflow was started without a backend, and asks nobody for a name")
        return self._backend.secrets

    def _ask(
        self, method: str, path: str, body: Mapping[str, str], user: str, password: str
    ) -> int:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            basic = b64encode(f"{user}:{password}".encode()).decode()
            headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/json"}
            connection.request(method, f"/api/2.0/mlflow/{path}", json.dumps(body), headers)
            return connection.getresponse().status
        finally:
            connection.close()


def _protected(backend: Backend) -> Mapping[str, str]:
    """Return the variables that make a server ask for passwords and reach its artifacts."""
    access = _ACCESS.format(
        # In this format a percent sign begins a reference.
        database_uri=backend.database_uri.replace("%", "%%"),
        admin=_ADMIN,
        password=backend.secrets.read("mlflow-admin-password"),
    )
    return {
        **backend.environment,
        "MLFLOW_AUTH_CONFIG_PATH": str(backend.secrets.write("mlflow-access.ini", access)),
        # It signs the sessions of browsers; MLflow takes it in no other way.
        "MLFLOW_FLASK_SERVER_SECRET_KEY": backend.secrets.read("mlflow-session-key"),
    }
