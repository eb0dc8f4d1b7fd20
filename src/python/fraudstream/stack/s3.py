"""Any S3 server: where it is, and how programs get at it. Nothing here is of one maker only."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
import botocore.session

# Every S3 client wants a region, and a server of one's own has none.
_REGION = "us-east-1"


@dataclass(frozen=True)
class ObjectStore:
    """An S3 server.

    Attributes
    ----------
    endpoint
        ``http://host:port``.
    credentials
        A file of keys in the format of AWS: section ``[default]``, ``aws_access_key_id`` and
        ``aws_secret_access_key``.
    """

    endpoint: str
    credentials: Path

    def environment(self) -> Mapping[str, str]:
        """Return the variables by which a program that uses an AWS SDK finds the server.

        None of them is a secret: they name the file that holds the keys.
        """
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_SHARED_CREDENTIALS_FILE": str(self.credentials),
            "AWS_DEFAULT_REGION": _REGION,
            # There is no cloud around us whose metadata could be asked.
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def provide(self, bucket: str) -> None:
        """See to it that there is a bucket."""
        try:
            self.client().create_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
                raise

    def client(self, config: Config | None = None) -> Any:
        """Return boto3's client of the server."""
        session = botocore.session.Session()
        session.set_config_variable("credentials_file", str(self.credentials))
        return boto3.Session(botocore_session=session).client(
            "s3", endpoint_url=self.endpoint, region_name=_REGION, config=config
        )
