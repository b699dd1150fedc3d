"""Looks at a home as its daemon would, and at the machine around it: what is wrong, and what mends it.

A daemon may run meanwhile. Nothing is changed, but that a change of keys that was cut off is finished.
"""

from __future__ import annotations

import asyncio
import shlex
import shutil
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from qkt_node.addresses import announced, dialing_problems, is_loopback, require_free
from qkt_node.config import load_config
from qkt_node.home import holder_of
from qkt_node.model_files import stored_model
from qkt_node.privacy_view import account_of
from qkt_node.renewing import warnings_of
from qkt_p2p.commands import command
from qkt_p2p.errors import QktError
from qkt_p2p.identity.standing import Standing
from qkt_p2p.identity.trust import load_identity
from qkt_p2p.transport.addresses import split_address
from qkt_p2p.transport.names import addresses_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qkt_node.home import Home
    from qkt_node.settings import NodeConfig
    from qkt_p2p.identity.trust import Identity

Level = Literal["ok", "warning", "error"]

_ANSWER_SECONDS: Final = 3.0
"""For a bootstrap peer to take a connection: a route around the world takes a tenth of it."""

_LITTLE_SPACE: Final = 2**30
_NO_SPACE: Final = 2**26
"""Bytes free: a query's responses may take a GiB; a model and the journal take tens of MiB."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `fix` is what to do where that is not good."""

    check: str
    level: Level
    message: str
    fix: str = ""


async def examine(home: Home) -> list[Finding]:
    """Return what every check found; those that need what an earlier one found wrong are left out."""
    findings = [_found("home", lambda: _permissions(home)), _found("disk", lambda: _space(home))]
    try:
        config = load_config(home.config_file)
    except QktError as error:
        return [*findings, _error("settings", error)]
    findings.append(Finding("settings", "ok", f"{home.config_file} has no mistake"))
    try:
        identity = load_identity(home.identity)
    except QktError as error:
        findings.append(_error("certificate", error))
    else:
        findings += [_certificate(identity), await _multicast(config, identity)]
    findings += [
        _found("port", lambda: _port(home, config)),
        _announced(config),
        *await asyncio.gather(*map(_bootstrap, config.discovery.bootstrap)),
        _found("data", lambda: _data(home, config)),
        _found("model", lambda: _model(home, config)),
    ]
    if config.privacy.epsilon:
        findings.append(_found("privacy", lambda: _privacy(home, config)))
    return findings


def _found(check: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except QktError as error:
        return _error(check, error)


def _error(check: str, error: QktError) -> Finding:
    return Finding(check, "error", error.message, error.fix)


def _permissions(home: Home) -> Finding:
    levels: dict[Path, Level] = {home.identity: "error", home.root: "warning"}
    for path, level in levels.items():
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            fix = shlex.join(["chmod", "go=", str(path)])
            return Finding(
                "home", level, f"users other than its owner may look into {path} ({mode:04o})", fix
            )
    return Finding("home", "ok", f"{home.root} is its owner's alone")


def _space(home: Home) -> Finding:
    free = shutil.disk_usage(home.root).free
    level: Level = "error" if free < _NO_SPACE else "warning" if free < _LITTLE_SPACE else "ok"
    fix = "" if level == "ok" else f"make room on the disk of {home.root}"
    return Finding("disk", level, f"{free / 2**20:,.0f} MiB are free", fix)


def _certificate(identity: Identity) -> Finding:
    now = datetime.now(UTC)
    said = f"peer {identity.peer_id} of {identity.federation}, until {identity.not_after:%Y-%m-%d %H:%M} UTC"
    if warnings := warnings_of(Standing(identity), now=now):
        renewing = command("renew", "--home", identity.files.directory.parent)
        return Finding("certificate", "warning", warnings[0], renewing)
    return Finding("certificate", "ok", f"{said}; by this machine's clock it is {now:%Y-%m-%d %H:%M} UTC")


def _port(home: Home, config: NodeConfig) -> Finding:
    if config.node.outbound_only:
        return Finding("port", "ok", "outbound_only: it listens on nothing")
    if (holder := holder_of(home)) is not None:
        return Finding("port", "ok", f"the daemon runs (process {holder})")
    require_free(config.node.listen)
    return Finding("port", "ok", f"{config.node.listen} is free")


def _announced(config: NodeConfig) -> Finding:
    if problems := dialing_problems(config):
        return Finding("addresses", "warning", problems[0], "edit [node] in node.toml")
    if config.node.outbound_only:
        return Finding("addresses", "ok", "outbound_only: peers are asked over connections that it opens")
    addresses = announced(config, int(config.node.listen.rpartition(":")[2]))
    if all(map(is_loopback, addresses)):
        return Finding(
            "addresses",
            "warning",
            f"only this machine can dial {', '.join(addresses)}",
            'set [node] listen = "0.0.0.0:7447", or announce, in node.toml',
        )
    return Finding("addresses", "ok", f"peers are told {', '.join(addresses)}")


async def _multicast(config: NodeConfig, identity: Identity) -> Finding:
    from qkt_p2p.discovery.mdns import Mdns  # noqa: PLC0415 - a daemon without mDNS does without it, too

    if not config.discovery.mdns:
        return Finding("mdns", "ok", "switched off in node.toml")
    mdns = Mdns(identity.peer_id, identity.federation, on_hint=lambda *_: None)
    try:
        works = await mdns.start(())
    finally:
        await mdns.stop()
    if works:
        return Finding("mdns", "ok", "multicast DNS can be sent and heard here")
    fix = "set [discovery] bootstrap, and mdns = false, in node.toml"
    return Finding("mdns", "warning", "there is no multicast DNS on this machine", fix)


async def _bootstrap(address: str) -> Finding:
    """Tell whether anybody takes a connection there; who it is only TLS tells, when the daemon dials."""
    fix = "check the name, the way there, and that the peer runs"
    try:
        host, port = split_address(address)
        async with asyncio.timeout(_ANSWER_SECONDS):
            found = await addresses_of(host)
            _, writer = await asyncio.open_connection(found[0], port)
        writer.transport.abort()
    except TimeoutError:
        return Finding("bootstrap", "warning", f"{address} does not answer within {_ANSWER_SECONDS:g} s", fix)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return Finding("bootstrap", "warning", f"{address} cannot be dialed: {reason}", fix)
    except QktError as error:
        return Finding("bootstrap", "warning", error.message, fix)
    return Finding("bootstrap", "ok", f"{address} takes connections")


def _data(home: Home, config: NodeConfig) -> Finding:
    from qkt_node.worker.local_data import load_local_data  # noqa: PLC0415 - numpy, for this check alone

    data = load_local_data(config, home.root)
    train = data.train
    if not train.present:
        return Finding("data", "error", f"{config.data.source} holds no class", "set [data] source")
    counts = ", ".join(f"{name} ({train.counts[name]})" for name in train.present)
    told = f"{len(train)} samples to train on: {counts}"
    if data.repeated:
        told += f"; {data.repeated} of evaluation left out, because source holds them, too"
    return Finding("data", "ok", told)


def _model(home: Home, config: NodeConfig) -> Finding:
    model = stored_model(home, config)
    if model is None:
        return Finding("model", "ok", "none yet: the first start trains it")
    return Finding("model", "ok", f"version {model.version} knows {', '.join(model.known) or 'no class'}")


def _privacy(home: Home, config: NodeConfig) -> Finding:
    classes = account_of(home, config).classes
    if spent := [each.class_name for each in classes if not each.releases_left]:
        told = f"nothing more may be released of {', '.join(spent)}; what was released is still sent"
        return Finding("privacy", "warning", told, "raise [privacy] epsilon in node.toml, if you may")
    left = min((each.releases_left for each in classes), default=None)
    told = f"a budget of epsilon {config.privacy.epsilon:g} for each class"
    return Finding("privacy", "ok", told if left is None else f"{told}, with {left} releases left at least")
