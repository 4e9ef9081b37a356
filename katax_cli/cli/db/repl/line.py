"""The line of `katax db shell`, by prompt_toolkit: editing, history, completion, colours. Its only user."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.output import ColorDepth, Output, create_output
from prompt_toolkit.styles import Style

from katax_cli.cli.db.repl.history import holds_secret
from katax_cli.cli.db.repl.suggestions import Suggest
from katax_cli.core.engine_names import EngineName
from katax_cli.core.text.text import printable

Prompt = Sequence[tuple[str, str]]
"""Classes of style and their texts."""
_STYLE = {"prod": "ansired bold", "role": "ansigreen", "open": "ansiyellow bold"}


class InputLine:
    """Reads statements of one or more lines; Enter ends one that is `whole`, Tab completes."""

    def __init__(
        self,
        *,
        history: str | None,
        whole: Callable[[str], bool],
        suggest: Suggest,
        language: EngineName,
        stream: TextIO,
        color: bool,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self._whole = whole
        self._session: PromptSession[str] = PromptSession(
            multiline=True,
            history=InMemoryHistory() if history is None else _StatementHistory(history),
            completer=_Suggesting(suggest),
            complete_in_thread=True,
            complete_while_typing=False,
            lexer=_lexer(language) if color else None,
            style=Style.from_dict(_STYLE),
            color_depth=None if color else ColorDepth.DEPTH_1_BIT,
            key_bindings=self._keys(),
            enable_suspend=True,
            input=input,
            output=output or create_output(stdout=stream),
        )

    def read(self, prompt: Prompt) -> str:
        """The next text. Raises KeyboardInterrupt on Ctrl-C, EOFError on Ctrl-D on an empty line."""
        width = sum(len(text) for _, text in prompt)
        return self._session.prompt(
            FormattedText([(f"class:{kind}" if kind else "", text) for kind, text in prompt]),
            prompt_continuation="-> ".rjust(width),
        )

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def _enter(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if buffer.complete_state is not None and buffer.complete_state.current_completion is not None:
                buffer.complete_state = None
            elif not buffer.text.strip() or self._whole(buffer.text):
                buffer.validate_and_handle()
            else:
                buffer.newline(copy_margin=False)

        return keys


class _StatementHistory(FileHistory):
    """Keeps no secret."""

    def store_string(self, string: str) -> None:
        if string.strip() and not holds_secret(string):
            super().store_string(string)


class _Suggesting(Completer):
    def __init__(self, suggest: Suggest) -> None:
        self._suggest = suggest

    def get_completions(self, document: Document, _event: CompleteEvent) -> Iterable[Completion]:
        found = self._suggest(document.text_before_cursor, document.text_after_cursor)
        for word in found.words:
            # A name with control characters would be typed as what it does.
            if word == printable(word):
                yield Completion(word, start_position=-found.replaced)


def _lexer(language: EngineName) -> PygmentsLexer | None:
    from pygments.lexers import javascript, sql

    lexers: dict[str, Any] = {
        "postgresql": sql.PostgresLexer,
        "mysql": sql.MySqlLexer,
        "sqlite": sql.SqlLexer,
        "mongodb": javascript.JavascriptLexer,
    }
    found = lexers.get(language)
    return PygmentsLexer(found) if found else None
