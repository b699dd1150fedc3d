"""What the worker makes to teach others: once for all requests that it answers."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from qkt_node.home import Home
from qkt_node.new_home import create_home
from qkt_node.settings import DataSection, ModelSection, NodeConfig, PrivacySection
from qkt_node.worker.operations import TeachOrder
from qkt_node.worker.workbench import Workbench
from qkt_p2p.errors import PeerRefusedError
from qkt_p2p.store.journal import Journal
from qkt_p2p.types import ENCODINGS, MEDIA, ClassName, Progress, QueryId, TeachRequest

REQUEST = TeachRequest(QueryId("0" * 16), "moments", 1, 10, (ClassName("7"),), (1, 8, 8), encodings=ENCODINGS)

CONFIG = NodeConfig(
    data=DataSection(classes=("1", "7"), samples_per_class=40), model=ModelSection(architecture="mlp")
)


def unheard(progress: Progress) -> None:
    """Leave progress alone."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return create_home(tmp_path_factory.mktemp("home") / "node")[0]


@pytest.fixture(scope="module")
def workbench(home: Home) -> Workbench:
    """A node that was trained on a few sevens and ones."""
    made = Workbench(home, CONFIG)
    made.prepare(None, unheard)
    return made


def key_of(workbench: Workbench, **changes: object) -> str:
    return workbench.synthesize(TeachOrder.of(replace(REQUEST, **changes)), unheard)  # type: ignore[arg-type]


def test_a_bank_serves_whoever_asks_for_the_same(workbench: Workbench) -> None:
    """Another query, or what is held, change nothing; another seed changes media that depend on it."""
    bank = key_of(workbench)
    assert key_of(workbench, query_id=QueryId("1" * 16), held=(bytes(32),), seed=2) == bank
    noise = key_of(workbench, medium="noise")
    assert key_of(workbench, medium="noise", seed=2) != noise


def test_what_takes_too_long_is_refused(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked for it is told so, and others have their turn."""
    monkeypatch.setattr("qkt_node.worker.workbench.SYNTHESIS_SECONDS", 0.0)
    with pytest.raises(PeerRefusedError, match="takes this node longer than 0 s: ask for fewer classes"):
        key_of(workbench, samples_per_class=11)


def test_asking_keeps_no_more_statistics_than_teaching(
    workbench: Workbench, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each version of a model makes a stem and recipes of its own classes; others make room for them."""
    assert workbench.stem("features", unheard)
    with closing(Journal(home.database)) as journal:
        journal.evict_statistics(0)
        journal.put_statistics("recipe-0-old", bytes(1_000_000))
        monkeypatch.setattr("qkt_node.worker.workbench.MAX_STATISTICS_BYTES", 1_000_000)
        workbench.stem("features", unheard)
        ((key,),) = journal._rows("SELECT key FROM statistics")
    assert "stem-1-" in key


def test_a_bank_is_encoded_for_those_who_understand(workbench: Workbench, home: Home) -> None:
    """Both kinds of askers find theirs in the journal, whoever came first."""
    journal = Journal(home.database)
    encoded, plain = (journal.load_bank(key_of(workbench, encodings=each)) for each in (ENCODINGS, ()))
    journal.close()
    assert encoded is not None
    assert plain is not None
    assert (encoded.encoding, plain.encoding) == ("zstd", "")
    assert [info.plain_size for info in encoded.chunks] == [info.size for info in plain.chunks]


def test_what_was_made_without_noise_is_not_sent_once_there_is_a_budget(
    workbench: Workbench, home: Home
) -> None:
    """Nor what was made with less of it; of itself the node still learns from what it has."""
    exact = key_of(workbench)
    keys = {exact}
    with closing(Journal(home.database)) as journal:
        for release_epsilon in (4.0, 2.0):
            budget = PrivacySection(epsilon=8.0, release_epsilon=release_epsilon)
            private = Workbench(home, CONFIG.model_copy(update={"privacy": budget}))
            keys.add(key := key_of(private))
            offer = journal.load_bank(key)
            assert offer is not None
            assert (offer.epsilon, offer.delta) == (release_epsilon, 1e-6)
            assert len(private.preferred_media(None, unheard)) == len(MEDIA)
        plain = journal.load_bank(exact)
        assert plain is not None
        assert plain.epsilon == 0
        assert [len(mus) for mus in journal.spent().values()] == [2]
    assert len(keys) == 3
