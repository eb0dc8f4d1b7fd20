"""What a secured Kafka and its clients have to know: certificates, passwords, client properties."""

from base64 import b64encode
from collections.abc import Iterable
from collections.abc import Mapping
from datetime import datetime
import hashlib
from pathlib import Path
import secrets as randomness

from fraudstream.kafka.acls import ROLES
from fraudstream.kafka.options import read_properties
from fraudstream.kafka.security import java_properties
from fraudstream.stack.certificates import issue
from fraudstream.stack.secrets import Secrets

#: Creates topics and grants rights; the broker asks no access list about it.
ADMIN = "admin"
#: The authority's certificate: no secret, but it belongs to the rest.
AUTHORITY = "kafka-ca.crt"
#: The broker's key and certificate.
BROKER = "kafka-broker.pem"
#: Arguments of ``kafka-storage.sh format``, one a line, which make the users.
USERS = "kafka-users.args"
#: For Kafka's own tools, as ``--command-config``: admin's properties in Java's terms.
TOOLS = "kafka-tools.properties"

# The broker takes no fewer. A password of ours cannot be guessed with any number, and each
# connection pays for them.
_ITERATIONS = 4096

_CLIENT = """\
# Who {role} is to Kafka. Give this file to a program as --kafka-config, with the two that it names
# beside it.
security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-512
sasl.username={role}
sasl.password.file={password}
ssl.ca.pem.file={authority}
"""

_IN_PROPERTIES = str.maketrans({"\\": r"\\", "\n": r"\n"})


def client_properties(role: str) -> str:
    """Return the name of the secret that holds a role's client properties."""
    return f"kafka-{role}.properties"


def provide(secrets: Secrets, hosts: Iterable[str], now: datetime) -> list[Path]:
    """See to it that there is everything that a secured broker and its clients have to know.

    Keys, certificates and passwords that are there stay as they are: a broker that was set up with
    them would not know others.

    Parameters
    ----------
    secrets
        Holds or gets `AUTHORITY`, `BROKER`, `USERS` and `TOOLS`; and for each role, and for
        `ADMIN`, ``kafka-{role}-password`` and ``kafka-{role}.properties``.
    hosts
        Names and addresses under which clients reach the broker.
    now
        When a certificate that is issued begins to hold; aware.

    Returns
    -------
    list
        The files.
    """
    authority, broker = (secrets.folder / name for name in (AUTHORITY, BROKER))
    if not (authority.exists() and broker.exists()):
        issued = issue("kafka", list(hosts), now)
        secrets.write(AUTHORITY, issued.authority)
        secrets.write(BROKER, issued.server)
    files = [authority, broker]
    known = {}
    for role in (ADMIN, *ROLES):
        password = secrets.file(f"kafka-{role}-password")
        text = _CLIENT.format(role=role, password=password.name, authority=AUTHORITY)
        client = secrets.write(client_properties(role), text)
        files += [password, client]
        known[role] = read_properties(client)
    users = (_user(role, properties["sasl.password"]) for role, properties in known.items())
    return [
        *files,
        secrets.write(USERS, "".join(f"--add-scram\n{user}\n" for user in users)),
        secrets.write(TOOLS, _java_file(java_properties(known[ADMIN]))),
    ]


def _user(name: str, password: str) -> str:
    """Return a user as ``--add-scram`` takes it: salted, so that any character may be in it."""
    salt = randomness.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    salt_text, salted_text = (b64encode(each).decode() for each in (salt, salted))
    return (
        f'SCRAM-SHA-512=[name="{name}",iterations={_ITERATIONS},'
        f'salt="{salt_text}",saltedpassword="{salted_text}"]'
    )


def _java_file(properties: Mapping[str, str]) -> str:
    return "".join(f"{k}={v.translate(_IN_PROPERTIES)}\n" for k, v in properties.items())
