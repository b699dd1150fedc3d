"""What a node lets its peers do, as its files say it: node.toml, identity/, the header of its model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qkt_node.model_files import stored_model
from qkt_p2p.identity.certificates import parse_certificates
from qkt_p2p.identity.files import load_file
from qkt_p2p.identity.inspection import federation_of_root
from qkt_p2p.identity.revocations import load_revocations
from qkt_p2p.identity.trust import IdentityFiles
from qkt_p2p.masking.masks import MASK_THRESHOLD
from qkt_p2p.privacy.policy import Action, parse_rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from qkt_node.home import Home
    from qkt_node.settings import NodeConfig, PolicySection
    from qkt_p2p.privacy.policy import Caller
    from qkt_p2p.types import PeerId

_MADE_OF: Final = {
    "features": "statistics of its data behind the asker's stem",
    "moments": "statistics of its data",
    "inversion": "its model",
    "noise": "its model",
    "weights": "its model itself",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a node does something; None where the files alone cannot tell."""

    what: str
    allowed: bool | None
    why: str


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a node takes for a member; "" where it has joined no federation."""

    federation: str
    revoked: frozenset[PeerId]


def load_trust(home: Home) -> Trust:
    """Read a home's roots and revocation lists; raises ConfigError or NotTrustedError for damaged ones."""
    files = IdentityFiles(home.identity)
    if not files.roots.exists():
        return Trust("", frozenset())
    roots = load_file(files.roots)
    federation = federation_of_root(parse_certificates(roots, str(files.roots))[0])
    return Trust(federation, frozenset(load_revocations(files.revoked, roots).peers))


def actions_of(policy: PolicySection, trust: Trust, caller: Caller | None) -> list[Answer]:
    """Return for each action who may do it, or whether `caller` may, of whom only that much is known."""
    return [_action(action, policy.rules_of(action), trust, caller) for action in Action]


def media_of(config: NodeConfig, actions: Sequence[Answer]) -> list[Answer]:
    """Return for each medium of the policy whether those may be taught in it of whom `actions` tells."""
    found = {answer.what: answer for answer in actions}
    teach, fetch = found[Action.TEACH], found[Action.FETCH_MODEL]
    taught = config.peer_policy().media
    noise = Answer("", False, "it cannot carry the noise that [privacy] epsilon asks for")
    return [
        Answer(medium, *_both(noise, teach))
        if medium not in taught
        else Answer(medium, *(_both(teach, fetch) if medium == "weights" else (teach.allowed, teach.why)))
        for medium in config.policy.media
    ]


def made_of(config: NodeConfig, medium: str) -> str:
    """Return what tells of private data in a medium; see docs/security.md."""
    noise = ", with noise" if config.privacy.epsilon and medium in config.peer_policy().media else ""
    return f"{_MADE_OF[medium]}{noise}"


def classes_of(home: Home, config: NodeConfig) -> Iterator[Answer]:
    """Yield for each class that the node's data or model hold whether it teaches that, and why not.

    Nothing before the first start, which trains the model. Raises ConfigError for a damaged model file.
    """
    model = stored_model(home, config)
    if model is None:
        return
    for name in dict.fromkeys((*model.local, *model.trained, *model.known)):
        if name not in model.local:
            yield Answer(name, False, "learned from peers: it has no data of its own to teach it by")
        elif name not in model.trained:
            yield Answer(name, False, "its model knows it too little: it has not learned it")
        elif name not in model.known:
            why = (
                f"only to askers whose probes find evidence of {MASK_THRESHOLD:g} or more: its own find less"
            )
            yield Answer(name, None, why)
        elif name in model.scarce:
            yield Answer(name, None, "only where its few samples are enough for none to show alone")
        else:
            yield Answer(name, True, "it has data of it, and its model knows it")


def _action(action: Action, rules: Sequence[str], trust: Trust, caller: Caller | None) -> Answer:
    if refusal := _refusal(action, rules, trust, caller):
        return Answer(action, False, refusal)
    if caller is None:
        return Answer(action, True, f"members that {' or '.join(rules)} matches")
    if matching := [text for text in rules if parse_rule(text).matches(caller)]:
        return Answer(action, True, f"by the rule {matching[0]}")
    other = {"name", "role"} if caller.peer else {"name", "peer"}
    if open_rules := [text for text in rules if parse_rule(text).kind in other]:
        return Answer(action, None, f"if {' or '.join(open_rules)} matches it, which its certificate tells")
    return Answer(action, False, f"no rule of [policy] {action} matches it")


def _refusal(action: Action, rules: Sequence[str], trust: Trust, caller: Caller | None) -> str:
    """Return why nobody, or the caller by whatever rule, may do it; empty where that is not so."""
    if not trust.federation:
        return "this node has not joined a federation, so nobody can call it"
    if caller is not None and caller.peer in trust.revoked:
        return "its membership is revoked"
    return "" if rules else f"[policy] {action} names nobody"


def _both(one: Answer, other: Answer) -> tuple[bool | None, str]:
    """Return whether both are allowed, and the reason of the one that decides."""
    for verdict in (False, None):
        for answer in (one, other):
            if answer.allowed is verdict:
                return verdict, answer.why
    return True, other.why
