"""What every command uses: options, invocation, output, exit codes, confirmation, signals."""
