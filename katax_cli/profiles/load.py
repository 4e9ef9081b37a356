"""The way from a name to a Profile: search, merge, substitute, validate, build."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from katax_cli.errors import ConfigError, KataxError
from katax_cli.profiles.build import Draft, build_profile
from katax_cli.profiles.model.keys import PROFILE, SHARED
from katax_cli.profiles.model.layer import Layer, dotted
from katax_cli.profiles.model.model import Profile, ProfileEntry
from katax_cli.profiles.model.problems import Problems
from katax_cli.profiles.model.validate import read_table, unknown_key
from katax_cli.profiles.sources.builtin import env_role, env_table, local_table
from katax_cli.profiles.sources.document import read_layer
from katax_cli.profiles.sources.environment import substitute
from katax_cli.profiles.sources.find import FoundProfile, Search
from katax_cli.profiles.sources.home import katax_home
from katax_cli.profiles.sources.ownership import refuse_untrusted


class LoadedProfile(NamedTuple):
    """A profile as far as it could be built, with all that is wrong with it."""

    profile: Profile | None
    problems: Problems
    layers: tuple[Layer, ...]
    search: Search
    found: FoundProfile
    jobs: Mapping[str, Mapping[str, Any]]
    """The tables of jobs as far as their keys are right."""


def load_profile(
    name: str | None = None,
    *,
    url: str | None = None,
    cwd: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Profile:
    """Returns the profile of this name, or the one that is meant without.

    With `url` (or `env:NAME`) it has that connection too; without a name it has no other one, and is `env`.
    Connects nowhere, runs no command and reads no password file. Raises ConfigError (UnknownProfile) and
    UntrustedFile.
    """
    loaded = load(search_from(cwd, environ), name, url=url)
    if loaded.profile is None:
        raise loaded.problems.first()
    return loaded.profile


def profile_of(config: Mapping[str, Any]) -> Profile:
    """Returns the profile `program` of a mapping with the keys of a profile's file; reads no configuration file.

    Its role is KATAX_ROLE, else `prod`, unless it says one. `.env` of the folder feeds `${env:…}`. Raises
    ConfigError with the first mistake and the number of others.
    """
    search = search_from(None, None, files=False)
    layers = (Layer(_as_toml(config)), Layer({"role": env_role(search)}))
    loaded = _loaded(search, FoundProfile("program", None, explicit=True), layers)
    if loaded.profile is None:
        first, *others = loaded.problems.stopping
        raise ConfigError(f"{first} ({len(others)} more)" if others else str(first))
    return loaded.profile


def _as_toml(value: Any) -> Any:
    """A value of a program as a file would have given it: tables, arrays and paths as text."""
    if isinstance(value, Mapping):
        return {str(key): _as_toml(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_toml(each) for each in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def search_from(cwd: str | None, environ: Mapping[str, str] | None, *, files: bool = True) -> Search:
    """A search from a folder (default: the current one). Raises ConfigError when that is gone."""
    try:
        folder = os.path.abspath(cwd or os.getcwd())
    except FileNotFoundError:
        raise ConfigError("the current folder does not exist any more; change to another one") from None
    return Search(folder, os.environ if environ is None else environ, files=files)


def load(search: Search, name: str | None, *, url: str | None = None) -> LoadedProfile:
    """Loads and keeps every problem. Raises only what leaves nothing to check (see `Search.choose`)."""
    chosen, layers = _chosen(search, name, url)
    return _loaded(search, chosen, layers)


def _loaded(search: Search, chosen: FoundProfile, layers: tuple[Layer, ...]) -> LoadedProfile:
    problems = Problems(layers)

    def missing(path: tuple[str, ...], variable: str) -> None:
        said = f"the environment variable {variable}, which is not set" if variable else "a variable's name"
        remedy = "set it or write it into .env" + search.variables.why_ignored() if variable else None
        problems.add(path, f"{dotted(path)} needs {said}", remedy)

    merged = substitute(merge(layers), (), search.variables, missing)
    _check_shared(search, chosen, problems)
    table = read_table(merged, PROFILE, (), problems)
    draft = Draft(
        name=chosen.name,
        home=katax_home(search.folder, search.environ),
        source=next((layer.file for layer in layers if "role" in layer.table), None),
        explicit=chosen.explicit,
        layers=layers,
        search=search,
    )
    profile = build_profile(table, draft, problems, notes=search.notes)
    return LoadedProfile(profile, problems, layers, search, chosen, table.get("cron", {}).get("jobs", {}))


def list_profiles(
    *, name: str | None = None, cwd: str | None = None, environ: Mapping[str, str] | None = None
) -> list[ProfileEntry]:
    """Every profile that can be asked for; one that does not load says why. Raises ConfigError only when a
    katax.toml cannot be read."""
    search = search_from(cwd, environ)
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


def _chosen(search: Search, name: str | None, url: str | None) -> tuple[FoundProfile, tuple[Layer, ...]]:
    """The profile that is meant and its layers, a connection by URL above all.

    Only a profile that is named beside a URL gives it its role: one that happens to lie here may be a dev one.
    """
    if url is None:
        chosen = search.choose(name)
        return chosen, _layers(search, chosen)
    from katax_cli.profiles.sources.by_url import connection_layer, profile_layers

    if name is None:
        return FoundProfile("env", None, explicit=True), profile_layers(url, search)
    chosen = search.choose(name)
    return chosen, (connection_layer(url), *_layers(search, chosen))


def _layers(search: Search, chosen: FoundProfile) -> tuple[Layer, ...]:
    """The profile's own layer, then the katax.toml beside it, then the project's."""
    places = [place for place in (chosen.place, search.project) if place is not None]
    if chosen.place is search.project:
        places = places[:1]
    shared = [place.shared() for place in places]
    return (_own(search, chosen), *(layer for layer in shared if layer is not None))


def _own(search: Search, chosen: FoundProfile) -> Layer:
    place = chosen.place
    if place is None:
        return Layer(env_table(search) if chosen.name == "env" else local_table(search))
    file = place.files.get(chosen.name)
    if place.katax is None or chosen.name not in place.tables():
        return _file_layer(file or "", search.notes)
    if file is not None:
        katax = place.katax
        raise ConfigError(
            f"profile {chosen.name!r} is defined twice: {file} and {katax.file}:"
            f"{katax.line(('profiles', chosen.name))}; keep one"
        )
    table = place.tables()[chosen.name]
    if not isinstance(table, dict):
        raise ConfigError(f"{place.katax.file}: profiles.{chosen.name} is not a table")
    return place.katax.part(("profiles", chosen.name), table)


def _file_layer(file: str, notes: list[str]) -> Layer:
    layer = read_layer(file, notes)
    if layer is None:
        refuse_untrusted(file)
        raise ConfigError(f"{file} is gone")
    return layer


def _check_shared(search: Search, chosen: FoundProfile, problems: Problems) -> None:
    """The top of each katax.toml that counts; its tables are checked where they end up, merged."""
    for place in search.places:
        if place.katax is None or place not in (search.project, chosen.place):
            continue
        for key, value in place.katax.table.items():
            problem = _shared_problem(key, value)
            if problem is not None:
                problems.add((key,), *problem, layer=place.katax)


def _shared_problem(key: str, value: object) -> Sequence[str] | None:
    """The problem of a key at the top of a katax.toml, and its remedy; None when it may stand there."""
    if key == "role":
        return "role at the top of katax.toml", "write it into each profile"
    if key not in SHARED:
        return unknown_key(key, SHARED, ())
    if key == "default_profile" and not isinstance(value, str):
        return ("default_profile is not a string",)
    return None
