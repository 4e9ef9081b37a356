"""Real servers for the tests, and a proxy that breaks the wire to them."""

from tests.servers.certificates import Certificates, make_certificates
from tests.servers.launch import Launch
from tests.servers.process import NotReady
from tests.servers.proxy import Proxy
from tests.servers.rooms import free_port
from tests.servers.server import DATABASE, PASSWORDS, USER, Server

__all__ = [
    "DATABASE",
    "PASSWORDS",
    "USER",
    "Certificates",
    "Launch",
    "NotReady",
    "Proxy",
    "Server",
    "free_port",
    "make_certificates",
]
