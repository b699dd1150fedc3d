"""Who is taught in which medium, over the in-memory transport and over real mutual TLS."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qkt_p2p.errors import PeerRefusedError
from qkt_p2p.identity.trust import Identity
from qkt_p2p.privacy.policy import DEFAULT_RULES, Action, Policy, Rule
from qkt_p2p.types import MEDIA, TeachEnd
from tests.node.hosting import CHUNKS, OFFER, PROBING, TEACHING, Host, StandInWorker, taught

WEIGHTS = replace(TEACHING, medium="weights")
RESPONSE = [OFFER, *CHUNKS, TeachEnd(2)]
ALL_BUT_WEIGHTS = tuple(medium for medium in MEDIA if medium != "weights")

Members = dict[str, Identity]


def fetching(*rules: Rule, media: tuple[str, ...] = MEDIA) -> Policy:
    return Policy({**DEFAULT_RULES, Action.FETCH_MODEL: rules}, media)


async def test_by_default_nobody_gets_the_weights(
    host: Host, worker: StandInWorker, members: Members
) -> None:
    """They are not offered, and refused to whoever asks all the same; the worker hears nothing of it."""
    _, connect = await host.serve(worker)
    client = connect(members["lab"])
    assert (await client.probe(PROBING)).media == ALL_BUT_WEIGHTS
    with pytest.raises(PeerRefusedError, match="does not teach this caller in the medium weights"):
        await taught(client, WEIGHTS)
    assert worker.orders == []


async def test_only_whom_fetch_model_names_gets_the_weights(
    host: Host, worker: StandInWorker, members: Members
) -> None:
    """One member is offered them and gets them; another one of the same federation does not."""
    _, connect = await host.serve(worker, fetching(Rule("peer", members["lab"].peer_id)))
    lab, ward = connect(members["lab"]), connect(members["ward"])
    assert (await lab.probe(PROBING)).media == MEDIA
    assert (await ward.probe(PROBING)).media == ALL_BUT_WEIGHTS
    assert await taught(lab, WEIGHTS) == RESPONSE
    with pytest.raises(PeerRefusedError, match="in the medium weights"):
        await taught(ward, WEIGHTS)


async def test_a_node_that_names_its_media_teaches_in_no_other(
    host: Host, worker: StandInWorker, members: Members
) -> None:
    """Fetching the model does not open what the owner closed."""
    _, connect = await host.serve(worker, fetching(Rule("any"), media=("moments",)))
    lab = connect(members["lab"])
    assert (await lab.probe(PROBING)).media == ("moments",)
    for medium in ("weights", "features", "inversion", "telepathy"):
        with pytest.raises(PeerRefusedError, match=f"in the medium {medium}"):
            await taught(lab, replace(WEIGHTS, medium=medium))


@pytest.mark.parametrize("host", ["tls"], indirect=True)
@pytest.mark.parametrize("rule", [Rule("role", "research"), Rule("name", "la*")])
async def test_roles_and_names_are_those_of_the_certificate(
    host: Host, worker: StandInWorker, members: Members, rule: Rule
) -> None:
    """What the authority wrote decides, from the first call of a connection on."""
    _, connect = await host.serve(worker, fetching(rule))
    assert await taught(connect(members["lab"]), WEIGHTS) == RESPONSE
    with pytest.raises(PeerRefusedError, match="in the medium weights"):
        await taught(connect(members["ward"]), WEIGHTS)
