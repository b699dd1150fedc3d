"""Turns a verb's function into a command, and defines the options that every verb takes."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from qkt_node.cli.output import Answer, Format, Output

Verb = Callable[..., Answer]
"""Takes an `Output` first, then its options; see the package's docstring."""

HomeOption = Annotated[
    Path,
    # Of a home that this user may not read more can be told than typer does: whose it is.
    typer.Option(
        "--home", envvar="QKT_HOME", help="The node's home directory.", show_default=False, readable=False
    ),
]
_FormatOption = Annotated[
    Format,
    typer.Option("--format", envvar="QKT_FORMAT", help="How to answer: tables, or JSON for machines."),
]
_DebugOption = Annotated[
    bool, typer.Option("--debug", envvar="QKT_DEBUG", help="Show the traceback of an error.")
]


def add_verb(app: typer.Typer, command: str, function: Verb) -> None:
    """Add `function` to `app` as the verb that people type as `command` ("init", "ca sign").

    The command takes the function's options and --format and --debug, and returns the exit code.
    """

    @functools.wraps(function)
    def run(*arguments: Any, output_format: Format, debug: bool, **options: Any) -> int:
        output = Output(command, output_format, debug=debug, home=options.get("home"))
        try:
            return output.answer(function(output, *arguments, **options))
        except BrokenPipeError:
            raise
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last line, before the user
            return output.fail(error)

    own = list(inspect.signature(function).parameters.values())[1:]
    shared = [
        _option("output_format", _FormatOption, default=Format.TABLE),
        _option("debug", _DebugOption, default=False),
    ]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + shared
    run.__signature__ = inspect.Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command(command.rsplit(maxsplit=1)[-1])(run)


def _option(name: str, annotation: object, *, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
