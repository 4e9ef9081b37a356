"""Models and repositories: rows as objects. SQLAlchemy maps them, katax's guarded calls run what it writes. Floor 2."""
