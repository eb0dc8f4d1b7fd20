"""The program makes a folder of what a secured Kafka and its clients are started with."""

from pathlib import Path
import stat

from click.testing import CliRunner
from click.testing import Result
from cryptography import x509

from fraudstream.credentials.main import credentials
from fraudstream.kafka.options import read_properties


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(credentials, arguments)


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


def test_it_names_the_files_that_it_has_made(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    result = invoke(str(folder))
    assert result.exit_code == 0
    assert {Path(line) for line in result.stdout.splitlines()} == set(folder.iterdir())
    assert read_properties(folder / "kafka-producer.properties")["sasl.username"] == "producer"


def test_the_certificate_is_for_the_hosts_that_are_named_and_for_this_machine(
    tmp_path: Path,
) -> None:
    assert invoke(str(tmp_path / "secrets"), "--host=kafka", "--host=10.0.0.7").exit_code == 0
    text = (tmp_path / "secrets" / "kafka-broker.pem").read_text()
    found = x509.load_pem_x509_certificate(text[text.index("-----BEGIN CERT") :].encode())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "kafka"]
    assert list(map(str, names.get_values_for_type(x509.IPAddress))) == ["127.0.0.1", "10.0.0.7"]


def test_secrets_are_for_their_owner_only(tmp_path: Path) -> None:
    assert invoke(str(tmp_path / "secrets")).exit_code == 0
    assert modes(tmp_path) == {0o700}
    assert modes(tmp_path / "secrets") == {0o600}


def test_for_containers_the_folder_is_closed_and_the_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir(mode=0o755)
    assert invoke(str(tmp_path / "secrets"), "--for-containers").exit_code == 0
    assert modes(tmp_path) == {0o700}
    assert modes(tmp_path / "secrets") == {0o644}


def test_a_host_that_is_no_name_is_refused_in_one_line(tmp_path: Path) -> None:
    result = invoke(str(tmp_path / "secrets"), "--host=käfka")
    assert isinstance(result.exception, ValueError)
    assert "käfka" in str(result.exception)
