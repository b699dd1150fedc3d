"""The verbs' table and the entry point of `qkt-node`."""

import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import typer

from qkt_node.cli.bench import bench_tables, bench_transport
from qkt_node.cli.budget import budget
from qkt_node.cli.ca import ca_add_root, ca_drop_root, ca_init, ca_serve, ca_sign
from qkt_node.cli.cluster import cluster_down, cluster_status, cluster_up
from qkt_node.cli.cluster_chaos import cluster_chaos
from qkt_node.cli.cluster_query import cluster_demo, cluster_query
from qkt_node.cli.doctor import doctor
from qkt_node.cli.init import init
from qkt_node.cli.inspect import peers, status
from qkt_node.cli.invite import invite
from qkt_node.cli.join import join
from qkt_node.cli.models import models
from qkt_node.cli.output import Format, Output, unwritable
from qkt_node.cli.policy import policy_check
from qkt_node.cli.queries import queries
from qkt_node.cli.query import query
from qkt_node.cli.revoke import revoke
from qkt_node.cli.rotate import renew, rotate
from qkt_node.cli.start import start
from qkt_node.cli.streams import drop, fill_closed_streams
from qkt_node.cli.verbs import Verb, add_verb
from qkt_node.cli.why import why
from qkt_p2p import __version__
from qkt_p2p.commands import PROGRAM
from qkt_p2p.errors import UsageError

VERBS: Final[Mapping[str, Verb]] = {
    "init": init,
    "invite": invite,
    "join": join,
    "renew": renew,
    "rotate": rotate,
    "revoke": revoke,
    "start": start,
    "query": query,
    "status": status,
    "peers": peers,
    "queries": queries,
    "models": models,
    "why": why,
    "doctor": doctor,
    "policy check": policy_check,
    "budget": budget,
    "cluster up": cluster_up,
    "cluster status": cluster_status,
    "cluster query": cluster_query,
    "cluster chaos": cluster_chaos,
    "cluster down": cluster_down,
    "cluster demo": cluster_demo,
    "bench tables": bench_tables,
    "bench transport": bench_transport,
    "ca init": ca_init,
    "ca sign": ca_sign,
    "ca serve": ca_serve,
    "ca add-root": ca_add_root,
    "ca drop-root": ca_drop_root,
}
"""What people type after the program's name, in the order of --help."""

GROUPS: Final[Mapping[str, str]] = {
    "bench": "Measure QKT against its baselines, and its transport.",
    "ca": "Run a federation's authority.",
    "policy": "What this node lets its peers do.",
    "cluster": "Run a local cluster of real daemons, for trying out and testing.",
}
"""The first words of two-word verbs, with their help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; see docs of the exit codes in qkt_p2p.errors."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # gRPC writes lines of its own to stderr about what this command line tells better.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    fill_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A locale without the characters of a class name must not end a command.
        sys.stdout.reconfigure(errors="backslashreplace")
    command = typer.main.get_command(build_app())
    try:
        code = command.main(given, prog_name=PROGRAM, standalone_mode=False)
    except typer.TyperException as error:
        return _fail_usage(error, given)
    except OSError as error:
        # Verbs tell their own errors: this is of --help, or --version.
        drop(sys.stdout)
        return Output("", Format.TABLE).fail(unwritable(error))
    return code if isinstance(code, int) else 0


def build_app() -> typer.Typer:
    """Return the command line with all verbs."""
    # Every option has a twin QKT_<VERB>_<OPTION>; plain help is half as slow as rich's.
    settings = {"auto_envvar_prefix": "QKT", "help_option_names": ["-h", "--help"]}
    app = typer.Typer(
        help="Peer-to-peer, query-based knowledge transfer.",
        context_settings=settings,
        rich_markup_mode=None,
        add_completion=False,
    )
    app.callback()(_program)
    groups = {name: typer.Typer(help=text, rich_markup_mode=None) for name, text in GROUPS.items()}
    for command, verb in VERBS.items():
        group, _, _ = command.rpartition(" ")
        add_verb(groups[group] if group else app, command, verb)
    for name, group_app in groups.items():
        app.add_typer(group_app, name=name)
    return app


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _program(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            allow_from_autoenv=False,
            help="Show the version.",
        ),
    ] = False,
) -> None:
    """Peer-to-peer, query-based knowledge transfer."""


def _fail_usage(error: typer.TyperException, given: Sequence[str]) -> int:
    """Tell about a command line that cannot be parsed; its format is looked up by hand for that reason."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    command = path.removeprefix(PROGRAM).strip()
    # typer lets the wording of pydantic through.
    message = error.format_message().replace("Value error, ", "")
    usage = UsageError(f"{message[:1].lower()}{message[1:]}", fix=f"{path} --help")
    return Output(command, _asked_format(given)).fail(usage)


def _asked_format(given: Sequence[str]) -> Format:
    asked = os.environ.get("QKT_FORMAT", "")
    for position, word in enumerate(given):
        if word == "--format":
            asked = given[position + 1] if position + 1 < len(given) else ""
        elif word.startswith("--format="):
            asked = word.removeprefix("--format=")
    return Format(asked) if asked in list(Format) else Format.TABLE
