"""What secures librdkafka secures Kafka's Java client too, or is refused."""

import pytest

from fraudstream.kafka.security import Untranslatable
from fraudstream.kafka.security import java_properties

_SCRAM = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.username": "trainer",
    "sasl.password": "secret",
}
_SCRAM_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule"


def test_without_properties_there_is_nothing_to_tell() -> None:
    assert java_properties({}) == {}


def test_what_only_tunes_is_left_out() -> None:
    tuning = {"linger.ms": "5", "queued.min.messages": "1000", "client.id": "ours"}
    assert java_properties({**tuning, "security.protocol": "ssl"}) == {"security.protocol": "SSL"}


@pytest.mark.parametrize("name", ["sasl.mechanism", "sasl.mechanisms"])
def test_both_names_of_the_mechanism_are_understood(name: str) -> None:
    told = java_properties(
        {
            "security.protocol": "sasl_plaintext",
            name: "PLAIN",
            "sasl.username": "u",
            "sasl.password": "p",
        }
    )
    assert told == {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required "
        'username="u" password="p";',
    }


def test_what_would_end_a_quoted_text_early_is_escaped() -> None:
    told = java_properties({**_SCRAM, "sasl.username": 'a"b', "sasl.password": 'c\\"\nd\r;'})
    assert told["sasl.jaas.config"] == (
        f'{_SCRAM_MODULE} required username="a\\"b" password="c\\\\\\"\\nd\\r;";'
    )


def test_a_name_and_a_password_that_are_not_used_are_not_told() -> None:
    assert java_properties({**_SCRAM, "security.protocol": "ssl"}) == {"security.protocol": "SSL"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"ssl.ca.location": "/ca.crt"},
            {"ssl.truststore.type": "PEM", "ssl.truststore.location": "/ca.crt"},
        ),
        (
            {"ssl.ca.pem": "---"},
            {"ssl.truststore.type": "PEM", "ssl.truststore.certificates": "---"},
        ),
        (
            {"ssl.certificate.pem": "-c-", "ssl.key.pem": "-k-", "ssl.key.password": "p"},
            {
                "ssl.keystore.type": "PEM",
                "ssl.keystore.certificate.chain": "-c-",
                "ssl.keystore.key": "-k-",
                "ssl.key.password": "p",
            },
        ),
        (
            {"ssl.keystore.location": "/k.p12", "ssl.keystore.password": "p"},
            {
                "ssl.keystore.type": "PKCS12",
                "ssl.keystore.location": "/k.p12",
                "ssl.keystore.password": "p",
            },
        ),
        (
            {"ssl.endpoint.identification.algorithm": "none"},
            {"ssl.endpoint.identification.algorithm": ""},
        ),
        (
            {"ssl.endpoint.identification.algorithm": "https"},
            {"ssl.endpoint.identification.algorithm": "https"},
        ),
        ({"enable.ssl.certificate.verification": "True"}, {}),
    ],
    ids=lambda value: next(iter(value), "nothing"),
)
def test_certificates_and_keys_are_told(given: dict[str, str], told: dict[str, str]) -> None:
    assert java_properties(given) == told


@pytest.mark.parametrize(
    "name", ["ssl.crl.location", "sasl.kerberos.principal", "enable.sasl.oauthbearer.unsecure.jwt"]
)
def test_what_has_no_equal_is_refused_and_not_left_out(name: str) -> None:
    with pytest.raises(Untranslatable, match=f"{name} cannot be told .*ssl.ca.pem"):
        java_properties({**_SCRAM, name: "x"})


def test_a_client_that_verifies_nothing_is_refused() -> None:
    with pytest.raises(Untranslatable, match="always verifies: expected true"):
        java_properties({"enable.ssl.certificate.verification": "false"})


@pytest.mark.parametrize(("mechanism", "told"), [("GSSAPI", "GSSAPI"), ("", "nothing")])
def test_a_mechanism_without_a_password_is_refused(mechanism: str, told: str) -> None:
    with pytest.raises(Untranslatable, match=f"sasl.mechanism: expected PLAIN.*got {told}"):
        java_properties({**_SCRAM, "sasl.mechanism": mechanism})


@pytest.mark.parametrize("name", ["sasl.username", "sasl.password"])
def test_a_login_without_its_name_or_password_is_refused(name: str) -> None:
    given = {key: value for key, value in _SCRAM.items() if key != name}
    with pytest.raises(Untranslatable, match=f"{name}: expected it beside sasl.mechanism"):
        java_properties(given)
