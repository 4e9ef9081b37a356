"""Seeds in Python: `seed(db)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from katax_cli.core.callables import completed, is_async
from katax_cli.errors import KataxError, SeedError
from katax_cli.profiles.sources.ownership import refuse_untrusted
from katax_cli.services.seeds.values import Counts, SeedFile, SeedWork


def load(file: SeedFile) -> Callable[[Any], object]:
    """Its function `seed`. Runs the file's own code.

    Raises SeedError when it cannot be run or has no such function, UntrustedFile when others could have written it.
    """
    refuse_untrusted(file.path)
    namespace: dict[str, Any] = {"__name__": f"seed_{file.stem}", "__file__": file.path}
    try:
        exec(compile(file.text, file.path, "exec"), namespace)
    except KataxError:
        raise
    except Exception as error:
        raise SeedError(f"seed {file.name} cannot be loaded: {type(error).__name__}: {error}") from error
    found = namespace.get("seed")
    if not callable(found):
        raise SeedError(f"seed {file.name} has no function seed(db); define it")
    if is_async(found):
        raise SeedError(
            f"seed {file.name} has a coroutine function seed(db), which never runs; write it without async"
        )
    function: Callable[[Any], object] = found
    return function


def function_seed(file: SeedFile, *, left: str) -> SeedWork:
    """A seed that calls the function of its file; what that raises becomes SeedError that says what was `left` behind.

    Raises what `load` raises.
    """
    function = load(file)

    def work(on: Any) -> Counts:
        try:
            completed(function(on), function, "seed()")
        except KataxError:
            raise
        except Exception as error:
            raise SeedError(f"seed {file.name} failed: {type(error).__name__}: {error}; {left}") from error
        counts: Counts = on.counts
        return counts

    return work
