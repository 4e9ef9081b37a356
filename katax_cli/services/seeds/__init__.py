"""Seeds: data that a database starts with, kept in files and applied again only when they change."""
