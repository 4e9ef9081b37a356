"""Documents of MongoDB on the command line: finding, changing, printing them. Part of `katax db`."""
