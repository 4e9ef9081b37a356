"""Documents between files and collections, and between collections of two connections."""
