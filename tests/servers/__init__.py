"""Real servers for the tests, and a proxy that breaks the wire to them."""

from .certificates import Certificates, make_certificates
from .launch import Launch
from .process import NotReady
from .proxy import Proxy
from .rooms import free_port
from .server import DATABASE, PASSWORDS, USER, Server

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
