"""Graceful shutdown: hooks, then connections, then the process, within one deadline. The public face."""

from __future__ import annotations

from katax_cli.core.resilience.shutdown import ShutdownReport
from katax_cli.services.program.shutdown import (
    ShutdownController,
    create_shutdown_controller,
    graceful_shutdown,
    register_shutdown_handlers,
    shutdown_database,
)

__all__ = [
    "ShutdownController",
    "ShutdownReport",
    "create_shutdown_controller",
    "graceful_shutdown",
    "register_shutdown_handlers",
    "shutdown_database",
]
