"""One frozen value made of the shared options, for one run of a command. It stays inside `cli/`."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

import typer

from katax_cli.cli.shell.diagnostics import Diagnostics
from katax_cli.cli.shell.options import Shared, Streams
from katax_cli.cli.shell.output import FORMATS, Output, saying_what_failed
from katax_cli.core.text.text import to_bytes
from katax_cli.errors import ConfigError, LockHeld

if TYPE_CHECKING:
    from katax_cli.cli.display.pager import LongOutput
    from katax_cli.cli.display.table import Expanded
    from katax_cli.profiles.model.model import Profile
    from katax_cli.services.runtime.runtime import Runtime

INTERACTIVE_SECONDS = 30.0
_OPENINGS = 100
"""How often others may take an output file away between its opening and the look at it."""


class Invocation(NamedTuple):
    """The command, its shared options, and where it writes."""

    command: str
    shared: Shared
    streams: Streams
    out: Output
    diagnostics: Diagnostics

    def profile(self, name: str | None = None) -> Profile:
        """The profile of this name, or the chosen one; what it has to say goes to stderr."""
        from katax_cli.profiles.load import load_profile

        profile = load_profile(name or self.shared.profile, url=self.url)
        for note in profile.notes:
            self.diagnostics.note_once(note)
        return profile

    def note_unused(self, profile: Profile) -> None:
        """Says which variables are set that the profile does not read, in commands that show what is used."""
        from katax_cli.profiles.unused import unused_note

        note = unused_note(profile)
        if note is not None:
            self.diagnostics.note(note)

    def note_built_in(self, profile: Profile) -> None:
        """Says that the built-in profile is used because there is no other one."""
        if profile.name == "local" and profile.source is None and not profile.explicit:
            self.diagnostics.note_once(
                "no configuration found: using the built-in profile 'local' "
                "(SQLite and an embedded Redis in .katax/); 'katax profile init' writes one"
            )

    @property
    def url(self) -> str | None:
        """The URL, or `env:NAME`, that `-c` gives. Raises ConfigError for one beside another connection."""
        from katax_cli.profiles.sources.by_url import is_url

        words = self.shared.connection
        urls = [word for word in words if is_url(word)]
        if urls and len(words) > 1:
            raise ConfigError("a url after -c stands alone; for several connections write a profile")
        return urls[0] if urls else None

    @property
    def connections(self) -> tuple[str, ...]:
        """The names or patterns that `-c` gives; of a URL the name that its connection has."""
        from katax_cli.profiles.sources.by_url import name_by_url

        return self.shared.connection if self.url is None else (name_by_url(self.url),)

    def home(self) -> str:
        """The `.katax` folder of the chosen profile."""
        return self.profile().home

    def source(self) -> str:
        """The file of the chosen profile. Raises ConfigError for one that has none."""
        profile = self.profile()
        if profile.source is None:
            raise ConfigError(f"profile {profile.name!r} comes from no file, so there is nothing to approve")
        return profile.source

    @contextmanager
    def logged_profile(self, name: str | None = None, *, probing: bool = False) -> Iterator[Profile]:
        """The same, for a command that works or, `probing`, looks at what it names: with its log on stderr."""
        profile = self.profile(name)
        if probing or not os.path.isdir(profile.home):
            self.note_built_in(profile)
        with self._logging(profile):
            yield profile

    @contextmanager
    def runtime(
        self,
        *,
        seconds: float | None = INTERACTIVE_SECONDS,
        probing: bool = False,
        profile: str | None = None,
        endless: bool = False,
    ) -> Iterator[Runtime]:
        """The services on the chosen profile, under one deadline; everything is closed at the end.

        `seconds` is the command's own limit, which `--timeout` replaces; None is no limit. `probing`: see Runtime.
        `endless`: no limit in any case, for a command that gives each of its calls its time.
        """
        from katax_cli.core.resilience.deadline import Deadline
        from katax_cli.services.runtime.runtime import Runtime

        limit = seconds if self.shared.timeout is None else self.shared.timeout
        with (
            self.logged_profile(profile, probing=probing) as chosen,
            Runtime(
                chosen,
                deadline=Deadline(None if endless else limit),
                one_shot=True,
                probing=probing,
                statement_timeouts=self.shared.timeout is None,
            ) as runtime,
        ):
            yield runtime

    def _logging(self, profile: Profile) -> AbstractContextManager[None]:
        """The log on stderr, as the options say, else the profile; not beside JSON, unless it was asked for."""
        shared, configured = self.shared, profile.logging
        level = shared.log_level or ("debug" if shared.debug else None)
        if level is None and self.diagnostics.json:
            level = "off"
        return self.diagnostics.log(level or configured.level, shared.log_format or configured.format)

    def only_planned(self, **facts: object) -> bool:
        """Under --dry-run: writes what would be changed, and is True: change nothing."""
        if self.shared.dry_run:
            self.out.action({**facts, "dry_run": True})
        return self.shared.dry_run

    def input_bytes(self, word: str) -> bytes:
        """An argument that may be secret or long: the word itself, `-` for stdin, `@file` for a file."""
        if word == "-":
            return self.streams.stdin.read()
        if not word.startswith("@"):
            return to_bytes(word)
        with _opened(word[1:]) as file:
            return file.read()

    @contextmanager
    def input_file(self, word: str) -> Iterator[BinaryIO]:
        """Opens an input that may exceed memory, to be read line by line: `-` is stdin, else a file's name."""
        if word == "-":
            yield self.streams.stdin
            return
        with _opened(word) as file:
            yield file

    @property
    def is_glob(self) -> bool:
        """True when `-c` is a pattern or was repeated, so that rows say which connection they came from."""
        words = self.shared.connection
        return len(words) > 1 or (self.url is None and any(c in word for word in words for c in "*?["))


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise ConfigError(f"cannot read {path!r}: {error.strerror}; name another file") from error


@contextmanager
def _output_stream(path: str | None, stdout: BinaryIO) -> Iterator[BinaryIO]:
    """`stdout`, or the file at `path`, which takes its name only when the body succeeded.

    Raises ConfigError when the file cannot be written, LockHeld while another process writes it.
    """
    if path is None or path == "-":
        yield stdout
        return
    special = os.path.exists(path) and not os.path.isfile(path)
    part = path if special else f"{path}.part"
    try:
        stream = open(part, "wb") if special else _opened_alone(part)  # noqa: SIM115 - closed below
    except OSError as error:
        raise ConfigError(f"cannot write {path!r}: {error.strerror}; name another file with -o") from error
    # Until it is closed the file is this process's, so it takes its name, or is removed, before.
    with saying_what_failed(), stream:
        try:
            yield stream
            if not special:
                # A name that outlives a power cut must not stand on half a file.
                stream.flush()
                os.fsync(stream.fileno())
                os.replace(part, path)
        except BaseException:
            if not special:
                # Interrupted just after the rename, it has its name already.
                with suppress(FileNotFoundError):
                    os.unlink(part)
            raise


def _opened_alone(path: str) -> BinaryIO:
    """A file to be written anew. Raises LockHeld while another process writes it: both would be in it."""
    left = _OPENINGS
    while True:
        left -= 1
        stream = open(path, "ab")  # noqa: SIM115 - the caller closes it
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            raise LockHeld(path, holder="another process that writes it") from None
        except OSError:
            pass  # a file system without locks
        # The one who wrote it may have given it its name, or removed it, meanwhile; a file system that numbers its
        # files anew each time, as some of FUSE do, cannot tell.
        with suppress(FileNotFoundError):
            if left == 0 or os.path.samestat(os.fstat(stream.fileno()), os.stat(path)):
                stream.seek(0)
                stream.truncate()
                return stream
        stream.close()


@contextmanager
def invocation(
    command: str, shared: Shared, streams: Streams, extra_formats: tuple[str, ...]
) -> Iterator[Invocation]:
    """The Invocation of one command; a file named with `-o` appears only when the command succeeds."""
    known = (*FORMATS, *extra_formats)
    format = shared.format or FORMATS[0]
    if format not in known:
        raise typer.BadParameter(f"no output format named {format!r}; {command!r} knows {', '.join(known)}")
    diagnostics = Diagnostics(
        streams.stderr,
        json=format == "json",
        quiet=shared.quiet,
        debug=shared.debug,
        width=streams.stderr_width,
    )
    on_terminal = shared.output in (None, "-")
    with _output_stream(shared.output, streams.stdout) as stream:
        out = Output(
            stream,
            format,
            header=not shared.no_header,
            null=shared.null,
            color=streams.color and on_terminal,
            note=diagnostics.note,
            width=streams.width if on_terminal else None,
            expanded=cast("Expanded", shared.expanded or "auto"),
            columns=tuple(filter(None, map(str.strip, (shared.columns or "").split(",")))),
            all_columns=shared.all_columns,
            pager=_pager(shared, streams) if on_terminal else None,
        )
        try:
            yield Invocation(command, shared, streams, out, diagnostics)
        except BaseException:
            out.show(page=False)
            raise
        out.show()


def _pager(shared: Shared, streams: Streams) -> LongOutput | None:
    """The pager of a person at a terminal, if one is wanted and there is one."""
    if streams.height is None or shared.no_pager:
        return None
    from katax_cli.cli.display.pager import LongOutput, pager_command

    command = pager_command()
    return LongOutput(streams.stdout, height=streams.height, command=command) if command else None
