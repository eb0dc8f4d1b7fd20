"""Makes what the stack needs before it is started for the first time: `.env`, and its secrets.

Secrets are random, one a file, and are never made anew: the services that were set up with them
would not know. Run it again after an upgrade; it adds what is new.
"""

# ruff: noqa: T201 - it talks with what Python brings, so that any machine can run it.

import argparse
from base64 import urlsafe_b64encode
import json
from pathlib import Path
import secrets as random
import shutil
import sys

from fraudstream.stack.secrets import Secrets

_HERE = Path(__file__).parent

_ACCESS = """\
[mlflow]
default_permission = READ
database_uri = postgresql+psycopg2://mlflow@postgres/mlflow
admin_username = admin
admin_password = {password}
"""


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(prog="deploy/compose/init", description=__doc__)
    parser.add_argument("--secrets", type=Path, default=_HERE / "secrets", metavar="FOLDER")
    folder = parser.parse_args().secrets
    settings = _HERE / ".env"
    if not settings.exists():
        shutil.copyfile(_HERE / ".env.example", settings)
        print(f"made {settings}", file=sys.stderr)
    made = provide(Secrets(folder))
    print(f"{folder}: {len(made)} secrets", file=sys.stderr)


def provide(secrets: Secrets) -> list[str]:
    """See to it that there are all files that compose.yaml names as secrets; return their names."""
    for name in ("postgres", "postgres-mlflow", "postgres-airflow", "redis", "mlflow-admin"):
        secrets.file(f"{name}-password")
    for name in ("s3-access-key", "s3-secret-key", "mlflow-session-key"):
        secrets.file(name)
    for name in ("airflow-secret-key", "airflow-jwt-secret", "airflow-admin-password"):
        secrets.file(name)
    if not (secrets.folder / "airflow-fernet-key").exists():
        secrets.write("airflow-fernet-key", urlsafe_b64encode(random.token_bytes(32)).decode())
    secrets.write("postgres-mlflow.pgpass", _pgpass("mlflow", secrets))
    database = f"airflow:{secrets.read('postgres-airflow-password')}@postgres/airflow"
    secrets.write("airflow-database.uri", f"postgresql+psycopg2://{database}")
    secrets.write("airflow-broker.uri", f"redis://:{secrets.read('redis-password')}@redis:6379/0")
    secrets.write(
        "airflow-passwords.json", json.dumps({"admin": secrets.read("airflow-admin-password")})
    )
    if not (secrets.folder / "s3.aws").exists():
        # With a server of one's own, its keys are put here instead.
        secrets.write(
            "s3.aws",
            f"[default]\naws_access_key_id={secrets.read('s3-access-key')}\n"
            f"aws_secret_access_key={secrets.read('s3-secret-key')}\n",
        )
    secrets.write(
        "mlflow-access.ini", _ACCESS.format(password=secrets.read("mlflow-admin-password"))
    )
    for user in ("admin", "trainer", "inference"):
        password = secrets.read(f"mlflow-{user}-password")
        secrets.write(f"mlflow-{user}.credentials", f"username={user}\npassword={password}\n")
    files = sorted(secrets.folder.iterdir())
    for file in files:
        # Compose shows a file to a container with the mode that it has here, and each service has
        # another user. What keeps other people of this machine out is the folder, which is for its
        # owner only.
        file.chmod(0o444)
    return [file.name for file in files]


def _pgpass(name: str, secrets: Secrets) -> str:
    return f"*:*:{name}:{name}:{secrets.read(f'postgres-{name}-password')}\n"


if __name__ == "__main__":
    main()
