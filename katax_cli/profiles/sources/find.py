"""Lists profiles and finds the selected one. Names are listed without parsing the files behind them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from katax_cli.errors import ConfigError, UnknownProfile
from katax_cli.profiles.model.keys import PROFILE
from katax_cli.profiles.model.layer import Layer
from katax_cli.profiles.sources.document import read_layer
from katax_cli.profiles.sources.home import upward, user_folder
from katax_cli.profiles.sources.ownership import refuse_untrusted, trusted

if TYPE_CHECKING:
    from katax_cli.profiles.sources.environment import Environment

URL_VARIABLES = {"DATABASE_URL": "main", "REDIS_URL": "cache", "MYSQL_URL": "mysql", "MONGODB_URL": "mongodb"}


class ConfigFolder(NamedTuple):
    """A folder with configuration: its katax.toml, if there is one to trust, and `profiles/NAME.toml` files."""

    folder: str
    katax: Layer | None
    files: Mapping[str, str]

    def tables(self) -> Mapping[str, Any]:
        """The `[profiles.NAME]` tables of katax.toml."""
        tables = self.katax.table.get("profiles", {}) if self.katax else {}
        return tables if isinstance(tables, dict) else {}

    def has(self, name: str) -> bool:
        return name in self.files or name in self.tables()

    def names(self) -> list[str]:
        return sorted({*self.tables(), *self.files} - {"local"})

    def shared(self) -> Layer | None:
        """The keys of katax.toml that hold for all profiles."""
        if self.katax is None:
            return None
        table = {key: each for key, each in self.katax.table.items() if key in PROFILE and key != "role"}
        return self.katax.part((), table)


class FoundProfile(NamedTuple):
    """A profile's own layer, its name, whether it was said aloud, and the place it is in (None: built in).

    Exported variables say `env` aloud; a `.env` file that lies in the folder does not.
    """

    name: str
    place: ConfigFolder | None
    explicit: bool = False


class Search:
    """Searches from a folder upward and the user's folder; `notes` list files that were ignored.

    Without `files` it finds no configuration there.
    """

    def __init__(self, cwd: str, environ: Mapping[str, str], *, files: bool = True) -> None:
        self.cwd = cwd
        self.environ = environ
        self.notes: list[str] = []
        self.project = self._find_project() if files else None
        own = user_folder(self.environ)
        self.user = self._place(own) if files else ConfigFolder(own, None, {})
        if self.project and self.project.folder == self.user.folder:
            self.project = None

    @property
    def folder(self) -> str:
        """The folder of relative paths."""
        return self.project.folder if self.project else self.cwd

    @property
    def places(self) -> list[ConfigFolder]:
        return [self.project, self.user] if self.project else [self.user]

    def names(self) -> list[str]:
        """Every profile that was written down, the project's first."""
        return list(dict.fromkeys(name for place in self.places for name in place.names()))

    def known(self) -> list[str]:
        """Every profile that can be asked for."""
        return [*self.names(), *(["env"] if self.has_env() else []), "local"]

    @cached_property
    def variables(self) -> Environment:
        """The environment with the project's `.env` below it."""
        from katax_cli.profiles.sources.environment import Environment

        return Environment(self.environ, self.folder, self.notes)

    def urls(self) -> dict[str, str]:
        """The URL variables that are set, in the environment or in `.env`, and what they hold."""
        held = {variable: self.variables.get(variable) for variable in URL_VARIABLES}
        return {variable: url for variable, url in held.items() if url}

    def has_env(self) -> bool:
        return bool(self.urls())

    def choose(self, name: str | None) -> FoundProfile:
        """The profile that is meant. Raises UnknownProfile, UntrustedFile, or ConfigError when several are."""
        said = name or self.environ.get("KATAX_PROFILE") or self._default()
        if said:
            return self._named(said)
        names = self.names()
        if len(names) > 1:
            raise ConfigError(
                f"several profiles and none chosen: {', '.join(names)}; "
                "choose with --profile, KATAX_PROFILE or default_profile in katax.toml"
            )
        if names:
            return FoundProfile(names[0], self._place_of(names[0]))
        if self.has_env():
            return self._env(explicit=False)
        return FoundProfile("local", None)

    def _default(self) -> str | None:
        for place in self.places:
            said = place.katax.table.get("default_profile") if place.katax else None
            if isinstance(said, str):
                return said
        return None

    def _named(self, name: str) -> FoundProfile:
        place = self._place_of(name)
        if place is None and name != "local" and not (name == "env" and self.has_env()):
            self._refuse(name)
        if name == "env" and place is None:
            return self._env(explicit=True)
        return FoundProfile(name, place, explicit=True)

    def _env(self, *, explicit: bool) -> FoundProfile:
        """The profile of the URL variables; what `.env` holds of them is said, for it is not what a shell shows."""
        from_file = [variable for variable in self.urls() if not self.environ.get(variable)]
        if from_file:
            where = ", ".join(f"{variable} from {self.variables.place(variable)}" for variable in from_file)
            self.notes.append(f"profile 'env' uses {where}")
        return FoundProfile("env", None, explicit or not from_file)

    def _place_of(self, name: str) -> ConfigFolder | None:
        if name == "local":
            return None
        return next((place for place in self.places if place.has(name)), None)

    def _refuse(self, name: str) -> NoReturn:
        """Says why a profile that was asked for is not there: an untrusted file beats an unknown name."""
        plain = os.path.basename(name) == name and name not in ("", ".", "..")
        for folder in [*upward(self.cwd, self.environ), self.user.folder] if plain else []:
            refuse_untrusted(os.path.join(folder, "profiles", f"{name}.toml"))
            refuse_untrusted(os.path.join(folder, "katax.toml"))
        if name == "env":
            raise ConfigError(
                f"profile 'env' needs one of the variables {', '.join(URL_VARIABLES)}"
                + self.variables.why_ignored()
            )
        raise UnknownProfile(name, self.known())

    def _find_project(self) -> ConfigFolder | None:
        for folder in upward(self.cwd, self.environ):
            place = self._place(folder)
            if place.katax or any(_declares(path, ("connections",)) for path in place.files.values()):
                return place
        return None

    def _place(self, folder: str) -> ConfigFolder:
        katax = read_layer(os.path.join(folder, "katax.toml"), self.notes)
        return ConfigFolder(folder, katax, dict(self._profile_files(os.path.join(folder, "profiles"))))

    def _profile_files(self, folder: str) -> Iterator[tuple[str, str]]:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            return
        for name in names:
            path = os.path.join(folder, name)
            if not name.endswith(".toml") or not _declares(path, ("connections", "role")):
                continue
            if trusted(path):
                yield name.removesuffix(".toml"), path
            else:
                read_layer(path, self.notes)


def _declares(path: str, keys: tuple[str, ...]) -> bool:
    """True if a line of the file starts one of the keys or its table; other programs have a profiles/ too."""
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return False
    words = tuple(key.encode() for key in keys)
    return any(line.lstrip(b" \t[").startswith(words) for line in lines)
