"""Certificates are what a strict client asks for, and nobody can sign another."""

from datetime import UTC
from datetime import datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder
from cryptography.x509.verification import Store
from cryptography.x509.verification import VerificationError
import pytest

from fraudstream.stack.certificates import VALIDITY
from fraudstream.stack.certificates import Issued
from fraudstream.stack.certificates import issue

_NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def issued() -> Issued:
    return issue("kafka", ["kafka.example.org", "127.0.0.1"], _NOW)


def certificate(text: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(text[text.index("-----BEGIN CERT") :].encode())


def verify(issued: Issued, host: x509.GeneralName, authority: str, now: datetime) -> None:
    store = Store([certificate(authority)])
    verifier = PolicyBuilder().store(store).time(now).build_server_verifier(host)
    verifier.verify(certificate(issued.server), [])


@pytest.mark.parametrize(
    "host",
    [x509.DNSName("kafka.example.org"), x509.IPAddress(ip_address("127.0.0.1"))],
    ids=["name", "address"],
)
def test_the_server_is_trusted_under_each_of_its_names(
    issued: Issued, host: x509.GeneralName
) -> None:
    verify(issued, host, issued.authority, _NOW)
    verify(issued, host, issued.authority, _NOW + VALIDITY)


def test_it_is_not_trusted_under_another_name_or_authority_or_when_it_has_run_out(
    issued: Issued,
) -> None:
    host = x509.DNSName("kafka.example.org")
    other = issue("kafka", ["kafka.example.org"], _NOW)
    for name, authority, now in (
        (x509.DNSName("elsewhere"), issued.authority, _NOW),
        (host, other.authority, _NOW),
        (host, issued.authority, _NOW + 2 * VALIDITY),
    ):
        with pytest.raises(VerificationError):
            verify(issued, name, authority, now)


def test_the_server_can_be_a_client_but_no_authority(issued: Issued) -> None:
    extensions = certificate(issued.server).extensions
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.CLIENT_AUTH in purposes
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_key_is_the_servers_and_the_authoritys_is_nowhere(issued: Issued) -> None:
    key = serialization.load_pem_private_key(issued.server.encode(), password=None)
    assert key.public_key() == certificate(issued.server).public_key()
    assert "PRIVATE" not in issued.authority
    assert issued.server.count("PRIVATE KEY") == 2
