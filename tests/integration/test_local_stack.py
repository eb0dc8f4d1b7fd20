"""The stack without Docker is real, keeps what it is given, and lets nobody in without a password.

It runs twice in one folder. The first time is the command line's, with the producer and a stand-in
for the stream; then it is stopped as Ctrl-C does. The second time is what these tests look at.
"""

from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from contextlib import contextmanager
from datetime import UTC
from datetime import datetime
from http.client import HTTPConnection
import io
from pathlib import Path
import signal
import socket
import stat
import subprocess
import sys

from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
import orjson
import psycopg
import pytest
from rich.console import Console

from fraudstream.cli.steps import Steps
from fraudstream.cli.tracking import read_credentials
from fraudstream.inference.registry import Registry as RegistryOfChampions
from fraudstream.inference.registry import RegistryUnreachable
from fraudstream.kafka.reading import spans
from fraudstream.kafka.topics import AccessRefused
from fraudstream.kafka.topics import Topics
from fraudstream.stack.apps import Traffic
from fraudstream.stack.local import BUCKET
from fraudstream.stack.local import LocalStack
from fraudstream.stack.local import Ports
from fraudstream.stack.local import Programs
from fraudstream.stack.local import StackRefused
from fraudstream.stack.mlflow import MlflowServer
from fraudstream.stack.process import ProcessFailed
from fraudstream.stack.process import listens
from fraudstream.stack.s3 import ObjectStore
from fraudstream.stack.secrets import write_private
from fraudstream.trainer.registry import Registry
from fraudstream.trainer.registry import RegistryRefused
from integration import apps

_MODEL = "fraud-detector"
_BYTES = b"weights of a model"
_OTHER = "another password"
# What MLflow came with for years.
_KNOWN = "password1234"
_DEADLINE_S = 120.0


def stack(folder: Path, ports: Ports | None = None) -> LocalStack:
    steps = Steps(Console(file=io.StringIO()))
    programs = Programs(apps.mlflow())
    return LocalStack(folder, apps.cache(), programs, ports or Ports.free(), steps)


@contextmanager
def client(uri: str, credentials: Path) -> Iterator[MlflowClient]:
    """Yield a client of MLflow that is let in, or not, by a file of credentials."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in read_credentials(credentials).items():
            patch.setenv(f"MLFLOW_TRACKING_{name.upper()}", value)
        yield MlflowClient(uri, uri)


def register_champion(uri: str, credentials: Path, scratch: Path) -> None:
    """Register a model as the trainer does, and let it serve."""
    (scratch / "model.bin").write_bytes(_BYTES)
    with client(uri, credentials) as trainer:
        run = trainer.create_run(trainer.create_experiment("fraudstream")).info.run_id
        trainer.log_artifact(run, str(scratch / "model.bin"), "bundle")
        trainer.create_registered_model(_MODEL)
        version = trainer.create_model_version(_MODEL, f"runs:/{run}/bundle", run).version
        trainer.set_registered_model_alias(_MODEL, "champion", version)


def script(file: Path, text: str) -> Path:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def talk(port: int, *lines: str) -> list[str]:
    """Say lines to Redis and return what it answers."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall("".join(f"{line}\r\n" for line in (*lines, "QUIT")).encode())
        with connection.makefile("r", newline="\r\n") as answer:
            return answer.read().split("\r\n")[: len(lines)]


def ask(server: MlflowServer, host: str | None = None, user: str = "", password: str = "") -> int:
    """Return how MLflow answers one who asks for its experiments."""
    headers = {"Host": host} if host else {}
    if user:
        headers["Authorization"] = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
    address = server.uri.removeprefix("http://")
    with closing(HTTPConnection(address, timeout=20)) as connection:
        connection.request("GET", "/api/2.0/mlflow/experiments/search?max_results=1", None, headers)
        return connection.getresponse().status


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a stack that the command line has run, with a champion in it."""
    scratch = tmp_path_factory.mktemp("first")
    folder = scratch / "stack"
    producer = script(
        scratch / "producer",
        f"PYTHONPATH='{apps.environment()['PYTHONPATH']}' "
        f'exec {sys.executable} -m fraudstream.producer.main "$@"',
    )
    inference = script(
        scratch / "inference", f'(env; echo "$@") >{scratch}/started; exec sleep 600'
    )
    with (scratch / "said").open("wb") as said, (scratch / "places").open("wb") as places:
        program = subprocess.Popen(
            [
                *(sys.executable, "-m", "fraudstream.stack.main", "--json", "--free-ports"),
                *("--folder", str(folder), "--cache", str(apps.cache())),
                *("--mlflow", *apps.mlflow()),
                *("--producer", str(producer), "--inference", str(inference)),
            ],
            env=apps.environment(),
            stdout=places,
            stderr=said,
        )
    try:
        shown = scratch / "places"
        apps.await_that(lambda: shown.stat().st_size > 0, program, 900.0)
        services = orjson.loads(shown.read_bytes())["services"]
        trainer = Path(services["mlflow"]["secrets"]["trainer"])
        register_champion(services["mlflow"]["address"], trainer, scratch)
        port = int(services["redis"]["address"].rpartition(":")[2])
        password = (folder / "secrets" / "redis-password").read_text()
        assert talk(port, f"AUTH {password}", "SET kept yes") == ["+OK", "+OK"]
        apps.await_that((scratch / "started").exists, program, _DEADLINE_S)
        program.send_signal(signal.SIGINT)
        assert program.wait(_DEADLINE_S) == 0, (scratch / "said").read_text()
    finally:
        program.kill()
        program.wait()
    started = (scratch / "started").read_text()
    assert f"FRAUDSTREAM_KAFKA_CONFIG={folder}/secrets/kafka-inference.properties" in started
    assert f"run --wait-for-model --checkpoint {folder}" in started
    assert not any(
        listens(int(service["address"].rpartition(":")[2])) for service in services.values()
    )
    return folder


@pytest.fixture(scope="module")
def running(first: Path) -> Iterator[LocalStack]:
    with stack(first) as started:
        yield started


def test_a_champion_outlives_a_restart(running: LocalStack, tmp_path: Path) -> None:
    with client(
        running.mlflow.uri, running.secrets.folder / "mlflow-inference.credentials"
    ) as seen:
        version = seen.get_model_version_by_alias(_MODEL, "champion")
        found = seen.download_artifacts(version.run_id, "bundle/model.bin", str(tmp_path))
    assert Path(found).read_bytes() == _BYTES


def test_artifacts_lie_in_the_bucket(running: LocalStack) -> None:
    s3 = running.minio.store.client()
    [found] = [
        each["Key"]
        for each in s3.list_objects_v2(Bucket=BUCKET)["Contents"]
        if each["Key"].endswith("model.bin")
    ]
    assert s3.get_object(Bucket=BUCKET, Key=found)["Body"].read() == _BYTES


def test_runs_and_models_lie_in_postgresql(running: LocalStack) -> None:
    with psycopg.connect(running.postgres.uri("mlflow")) as database:
        models = database.execute("SELECT name FROM registered_models").fetchall()
    assert models == [(_MODEL,)]


def test_redis_keeps_what_it_took(running: LocalStack) -> None:
    password = running.secrets.read("redis-password")
    assert talk(running.redis.port, f"AUTH {password}", "EXISTS kept") == ["+OK", ":1"]


def test_traffic_goes_on_after_the_last_day_that_was_sent(running: LocalStack) -> None:
    trainer = running.broker.cluster("trainer")
    kept = sum(span.high for span in spans(trainer, Topics().transactions))
    traffic = Traffic(Path("producer"), running, datetime.now(UTC))
    assert kept > 100_000
    assert traffic.has_history


def test_a_role_reads_and_writes_no_topic_but_its_own(running: LocalStack) -> None:
    with pytest.raises(AccessRefused):
        running.broker.cluster("producer").require_topics([Topics().scores])


def test_postgresql_asks_for_the_right_password(running: LocalStack, tmp_path: Path) -> None:
    wrong = write_private(tmp_path / "pgpass", "*:*:*:*:wrong\n")
    uri = running.postgres.uri("mlflow").partition("?")[0]
    for user in ("mlflow", "postgres"):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(uri, user=user, passfile=str(wrong))
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(uri, passfile="/nowhere")


def test_a_role_of_postgresql_enters_its_own_database_only(running: LocalStack) -> None:
    password = running.secrets.read("postgres-mlflow-password")
    uri = running.postgres.uri("mlflow").partition("?")[0]
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(uri, dbname="postgres", password=password)
    with psycopg.connect(uri, password=password) as database:
        rights = database.execute(
            "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = 'mlflow'"
        ).fetchone()
    assert rights == (False, False, False)


def test_a_secret_that_was_changed_is_the_password_from_then_on(running: LocalStack) -> None:
    uri = running.postgres.provide("changing")
    write_private(running.secrets.folder / "postgres-changing-password", _OTHER)
    running.postgres.provide("changing")
    with psycopg.connect(uri) as database:
        assert database.info.password == _OTHER


def test_redis_asks_for_the_right_password(running: LocalStack) -> None:
    [refused] = talk(running.redis.port, "EXISTS kept")
    assert refused.startswith("-NOAUTH")
    [refused, _] = talk(running.redis.port, "AUTH wrong", "EXISTS kept")
    assert refused.startswith("-WRONGPASS")


def test_minio_asks_for_the_right_keys(running: LocalStack, tmp_path: Path) -> None:
    right = running.secrets.folder / "s3.aws"
    secret_key = running.secrets.read("s3-secret-key")
    wrong = write_private(tmp_path / "aws", right.read_text().replace(secret_key, "0" * 48))
    endpoint = running.minio.store.endpoint
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        ObjectStore(endpoint, wrong).client().list_buckets()
    with pytest.raises(ClientError, match="AccessDenied"):
        ObjectStore(endpoint, right).client(Config(signature_version=UNSIGNED)).list_buckets()
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        ObjectStore(endpoint, wrong).provide("another")


def test_mlflow_asks_for_the_right_password(running: LocalStack) -> None:
    assert ask(running.mlflow) == 401
    assert ask(running.mlflow, user="admin", password=_OTHER) == 401
    assert ask(running.mlflow, user="admin", password=_KNOWN) == 401
    password = running.secrets.read("mlflow-admin-password")
    assert ask(running.mlflow, user="admin", password=password) == 200


def test_our_apps_say_whom_mlflow_does_not_know(running: LocalStack, tmp_path: Path) -> None:
    wrong = write_private(tmp_path / "wrong", f"username=trainer\npassword={_OTHER}\n")
    uri = running.mlflow.uri
    with client(uri, wrong):
        with pytest.raises(RegistryRefused, match="give them with --tracking-credentials"):
            Registry(uri, _MODEL).check()
        with pytest.raises(RegistryUnreachable, match="give them with --tracking-credentials"):
            RegistryOfChampions(uri, _MODEL).bearing("champion")


def test_a_user_of_mlflow_changes_only_what_is_its_own(running: LocalStack) -> None:
    credentials = running.secrets.folder / "mlflow-inference.credentials"
    with (
        client(running.mlflow.uri, credentials) as inference,
        pytest.raises(MlflowException, match="Permission denied"),
    ):
        inference.delete_registered_model_alias(_MODEL, "champion")


def test_a_user_whose_secret_was_changed_gets_the_new_password(running: LocalStack) -> None:
    running.mlflow.provide("changing")
    write_private(running.secrets.folder / "mlflow-changing-password", _OTHER)
    file = running.mlflow.provide("changing")
    assert read_credentials(file)["password"] == _OTHER
    assert ask(running.mlflow, user="changing", password=_OTHER) == 200


def test_mlflow_answers_to_its_own_address_only(running: LocalStack) -> None:
    user = {"user": "admin", "password": running.secrets.read("mlflow-admin-password")}
    assert ask(running.mlflow, host="fraud.example", **user) == 403
    port = running.mlflow.uri.rpartition(":")[2]
    assert ask(running.mlflow, host=f"localhost:{port}", **user) == 200


def test_nothing_is_reachable_from_other_machines(running: LocalStack) -> None:
    for place in running.places():
        port = int(place.address.rpartition(":")[2])
        with socket.socket() as outside:
            # Another address of the loopback network stands for any other.
            assert outside.connect_ex(("127.0.0.2", port)) != 0, place.service


def secrets_of(running: LocalStack) -> set[str]:
    names = ("*-password", "*-key")
    return {file.read_text() for name in names for file in running.secrets.folder.glob(name)}


def test_every_file_that_holds_a_secret_is_for_its_owner_only(running: LocalStack) -> None:
    assert stat.S_IMODE(running.secrets.folder.stat().st_mode) == 0o700
    own = secrets_of(running)
    assert len(own) > 10
    for file in running.folder.rglob("*"):
        # What services keep in their own data folders is theirs to protect.
        if file.is_file() and not {"data", "scratch"} & set(file.relative_to(running.folder).parts):
            content = file.read_text(errors="replace")
            if any(secret in content for secret in own):
                assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_no_secret_is_in_an_argument_of_a_program_or_in_a_log(running: LocalStack) -> None:
    own = secrets_of(running)
    commands = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(process.read_text(errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue  # It has ended meanwhile.
    assert any(str(running.folder / "minio") in command for command in commands)
    logs = [file.read_text(errors="replace") for file in running.folder.glob("*/*.log")]
    assert len(logs) >= 5
    assert not [text for text in (*commands, *logs) if any(secret in text for secret in own)]


def test_one_folder_is_one_stacks(running: LocalStack) -> None:
    with pytest.raises(StackRefused, match=r"a stack runs in .* already"):
        stack(running.folder).start()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StackRefused, match=rf"expected port {port} .* to be free for redis"):
            stack(tmp_path, Ports(0, 0, port, 0, 0)).start()


def test_a_service_that_has_ended_by_itself_is_told(running: LocalStack) -> None:
    # The last of these tests: what it ends stays so.
    running.require_running()
    running.redis.stop()
    with pytest.raises(ProcessFailed, match="Redis ended with exit code 0"):
        running.require_running()
