"""Every app finds its cluster and its topics by the same options."""

from collections.abc import Callable
from collections.abc import Sequence
import os
from pathlib import Path

import click
import pytest

from fraudstream.kafka.options import BadProperties
from fraudstream.kafka.options import kafka_options
from fraudstream.kafka.options import read_properties
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics


def parse(arguments: Sequence[str], *names: str) -> tuple[Cluster, Topics]:
    seen: list[tuple[Cluster, Topics]] = []

    @click.command()
    @kafka_options(*names)
    def command(cluster: Cluster, topics: Topics) -> None:
        seen.append((cluster, topics))

    command.main(list(arguments), standalone_mode=False)
    return seen[0]


def properties_file(folder: Path, text: str) -> Path:
    file = folder / "client.properties"
    file.write_text(text)
    return file


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in os.environ if each.startswith("FRAUDSTREAM_")]:
        monkeypatch.delenv(name)


def test_without_options_all_has_its_default() -> None:
    assert parse([]) == (Cluster("localhost:9092"), Topics())


def test_every_topic_can_be_named() -> None:
    arguments = ["--transactions-topic=a", "--labels-topic=b", "--predicted-topic=c"]
    arguments += ["--scores-topic=d", "--dead-letters-topic=e"]
    assert parse(arguments)[1] == Topics("a", "b", "c", "d", "e")


def test_a_command_has_no_option_for_a_topic_that_it_does_not_use() -> None:
    assert parse(["--labels-topic=b"], "labels")[1] == Topics(labels="b")
    with pytest.raises(click.NoSuchOption):
        parse(["--scores-topic=d"], "labels")


def test_options_are_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUDSTREAM_BOOTSTRAP_SERVERS", "kafka:1")
    monkeypatch.setenv("FRAUDSTREAM_DEAD_LETTERS_TOPIC", "e")
    assert parse([]) == (Cluster("kafka:1"), Topics(dead_letters="e"))


def test_client_properties_are_read_from_a_file(tmp_path: Path) -> None:
    file = properties_file(
        tmp_path, "# who we are\n\nsasl.password = a=b \nsecurity.protocol=SSL\n"
    )
    cluster, _ = parse(["--kafka-config", str(file)])
    assert cluster.properties == {"sasl.password": "a=b", "security.protocol": "SSL"}


@pytest.mark.parametrize("line", ["secret", "= secret"])
def test_a_line_that_sets_nothing_is_told_by_its_number_and_not_quoted(
    tmp_path: Path, line: str
) -> None:
    with pytest.raises(BadProperties, match=r"line 2: expected key=value") as refusal:
        read_properties(properties_file(tmp_path, f"acks=all\n{line}\n"))
    assert "secret" not in str(refusal.value)


def test_the_address_is_not_taken_from_the_file(tmp_path: Path) -> None:
    with pytest.raises(BadProperties, match="--bootstrap-servers"):
        read_properties(properties_file(tmp_path, "bootstrap.servers=kafka:1"))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(BadProperties, match="UTF-8"):
        read_properties(file)


def test_a_secret_in_a_file_of_its_own_is_found_beside_the_properties(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "password").write_text(" with a blank before it\n")
    (tmp_path / "ca.crt").write_text("-----BEGIN\n-----END\n")
    lines = "sasl.password.file = secrets/password\nssl.ca.pem.file=ca.crt\n"
    assert read_properties(properties_file(tmp_path, lines)) == {
        "sasl.password": " with a blank before it",
        "ssl.ca.pem": "-----BEGIN\n-----END",
    }


def test_a_property_of_the_client_itself_that_names_a_file_stays_as_it_is(tmp_path: Path) -> None:
    line = "sasl.oauthbearer.assertion.private.key.file=/key.pem"
    name, _, value = line.partition("=")
    assert read_properties(properties_file(tmp_path, line)) == {name: value}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda file: None, "cannot be read: No such file"),
        (lambda file: file.mkdir(), "cannot be read: Is a directory"),
        (lambda file: file.write_bytes(b"\xff"), "expected a UTF-8 text file"),
    ],
    ids=["absent", "folder", "no text"],
)
def test_a_file_of_a_secret_that_cannot_be_read_is_named(
    tmp_path: Path, make: Callable[[Path], object], told: str
) -> None:
    make(tmp_path / "password")
    with pytest.raises(BadProperties, match=f"{tmp_path}/password:? {told}"):
        read_properties(properties_file(tmp_path, "sasl.password.file=password"))
