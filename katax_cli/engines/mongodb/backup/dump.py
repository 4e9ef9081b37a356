"""The things to back up in a MongoDB database; the configuration of mongodump."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.base import Engine
from katax_cli.engines.dumps import Credentials, Inventory, address_id
from katax_cli.engines.mongodb.connect import says

_NOT_HELD = {
    "users and roles": "mongodump of one database leaves them out; use --dumpDbUsersAndRoles on admin",
    "other databases of the server": "a backup is of one database",
}


class MongoDump:
    """Backups of one MongoDB database."""

    def __init__(self, engine: Engine) -> None:
        self._settings = engine.settings

    def inventory(self, client: Any) -> Inventory:
        """The things that the client sees."""
        settings = self._settings
        names = client[settings.database or "test"].list_collection_names()
        return Inventory(
            server_version=str(client.server_info().get("version", "")),
            # A server says nothing of itself that would outlive it and that every user may see.
            server_id=address_id(settings),
            database=settings.database or "test",
            consistency="no single moment: each document as it was when it was read",
            relations={name: name for name in sorted(names)},
            not_held=_NOT_HELD,
        )

    def credentials(self) -> Credentials:
        """A configuration file with the URL."""
        text = f"uri: {json.dumps(url(self._settings))}\n"
        return Credentials(("--config={folder}/mongodump.yaml",), {"mongodump.yaml": text})


create = MongoDump


def url(settings: ConnectionSettings) -> str:
    """The connection as a URL, with its password. The database is named apart."""
    login = ""
    if settings.user:
        password = f":{quote(settings.password.reveal(), safe='')}" if settings.password else ""
        login = f"{quote(settings.user, safe='')}{password}@"
    hosts = ",".join(f"{host}:{port}" for host, port in settings.nodes) or f"{settings.host}:{settings.port}"
    if settings.socket:
        hosts = quote(settings.socket, safe="")
    options = dict(settings.options)
    if login and not says(settings, "authsource", "authmechanism"):
        options = {"authSource": settings.database or "admin", **options}
    if tls := settings.tls:
        options["tls"] = str(tls.mode != "disable").lower()
        files = {"tlsCAFile": tls.ca, "tlsCertificateKeyFile": tls.cert}
        options |= {name: path for name, path in files.items() if path}
    scheme, where = ("mongodb+srv", settings.host) if settings.srv else ("mongodb", hosts)
    return f"{scheme}://{login}{where}/?{urlencode(options)}"
