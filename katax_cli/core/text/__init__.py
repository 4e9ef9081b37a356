"""Text and JSON for terminals, files and wires; durations; redaction. Imports `errors`."""
