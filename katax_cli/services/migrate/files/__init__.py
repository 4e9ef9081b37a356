"""Migration files: names, sections, checksums, Python modules."""
