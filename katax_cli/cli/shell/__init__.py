"""Common to all commands: options, invocation, output, exit codes, confirmation, signals."""
