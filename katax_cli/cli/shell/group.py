"""Command groups that cost nothing until they are used.

A `Group` is a table of functions. Help lists it without building anything; running a command builds that
one command with Typer and hands its function one frozen `Invocation` made of the shared options, which may
stand before the first subcommand or after the last one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer import main as typer_main
from typer.core import TyperCommand, TyperGroup, TyperOption

from katax_cli.cli.shell.help import (
    HELP_NAMES,
    is_help,
    name_values,
    remember_verbose,
    usage_pieces,
    write_examples,
    write_records,
    write_shared,
)
from katax_cli.cli.shell.invocation import invocation
from katax_cli.cli.shell.options import SHARED_NAMES, Shared, Streams, shared_options
from katax_cli.errors import unknown_name

Body = Callable[..., Any]


class Entered(NamedTuple):
    """The streams of a command and the options that stood before its name."""

    streams: Streams
    shared: Shared


class Group:
    """A named table of commands; `default` is the one that runs when no subcommand is named."""

    def __init__(self, *, default: str | None = None) -> None:
        self.default = default
        self.commands: dict[str, RegisteredCommand | Subgroup] = {}

    def command(
        self, name: str, *, formats: tuple[str, ...] = (), hidden: bool = False
    ) -> Callable[[Body], Body]:
        """Registers a function. Its first parameter is the Invocation, the others are Typer's."""

        def register(body: Body) -> Body:
            self.commands[name] = RegisteredCommand(name, body, formats, hidden)
            return body

        return register

    def subgroup(self, name: str, module: str, help: str) -> None:
        """Registers a group within this one; its module is imported when one of its commands is wanted."""
        self.commands[name] = Subgroup(name, module, help)


class Subgroup(NamedTuple):
    """A group within a group, by the module that holds its table."""

    name: str
    module: str
    summary: str
    formats: tuple[str, ...] = ()
    hidden: bool = False

    def build(self) -> LazyGroup:
        return LazyGroup(self.name, self.module, self.summary)


class RegisteredCommand(NamedTuple):
    """One registered function; `formats` are output formats that only this command has."""

    name: str
    body: Body
    formats: tuple[str, ...]
    hidden: bool

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.body) or "").partition("\n")[0]

    def build(self) -> typer.core.TyperCommand:
        """The Typer command for this function, made once: a run looks it up twice."""
        return _built(self)


@cache
def _built(registered: RegisteredCommand) -> _SharedOptionsCommand:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    made = app.command(
        registered.name,
        cls=_SharedOptionsCommand,
        hidden=registered.hidden,
        context_settings=HELP_NAMES,
    )
    made(_with_context(registered.body))
    built = typer_main.get_command(app)
    assert isinstance(built, _SharedOptionsCommand)
    built.formats = registered.formats
    built.registered = registered
    name_values(built.params)
    return built


def _with_context(body: Body) -> Body:
    """`body` as Typer wants it: its Invocation parameter replaced by the context that carries it."""
    parameters = list(inspect.signature(body, eval_str=True).parameters.values())[1:]
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)

    def run(ctx: typer.Context, **values: Any) -> Any:
        return body(ctx.obj, **values)

    run.__dict__["__signature__"] = inspect.Signature([context, *parameters])
    run.__annotations__ = {p.name: p.annotation for p in [context, *parameters]}
    run.__doc__ = body.__doc__
    return run


class _SharedOptionsCommand(TyperCommand):
    """A command with the shared options, in a help section of their own."""

    formats: tuple[str, ...] = ()
    registered: RegisteredCommand

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        own = {opt for param in self.params for opt in param.opts}
        self._shared = [option for option in shared_options() if not own & set(option.opts)]

    def get_params(self, ctx: Any) -> list[Any]:
        return [*super().get_params(ctx), *self._shared]

    def get_help_option_names(self, ctx: Any) -> list[str]:
        return sorted(super().get_help_option_names(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        remember_verbose(ctx, args)
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return usage_pieces(super().collect_usage_pieces(ctx))

    def make_parser(self, ctx: Any) -> Any:
        return _with_negative_numbers(super().make_parser(ctx))

    def invoke(self, ctx: Any) -> Any:
        entered: Entered = ctx.obj
        names = {option.name for option in self._shared} & ctx.params.keys()
        given = {name: ctx.params.pop(name) for name in SHARED_NAMES if name in names}
        shared = entered.shared.merged(given)
        with invocation(ctx.command_path.partition(" ")[2], shared, entered.streams, self.formats) as call:
            ctx.obj = call
            return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        self.format_own(ctx, formatter)
        write_shared(formatter, ctx, lambda: self._shared)

    def format_own(self, ctx: Any, formatter: Any) -> None:
        """All but the shared options; that `--help` is one is known to whoever reads it."""
        own = [p for p in self.params if not getattr(p, "hidden", False)]
        write_records(formatter, "Arguments", ctx, [p for p in own if p.param_type_name == "argument"])
        write_records(formatter, "Options", ctx, [p for p in own if p.param_type_name == "option"])
        write_examples(formatter, self.registered.body, self.registered.name)


def _with_negative_numbers(parser: Any) -> Any:
    """Lets `-5` be a value where no such option exists. The parser has no public hook for one word."""
    process_options = parser._process_opts

    def process(word: str, state: Any) -> None:
        if word[1:2].isdigit() and word[:2] not in parser._short_opt:
            state.largs.append(word)
        else:
            process_options(word, state)

    parser._process_opts = process
    return parser


_FAMILIAR = {
    "dump": ("backup", "export"),
    "keys": ("scan",),
    "load": ("import",),
    "ls": ("list",),
    "new": ("create",),
    "rm": ("remove", "delete", "del"),
    "rollback": ("down",),
    "sql": ("query",),
}
"""What other tools call a command → its names here; the first one that the group has is meant."""


def unknown_command(word: str, known: Sequence[str]) -> str:
    """Returns the sentence about a command that a group does not have, with the one that is likely meant."""
    meant = next((name for name in _FAMILIAR.get(word, ()) if name in known), None)
    return unknown_name("command", word, known, "commands", meant=meant)


class _NamedGroup(TyperGroup):
    """A group that says which commands there are when it is asked for another."""

    def get_help_option_names(self, ctx: Any) -> list[str]:
        # Typer keeps them in a set.
        return sorted(super().get_help_option_names(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(unknown_command(args[0], self.list_commands(ctx)))
        return super().resolve_command(ctx, args)


class LazyGroup(_NamedGroup):
    """A group whose commands live in a module that is imported when one of them is wanted."""

    def __init__(self, name: str, module: str, help: str) -> None:
        super().__init__(name=name, help=help, rich_markup_mode=None, context_settings=HELP_NAMES)
        self._module = module

    @property
    def group(self) -> Group:
        """The table of commands, imported now."""
        loaded = import_module(self._module).group
        assert isinstance(loaded, Group)
        return loaded

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.group.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = self.group.commands.get(cmd_name)
        return command.build() if command else None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        remember_verbose(ctx, args)
        default = self.group.default
        if default is not None and (not args or args[0] not in self.group.commands):
            if not is_help(args):
                args = [default, *args]
        elif not args:
            args = ["--help"]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        default = self.group.default
        if default is None:
            super().format_help(ctx, formatter)
            return
        command = self.group.commands[default].build()
        assert isinstance(command, _SharedOptionsCommand)
        formatter.write_usage(ctx.command_path, " ".join(command.collect_usage_pieces(ctx)))
        if len(self.group.commands) > 1:
            formatter.write_usage(ctx.command_path, "COMMAND [ARGS]...", prefix="       ")
        command.format_help_text(ctx, formatter)
        self.format_commands(ctx, formatter)
        command.format_options(ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        shown = [c for c in self.group.commands.values() if not c.hidden and c.name != self.group.default]
        if shown:
            with formatter.section("Commands"):
                formatter.write_dl([(c.name, c.summary) for c in shown])


class Root(_NamedGroup):
    """The whole tree, from a literal table of group name → (module, help); help shows them in `panels`."""

    def __init__(
        self,
        table: Mapping[str, tuple[str, str]],
        *,
        panels: Mapping[str, tuple[str, ...]],
        options: list[TyperOption],
        **more: Any,
    ) -> None:
        super().__init__(
            rich_markup_mode=None, params=[*options, *shared_options()], context_settings=HELP_NAMES, **more
        )
        self.table = table
        self._panels = panels
        self._options = options

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.table:
            return None
        module, help = self.table[cmd_name]
        return LazyGroup(cmd_name, module, help)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        remember_verbose(ctx, args)
        return super().parse_args(ctx, args or ["--help"])

    def invoke(self, ctx: Any) -> Any:
        shared = Shared().merged(ctx.params)
        ctx.params = {}
        ctx.obj = Entered(streams=ctx.obj, shared=shared)
        return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for title, names in self._panels.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.table[name][1]) for name in names], col_max=14)
        write_records(formatter, "Options", ctx, self._options)
        write_shared(formatter, ctx, shared_options)
