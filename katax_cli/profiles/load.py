"""The way from a name to a Profile: search, merge, substitute, validate, build."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from katax_cli.core.settings import ROLES, Role
from katax_cli.errors import ConfigError, KataxError
from katax_cli.profiles.build import Draft, build_profile
from katax_cli.profiles.document import Layer, dotted, read_layer
from katax_cli.profiles.environment import Environment, substitute
from katax_cli.profiles.find import URL_VARIABLES, Found, Search
from katax_cli.profiles.home import katax_home
from katax_cli.profiles.keys import PROFILE, SHARED
from katax_cli.profiles.model import Profile, ProfileEntry
from katax_cli.profiles.problems import Problems
from katax_cli.profiles.trust import refuse_untrusted
from katax_cli.profiles.validate import read_table

_LOOPBACK = ("localhost", "::1", "0:0:0:0:0:0:0:1")


class Loaded(NamedTuple):
    """A profile as far as it could be built, with all that is wrong with it."""

    profile: Profile | None
    problems: Problems
    layers: tuple[Layer, ...]
    search: Search
    found: Found


def load_profile(
    name: str | None = None, *, cwd: str | None = None, environ: Mapping[str, str] | None = None
) -> Profile:
    """Returns the profile of this name, or the one that is meant without.

    Connects nowhere, runs no command and reads no password file. Raises ConfigError (UnknownProfile) and
    UntrustedFile.
    """
    loaded = load(
        Search(os.path.abspath(cwd or os.getcwd()), os.environ if environ is None else environ), name
    )
    loaded.problems.raise_first()
    if loaded.profile is None:
        raise ConfigError(f"profile {loaded.found.name!r} cannot be loaded; see 'katax profile check'")
    return loaded.profile


def load(search: Search, name: str | None) -> Loaded:
    """Loads and keeps every problem. Raises only what leaves nothing to check (see `Search.choose`)."""
    found = search.choose(name)
    layers = _layers(search, found)
    problems = Problems(layers)
    environment = Environment(search.environ, search.folder, search.notes)

    def missing(path: tuple[str, ...], variable: str) -> None:
        said = f"the environment variable {variable}, which is not set" if variable else "a variable's name"
        problems.add(
            path, f"{dotted(path)} needs {said}", "set it or write it into .env" if variable else None
        )

    merged = substitute(merge(layers), (), environment, missing)
    _check_shared(search, found, problems)
    table = read_table(merged, PROFILE, (), problems)
    draft = Draft(
        name=found.name,
        home=katax_home(search.folder, search.environ),
        explicit=found.explicit,
        layers=layers,
        search=search,
    )
    profile = build_profile(table, draft, problems, notes=search.notes)
    return Loaded(profile, problems, layers, search, found)


def list_profiles(
    *, name: str | None = None, cwd: str | None = None, environ: Mapping[str, str] | None = None
) -> list[ProfileEntry]:
    """Every profile that can be asked for; one that does not load says why. Raises ConfigError only when a
    katax.toml cannot be read."""
    search = Search(os.path.abspath(cwd or os.getcwd()), os.environ if environ is None else environ)
    try:
        chosen = search.choose(name).name
    except KataxError:
        chosen = None
    return [_entry(search, each, chosen) for each in search.known()]


def _entry(search: Search, name: str, chosen: str | None) -> ProfileEntry:
    try:
        loaded = load(search, name)
    except KataxError as error:
        return ProfileEntry(name, None, None, name == chosen, str(error))
    problem = next((str(each) for each in loaded.problems.errors), None)
    role = loaded.profile.role if loaded.profile else None
    return ProfileEntry(name, loaded.layers[0].file, role, name == chosen, problem)


def merge(layers: Sequence[Layer]) -> dict[str, Any]:
    """The tables of all layers, the first wins key by key; arrays and whole connections are replaced."""
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        whole = {**_table(merged, "connections"), **_table(layer.table, "connections")}
        merged = _merged(merged, layer.table)
        if isinstance(merged.get("connections"), dict):
            merged["connections"] = whole
    return merged


def _table(tables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = tables.get(name)
    return table if isinstance(table, dict) else {}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, each in above.items():
        under = result.get(key)
        if isinstance(each, dict) and isinstance(under, dict):
            each = _merged(under, each)
        result[key] = each
    return result


def _layers(search: Search, found: Found) -> tuple[Layer, ...]:
    """The profile's own layer, then the katax.toml beside it, then the project's."""
    places = [place for place in (found.place, search.project) if place is not None]
    if found.place is search.project:
        places = places[:1]
    shared = [place.shared() for place in places]
    return (_own(search, found), *(layer for layer in shared if layer is not None))


def _own(search: Search, found: Found) -> Layer:
    place = found.place
    if place is None:
        return Layer(_env_table(search.environ) if found.name == "env" else _local_table(search))
    file = place.files.get(found.name)
    if place.katax is None or found.name not in place.tables():
        return _file_layer(file or "", search.notes)
    if file is not None:
        katax = place.katax
        raise ConfigError(
            f"profile {found.name!r} is defined twice: {file} and {katax.file}:"
            f"{katax.line(('profiles', found.name))}; keep one"
        )
    table = place.tables()[found.name]
    if not isinstance(table, dict):
        raise ConfigError(f"{place.katax.file}: profiles.{found.name} is not a table")
    return place.katax.part(("profiles", found.name), table)


def _file_layer(file: str, notes: list[str]) -> Layer:
    layer = read_layer(file, notes)
    if layer is None:
        refuse_untrusted(file)
        raise ConfigError(f"{file} is gone")
    return layer


def _local_table(search: Search) -> dict[str, Any]:
    home = katax_home(search.folder, search.environ)
    return {
        "role": "dev",
        "connections": {
            "main": {"type": "sqlite", "database": os.path.join(home, "main.db")},
            "cache": {"type": "redis", "url": "embedded"},
        },
    }


def _env_table(environ: Mapping[str, str]) -> dict[str, Any]:
    said = {name: variable for variable, name in URL_VARIABLES.items() if environ.get(variable)}
    connections = {name: {"url": f"${{env:{variable}}}"} for name, variable in said.items()}
    role = environ.get("KATAX_ROLE") or _env_role([environ[variable] for variable in said.values()])
    if role not in ROLES:
        raise ConfigError(f"KATAX_ROLE is {role!r}, expected {', '.join(ROLES[:-1])} or {ROLES[-1]}")
    return {"role": role, "connections": connections}


def _env_role(urls: Sequence[str]) -> Role:
    """`dev` only when every server is this machine; what cannot be read counts as somewhere else."""
    from katax_cli.profiles.urls import parse_url

    try:
        return "dev" if all(_is_here(parse_url(url, "/")) for url in urls) else "prod"
    except ValueError:
        return "prod"


def _is_here(fields: Mapping[str, Any]) -> bool:
    if fields.get("srv"):
        return False
    hosts = [host for host, _ in fields.get("nodes", ())]
    return all(host.lower() in _LOOPBACK or _is_loopback_address(host) for host in hosts)


def _is_loopback_address(host: str) -> bool:
    # A name such as 127.example.com is not an address.
    numbers = host.split(".")
    return len(numbers) == 4 and numbers[0] == "127" and all(number.isdigit() for number in numbers)


def _check_shared(search: Search, found: Found, problems: Problems) -> None:
    """Unknown keys at the top of a katax.toml; its tables are checked where they end up, merged."""
    for place in search.places:
        if place.katax is None or (place is not search.project and place is not found.place):
            continue
        for key, each in place.katax.table.items():
            if key not in SHARED and (key != "role"):
                problems.add((key,), *_unknown_top(key), layer=place.katax)
            elif key == "role":
                problems.add(
                    (key,), "role at the top of katax.toml", "write it into each profile", layer=place.katax
                )
            elif key == "default_profile" and not isinstance(each, str):
                problems.add((key,), "default_profile is not a string", layer=place.katax)


def _unknown_top(key: str) -> tuple[str, str]:
    from katax_cli.errors import _nearest

    near = _nearest(key, SHARED)
    return f"unknown key {key!r}", f"did you mean {near!r}?" if near else f"known keys: {', '.join(SHARED)}"
