"""A small client of Airflow's REST API: trigger a DAG, await its end, read what came of it."""

from collections.abc import Callable
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection
import json
import time
from typing import Any

_PROBE_S = 0.25
_TIMEOUT_S = 20.0
_ENDED = {"success", "failed"}


class AirflowUnreachable(ConnectionError):
    """No Airflow answers at the address."""


class AirflowRefused(ValueError):
    """Airflow answers, and does not do what was asked."""


class AirflowUnknown(LookupError):
    """Airflow answers, and has nothing of that name."""


class AirflowSlow(ValueError):
    """Something did not come about in time."""


class AirflowClient:
    """What a script or a test asks of Airflow.

    Parameters
    ----------
    uri
        Where its API server is, such as ``http://127.0.0.1:8080``.
    user, password
        As its SimpleAuthManager knows them.
    """

    def __init__(self, uri: str, user: str, password: str) -> None:
        self.uri = uri
        self._address = uri.removeprefix("http://")
        self._who = {"username": user, "password": password}
        self._token: str | None = None

    def health(self) -> dict[str, str]:
        """Return the status of each part, by name, such as ``{"scheduler": "healthy", …}``.

        Raises
        ------
        AirflowUnreachable
            If the API server does not answer.
        """
        parts = self._ask("GET", "/api/v2/monitor/health")
        return {name: part["status"] for name, part in parts.items() if part}

    def knows(self, dag: str) -> bool:
        """Return whether a DAG has been read.

        Raises
        ------
        AirflowRefused
            If Airflow does not let us look.
        """
        try:
            self._authorised("GET", f"/api/v2/dags/{dag}")
        except AirflowUnknown:
            return False
        return True

    def trigger(
        self, dag: str, params: Mapping[str, object] | None = None, timeout_s: float = 60
    ) -> str:
        """Start a run of a DAG, which may have to be read first, and return its id.

        Raises
        ------
        AirflowRefused
            If Airflow refuses; a parameter that is not as the DAG says, say.
        AirflowSlow
            If the DAG has not been read after `timeout_s`.
        """
        _await(lambda: self.knows(dag), timeout_s, f"Airflow at {self.uri} has no DAG {dag}")
        body = {"logical_date": None, "conf": dict(params or {})}
        run = self._authorised("POST", f"/api/v2/dags/{dag}/dagRuns", body)
        return str(run["dag_run_id"])

    def await_end(self, dag: str, run: str, timeout_s: float) -> str:
        """Wait for the end of a run and return how it ended: ``"success"`` or ``"failed"``.

        Raises
        ------
        AirflowSlow
            If it still runs after `timeout_s`.
        """
        states = ["not asked"]

        def ended() -> bool:
            states.append(self._authorised("GET", f"/api/v2/dags/{dag}/dagRuns/{run}")["state"])
            return states[-1] in _ENDED

        _await(ended, timeout_s, f"run {run} of {dag} has not ended")
        return states[-1]

    def result(self, dag: str, run: str, task: str) -> Any:
        """Return what a task returned: its XCom."""
        entry = self._authorised(
            "GET", f"{_task(dag, run, task)}/xcomEntries/return_value?deserialize=true"
        )
        return entry["value"]

    def log(self, dag: str, run: str, task: str) -> str:
        """Return what the first try of a task has logged, one line an event."""
        found = self._authorised("GET", f"{_task(dag, run, task)}/logs/1?full_content=true")
        return "\n".join(
            str(each.get("event", each)) if isinstance(each, dict) else str(each)
            for each in found["content"]
        )

    def _authorised(self, method: str, path: str, body: object = None) -> Any:
        if self._token is None:
            self._token = str(self._ask("POST", "/auth/token", self._who)["access_token"])
        return self._ask(method, path, body, {"Authorization": f"Bearer {self._token}"})

    def _ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        connection = HTTPConnection(self._address, timeout=_TIMEOUT_S)
        try:
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {"Content-Type": "application/json", **(headers or {})},
            )
            answer = connection.getresponse()
            content = answer.read().decode()
        except OSError as error:
            raise AirflowUnreachable(f"no Airflow answers at {self.uri}: {error}") from error
        finally:
            connection.close()
        if answer.status >= HTTPStatus.BAD_REQUEST:
            # The request is not quoted: it may hold a password.
            kind = AirflowUnknown if answer.status == HTTPStatus.NOT_FOUND else AirflowRefused
            raise kind(f"{self.uri}{path}: status {answer.status}: {content[:500]}")
        return json.loads(content)


def _task(dag: str, run: str, task: str) -> str:
    return f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}"


def _await(condition: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AirflowSlow(f"{otherwise} after {timeout_s:.0f} s")
        time.sleep(_PROBE_S)
