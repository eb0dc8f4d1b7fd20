"""A private certificate authority that signs one server's certificate, and is gone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from datetime import timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.oid import NameOID

#: How long a certificate holds.
VALIDITY = timedelta(days=730)
# The clock of a client may be behind ours.
_CLOCKS_DIFFER = timedelta(hours=1)


class BadHost(ValueError):
    """A host that a certificate cannot name."""


@dataclass(frozen=True)
class Issued:
    """A certificate, and the authority that has signed it, as PEM texts.

    Attributes
    ----------
    authority
        The authority's certificate, which clients have to trust.
    server
        The server's key, as PKCS #8 without a password, followed by its certificate.
    """

    authority: str
    server: str


def issue(name: str, hosts: Sequence[str], now: datetime) -> Issued:
    """Make an authority and let it sign one server's certificate.

    The authority's key is not kept, so nobody can ever sign another certificate that is trusted
    as this one is. Where it runs out, or another host is to be served, all is issued anew.

    Parameters
    ----------
    name
        The server's, as the certificate's common name.
    hosts
        Names and addresses under which clients reach the server.
    now
        When the certificates begin to hold; aware.

    Raises
    ------
    BadHost
        If a name has letters that a certificate does not take.

    Examples
    --------
    >>> from datetime import UTC
    >>> issued = issue("kafka", ["localhost", "127.0.0.1"], datetime.now(UTC))
    >>> issued.authority.splitlines()[0], issued.server.splitlines()[0]
    ('-----BEGIN CERTIFICATE-----', '-----BEGIN PRIVATE KEY-----')
    """
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority_name, server_name = (_name(each) for each in (f"{name} authority", name))
    key_id = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    authority = (
        _builder(authority_name, authority_name, authority_key, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
        .add_extension(key_id, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    # A broker is a client as well, to itself and to its controller.
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    server = (
        _builder(server_name, authority_name, server_key, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    key = server_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Issued(_pem(authority), key.decode() + _pem(server))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + VALIDITY)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    if not host.isascii():
        raise BadHost(f"{host}: expected an address, or a name in ASCII (xn--... for others)")
    return x509.DNSName(host)


def _usage(*, key_cert_sign: bool = False, digital_signature: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
