"""The fault proxy of katax's pytest plugin, by the name that katax's own tests use."""

from katax_cli.integrations.pytest.fault_proxy import FaultProxy as Proxy
from katax_cli.integrations.pytest.fault_proxy import HostPort as Address

__all__ = ["Address", "Proxy"]
