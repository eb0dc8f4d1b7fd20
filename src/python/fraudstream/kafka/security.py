"""Security of a client, as librdkafka's properties say it, told to Kafka's Java client.

What a user writes is one file, in librdkafka's terms. Spark's source and sink are Java, which has
other names for the same things.
"""

from collections.abc import Callable
from collections.abc import Mapping

_LOGIN_MODULES = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}

# Java reads JAAS with a tokenizer in which a quoted text ends at its line.
_QUOTED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r"})


class Untranslatable(ValueError):
    """A property on which security depends has no equal in Kafka's Java client."""


def java_properties(properties: Mapping[str, str]) -> dict[str, str]:
    """Return the properties by which a Java client is as secure as one of librdkafka's.

    What only tunes librdkafka is left out. What secures it is translated or refused: a client that
    quietly did without would be less secure than its user believes.

    Parameters
    ----------
    properties
        As `fraudstream.kafka.options.read_properties` gives them.

    Returns
    -------
    dict
        Of Java's names, as Spark takes them behind ``kafka.``. It holds what is secret in
        `properties`, in other words. Empty for plain text.

    Raises
    ------
    Untranslatable
        If a property of security has no equal, or a value that Java's client cannot take.

    Examples
    --------
    >>> told = java_properties(
    ...     {
    ...         "security.protocol": "sasl_ssl",
    ...         "sasl.mechanism": "SCRAM-SHA-512",
    ...         "sasl.username": "trainer",
    ...         "sasl.password": 'one"two',
    ...         "ssl.ca.location": "/run/secrets/ca.crt",
    ...         "linger.ms": "5",
    ...     }
    ... )
    >>> for name, value in told.items():
    ...     print(name, "=", value)
    security.protocol = SASL_SSL
    ssl.truststore.location = /run/secrets/ca.crt
    ssl.truststore.type = PEM
    sasl.mechanism = SCRAM-SHA-512
    sasl.jaas.config = org.apache.kafka.common.security.scram.ScramLoginModule required \
username="trainer" password="one\\"two";
    """
    told: dict[str, str] = {}
    for name, value in properties.items():
        if name in _JAVA:
            told |= _JAVA[name](value)
        elif name in _LOGIN:
            continue
        elif name.startswith(("security.", "sasl.", "ssl.", "enable.ssl.", "enable.sasl.")):
            raise Untranslatable(
                f"{name} cannot be told to Spark's Kafka client: expected one of "
                f"{', '.join(sorted({*_JAVA, *_LOGIN}))}"
            )
    return told | _login(properties)


def _login(properties: Mapping[str, str]) -> dict[str, str]:
    """Return who the client is and how it proves that, which Java is told as one text."""
    if not properties.get("security.protocol", "").upper().startswith("SASL_"):
        return {}
    mechanism = properties.get("sasl.mechanism", properties.get("sasl.mechanisms", ""))
    if mechanism not in _LOGIN_MODULES:
        raise Untranslatable(
            f"sasl.mechanism: expected {', '.join(_LOGIN_MODULES)}, got {mechanism or 'nothing'}"
        )
    for name in ("sasl.username", "sasl.password"):
        if name not in properties:
            raise Untranslatable(f"{name}: expected it beside sasl.mechanism {mechanism}")
    user, password = (
        properties[name].translate(_QUOTED) for name in ("sasl.username", "sasl.password")
    )
    return {
        "sasl.mechanism": mechanism,
        "sasl.jaas.config": (
            f'{_LOGIN_MODULES[mechanism]} required username="{user}" password="{password}";'
        ),
    }


def _named(name: str, **more: str) -> Callable[[str], dict[str, str]]:
    """Tell a value under `name`, and what Java has to be told with it, with ``_`` for ``.``."""
    return lambda value: {name: value} | {k.replace("_", "."): v for k, v in more.items()}


def _host_check(value: str) -> dict[str, str]:
    # Java's word for no check is the empty one.
    return {"ssl.endpoint.identification.algorithm": "" if value.lower() == "none" else value}


def _verification(value: str) -> dict[str, str]:
    if value.lower() not in {"true", "t", "1"}:
        raise Untranslatable(
            f"enable.ssl.certificate.verification={value} cannot be told to Spark's Kafka client, "
            "which always verifies: expected true, and the CA's certificate as ssl.ca.pem.file"
        )
    return {}


_LOGIN = {"sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password"}

_JAVA: dict[str, Callable[[str], dict[str, str]]] = {
    "security.protocol": lambda value: {"security.protocol": value.upper()},
    "ssl.ca.location": _named("ssl.truststore.location", ssl_truststore_type="PEM"),
    "ssl.ca.pem": _named("ssl.truststore.certificates", ssl_truststore_type="PEM"),
    "ssl.certificate.pem": _named("ssl.keystore.certificate.chain", ssl_keystore_type="PEM"),
    "ssl.key.pem": _named("ssl.keystore.key", ssl_keystore_type="PEM"),
    "ssl.key.password": _named("ssl.key.password"),
    # The one kind of store that librdkafka reads.
    "ssl.keystore.location": _named("ssl.keystore.location", ssl_keystore_type="PKCS12"),
    "ssl.keystore.password": _named("ssl.keystore.password"),
    "ssl.endpoint.identification.algorithm": _host_check,
    "enable.ssl.certificate.verification": _verification,
}
