"""``credentials.pex``: certificates, passwords and client properties of a secured Kafka."""

from datetime import UTC
from datetime import datetime
from pathlib import Path

import click

from fraudstream.cli.console import debug_option
from fraudstream.cli.console import run
from fraudstream.stack.kafka_secrets import provide
from fraudstream.stack.secrets import Secrets

_ALWAYS = ("localhost", "127.0.0.1")


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name or address of the broker, as its clients know it. Repeatable; this machine's own, "
    f"{' and '.join(_ALWAYS)}, are among them.",
)
@click.option(
    "--for-containers",
    is_flag=True,
    help="Let whoever is handed one of the files read it: a container's user is another than you. "
    "Nobody but you can enter the folder.",
)
@debug_option
def credentials(folder: Path, hosts: tuple[str, ...], for_containers: bool, debug: bool) -> None:
    """Make in FOLDER what a secured Kafka and its clients have to know, and keep what is there.

    \b
      kafka-ca.crt              the authority's certificate, which clients trust
      kafka-broker.pem          the broker's key and certificate
      kafka-users.args          the users, as kafka-storage.sh format takes them: @FILE
      kafka-ROLE.properties     for --kafka-config, of admin, producer, trainer and inference,
      kafka-ROLE-password       which names this file and the authority's certificate
      kafka-tools.properties    for --command-config of Kafka's own tools, as admin

    The certificates hold for two years. For new ones, remove kafka-ca.crt, run this again, give
    clients the new file, and restart the broker. Passwords stay.
    """
    secrets = Secrets(folder)
    made = provide(secrets, dict.fromkeys((*_ALWAYS, *hosts)), datetime.now(UTC))
    if for_containers:
        folder.chmod(0o700)
        for file in made:
            file.chmod(0o644)
    for file in made:
        click.echo(file)


if __name__ == "__main__":
    run(credentials)
