"""An S3 server on this machine: moto's, in a process of its own, with its objects in memory; it asks for keys."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.servers.launch import HOST
from tests.servers.process import ServerProcess
from tests.servers.rooms import free_port

BUCKET = "katax-tests"
REGION = "us-east-1"
_UNSIGNED = 4
"""Requests before the server asks for keys: a user, its rights, its key, and the bucket."""


@dataclass(frozen=True)
class ObjectServer:
    """A server with one bucket; `environment` is what leads to it, with the keys of a user who may use all of S3."""

    process: ServerProcess
    environment: dict[str, str]

    def url(self, prefix: str) -> str:
        return f"s3://{BUCKET}/{prefix}"

    @cached_property
    def client(self) -> Any:
        """S3 past katax."""
        return _client(self.environment, "s3")

    @cached_property
    def descriptions(self) -> Any:
        """What a client reads of the services of AWS."""
        from botocore.loaders import create_loader

        return create_loader()

    def keys(self, prefix: str) -> list[str]:
        """The names of the objects below a prefix, without it."""
        listed = self.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/")
        return sorted(one["Key"].removeprefix(f"{prefix}/") for one in listed.get("Contents", ()))

    def get(self, key: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return body

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=key)


def launch_object_store(folder: Path) -> ObjectServer:
    """Starts one; the caller discards its process."""
    port = free_port()
    words = ["env", f"INITIAL_NO_AUTH_ACTION_COUNT={_UNSIGNED}", sys.executable, "-m", "moto.server"]
    environment = {
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "unsigned",
        "AWS_SECRET_ACCESS_KEY": "unsigned",
        # Neither the keys of whoever runs the tests nor those of a cloud's machine.
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(folder / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "no-credentials"),
    }
    process = ServerProcess("moto", [*words, "-H", HOST, "-p", str(port)], folder, lambda: _greet(port))
    process.start()
    return ObjectServer(process, environment | _prepare(environment))


def _greet(port: int) -> str:
    import socket

    socket.create_connection((HOST, port), timeout=2).close()
    return "moto"


def _prepare(environment: dict[str, str]) -> dict[str, str]:
    iam = _client(environment, "iam")
    iam.create_user(UserName="katax")
    rights = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
    iam.put_user_policy(UserName="katax", PolicyName="all", PolicyDocument=rights)
    key = iam.create_access_key(UserName="katax")["AccessKey"]
    _client(environment, "s3").create_bucket(Bucket=BUCKET)
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def _client(environment: dict[str, str], service: str) -> Any:
    import boto3

    return boto3.session.Session(
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=REGION,
    ).client(service, endpoint_url=environment["AWS_ENDPOINT_URL"])
