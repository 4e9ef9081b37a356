"""Files of an sftp server whose host key is known: fsspec's own class trusts every key that it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from katax_cli.errors import ConfigError

_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 30.0


def known_host_files(words: Mapping[str, Any]) -> Any:
    """fsspec's file system for `host`, `port` and `username`; keys come from the agent and `~/.ssh`.

    Raises ConfigError for a host that is not in `known_hosts`.
    """
    import paramiko
    from fsspec.implementations.sftp import SFTPFileSystem

    class RefuseUnknownHosts(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
        def missing_host_key(self, client: object, hostname: str, key: object) -> None:
            raise ConfigError(
                f"{hostname} is not in ~/.ssh/known_hosts; log in there once by ssh to check its key"
            )

    class KnownHostFiles(SFTPFileSystem):  # type: ignore[misc]
        cachable = False

        def _connect(self) -> None:
            self.client = paramiko.SSHClient()
            self.client.load_system_host_keys()
            self.client.set_missing_host_key_policy(RefuseUnknownHosts())
            self.client.connect(self.host, timeout=_CONNECT_SECONDS, **self.ssh_kwargs)
            self.ftp = self.client.open_sftp()
            self.ftp.get_channel().settimeout(_ANSWER_SECONDS)

    return KnownHostFiles(**words)
