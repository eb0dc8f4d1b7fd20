"""The command-line options by which every app finds its Kafka cluster and its topics.

An app's ``main.py`` puts `kafka_options` on a command; click reads the flags and the environment.
"""

from collections.abc import Callable
from dataclasses import fields
import functools
from pathlib import Path
from typing import Any

import click

from fraudstream.cli.console import option
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics

DEFAULT_BOOTSTRAP_SERVERS = "localhost:9092"

# What may be kept in a file of its own: a password belongs in no file that people show each other,
# and a certificate is several lines.
_IN_FILES = {
    "sasl.password",
    "ssl.ca.pem",
    "ssl.certificate.pem",
    "ssl.key.pem",
    "ssl.key.password",
}

_PURPOSE = {
    "transactions": "card transactions",
    "labels": "what became known of transactions",
    "predicted": "transactions scored at or over the threshold",
    "scores": "the score of every transaction",
    "dead_letters": "records that could not be used",
}


class BadProperties(ValueError):
    """A file of client properties that cannot be used."""


def kafka_options(*topics: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a click command the options of a Kafka client.

    The command receives two keyword arguments instead of the options' values: ``cluster``, a
    `Cluster`, and ``topics``, a `Topics`.

    Parameters
    ----------
    topics
        The topics that the command uses, by their names in `Topics`, such as ``"labels"``: each
        gets an option, the others keep their default names. None given means all.

    Examples
    --------
    >>> @click.command()
    ... @kafka_options("labels")
    ... def show(cluster: Cluster, topics: Topics) -> None:
    ...     print(cluster.bootstrap_servers, topics.labels, topics.scores)
    >>> show.main(["--bootstrap-servers=kafka:1", "--labels-topic=verdicts"], standalone_mode=False)
    kafka:1 verdicts scores
    """
    names = topics or tuple(each.name for each in fields(Topics))

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_cluster(
            *arguments: Any, bootstrap_servers: str, kafka_config: Path | None, **others: Any
        ) -> Any:
            named = {name: others.pop(f"{name}_topic") for name in names}
            properties = {} if kafka_config is None else read_properties(kafka_config)
            return command(
                *arguments,
                cluster=Cluster(bootstrap_servers, properties),
                topics=Topics(**named),
                **others,
            )

        decorated: Callable[..., Any] = with_cluster
        # Click lists the option that was added last first.
        for name in reversed(names):
            decorated = option(
                f"--{name.replace('_', '-')}-topic",
                default=getattr(Topics(), name),
                metavar="TOPIC",
                help=f"Topic of {_PURPOSE[name]}.",
            )(decorated)
        decorated = option(
            "--kafka-config",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Client properties, one key=value a line, such as security.protocol=SASL_SSL. "
            "A secret may be in a file of its own: sasl.password.file=PATH, beside this one.",
        )(decorated)
        return option(
            "--bootstrap-servers",
            default=DEFAULT_BOOTSTRAP_SERVERS,
            metavar="HOST:PORT,...",
            help="Where the Kafka brokers are.",
        )(decorated)

    return decorate


def read_properties(file: Path) -> dict[str, str]:
    r"""Return the client properties of a file: ``key=value`` lines, ``#`` begins a comment line.

    The value of ``sasl.password``, ``ssl.ca.pem``, ``ssl.certificate.pem``, ``ssl.key.pem`` or
    ``ssl.key.password`` can be in a file of its own, which is named under the key and ``.file``,
    relative to the file's own folder. The whole set can then be moved, and mounted anywhere.

    Raises
    ------
    BadProperties
        If a line is something else, sets what has an option of its own, or names a file that
        cannot be read. The line is not quoted, because it may hold a password.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w") as file:
    ...     _ = file.write("# to the broker\nsecurity.protocol = SSL\n")
    ...     file.flush()
    ...     read_properties(Path(file.name))
    {'security.protocol': 'SSL'}
    """
    properties: dict[str, str] = {}
    for number, line in enumerate(_text(file).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not key or not equals:
            raise BadProperties(f"{file}, line {number}: expected key=value")
        if key == "bootstrap.servers":
            raise BadProperties(
                f"{file}, line {number}: bootstrap.servers is not taken from here: "
                "give the address with --bootstrap-servers"
            )
        named = key.removesuffix(".file")
        if named != key and named in _IN_FILES:
            # Editors end a file with a newline, which is no part of a password.
            key, value = named, _text(file.parent / value).rstrip("\r\n")
        properties[key] = value
    return properties


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadProperties(f"{file}: expected a UTF-8 text file") from error
    except OSError as error:
        raise BadProperties(f"{file} cannot be read: {error.strerror}") from error
