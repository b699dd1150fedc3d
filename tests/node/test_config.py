"""node.toml: what loads, and every mistake in one message with its place."""

import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkt_node.config import environment_name, load_config
from qkt_node.config_text import config_text
from qkt_node.settings import (
    DataSection,
    DiscoverySection,
    LearningSection,
    ModelSection,
    NodeConfig,
    NodeSection,
    sections,
)
from qkt_p2p.errors import ConfigError
from qkt_p2p.models import ARCHITECTURES
from qkt_p2p.privacy.accountant import PrivacyBudget
from qkt_p2p.types import MEDIA

DEFAULT_TEXT = config_text(NodeConfig())


def loaded(directory: Path, text: str, **environ: str) -> NodeConfig:
    path = directory / "node.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, environ)


def mistakes(directory: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(directory, text, **environ)
    assert caught.value.fix == f"edit {directory / 'node.toml'}"
    return [line.strip() for line in caught.value.message.splitlines()[1:]]


def test_the_default_text_loads_as_the_defaults(tmp_path: Path) -> None:
    """What `init` writes changes nothing, with its options commented out or in."""
    assert loaded(tmp_path, DEFAULT_TEXT) == NodeConfig()
    assert loaded(tmp_path, re.sub(r"(?m)^#(\w+ = )", r"\1", DEFAULT_TEXT)) == NodeConfig()
    assert loaded(tmp_path, "") == NodeConfig()


def test_the_default_text_shows_and_explains_every_option() -> None:
    """Each option stands in the text with a comment above it."""
    lines = DEFAULT_TEXT.splitlines()
    for name, model in sections().items():
        assert f"[{name}]" in lines
        for key in model.model_fields:
            found = [number for number, line in enumerate(lines) if re.match(rf"#?{key} = ", line)]
            assert found, f"[{name}] {key} is missing"
            assert all(lines[number - 1].startswith("# ") for number in found)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20)
CLASSES = st.lists(
    st.from_regex(r"[a-z0-9 \"'\\#=\[\]]{0,18}[a-z]", fullmatch=True).map(str.strip), unique=True
)
ADDRESSES = st.builds(
    "{}:{}".format, st.sampled_from(["10.0.0.1", "a.example", "[::1]", "localhost"]), st.integers(1, 65535)
)
CONFIGS = st.builds(
    NodeConfig,
    node=st.builds(
        NodeSection,
        name=NAMES,
        listen=ADDRESSES,
        announce=st.lists(ADDRESSES, unique=True, max_size=3).map(tuple),
        seed=st.integers(0, 2**63 - 1),
        worker_idle_seconds=st.floats(1e-9, 1e300),
        log_format=st.sampled_from(["auto", "console", "json"]),
    ),
    discovery=st.builds(DiscoverySection, bootstrap=st.lists(ADDRESSES, unique=True).map(tuple)),
    data=st.builds(
        DataSection,
        source=st.text(st.characters(codec="utf-8"), min_size=1),
        classes=CLASSES.map(tuple),
        holdout=st.floats(0, 0.9),
    ),
    model=st.builds(ModelSection, architecture=st.sampled_from(["cnn", "mlp"])),
    learning=st.builds(LearningSection, deadline_seconds=st.floats(1e-3, 3600)),
)


@settings(max_examples=60, deadline=None)
@given(CONFIGS)
def test_every_configuration_survives_its_text(
    tmp_path_factory: pytest.TempPathFactory, config: NodeConfig
) -> None:
    """Text made of a configuration loads as that configuration, whatever characters it holds."""
    assert loaded(tmp_path_factory.mktemp("home"), config_text(config)) == config


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_any_text_loads_or_is_a_configuration_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    """No text makes anything else happen."""
    path = tmp_path_factory.mktemp("home") / "node.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        load_config(path, {})
    except ConfigError:
        return


def test_nesting_without_end_is_a_configuration_error(tmp_path: Path) -> None:
    """A file that is nothing but brackets is not TOML."""
    (tmp_path / "node.toml").write_text("a = " + "[" * 5000)
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(tmp_path / "node.toml", {})


def test_all_mistakes_are_told_at_once_with_their_places(tmp_path: Path) -> None:
    """Seven mistakes in file and environment give seven lines, each with place, cause and value."""
    text = """\
[node]
names = "x"
listen = "nope"
seed = "many"

[learnings]

[data]
classes = ["a", 3]
"""
    found = mistakes(
        tmp_path, text, QKT_NODE_THREADS="-1", QKT_LEARNING_MAX_LOCAL_DROP="much", QKT_NODE_LISTN="a:1"
    )
    assert sorted(found) == [
        "QKT_LEARNING_MAX_LOCAL_DROP: must be a valid number (got 'much')",
        "QKT_NODE_LISTN: unknown variable, did you mean QKT_NODE_LISTEN?",
        "QKT_NODE_THREADS: must be greater than or equal to 0 (got -1)",
        "node.toml:2 [node] names: unknown option, did you mean 'name'?",
        """node.toml:3 [node] listen: must be "host:port", an IPv6 address in brackets (got 'nope')""",
        "node.toml:4 [node] seed: must be a valid integer (got 'many')",
        "node.toml:6 [learnings]: unknown section, did you mean 'learning'?",
        "node.toml:9 [data] classes[1]: must be text in quotes (got 3)",
    ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[node]\nname = ''", "node.toml:2 [node] name: must be 1 to 64"),
        ('[node]\nname = "a\\u0000"', "node.toml:2 [node] name: must be 1 to 64"),
        ("[node]\nseed = -1", "node.toml:2 [node] seed: must be greater"),
        ("[node]\nseed = 9223372036854775808", "node.toml:2 [node] seed: must be less"),
        ("[node]\nthreads = true", "node.toml:2 [node] threads: must be a valid integer (got True)"),
        ("[node]\nworker_idle_seconds = nan", "node.toml:2 [node] worker_idle_seconds: must be"),
        ("[node]\nworker_idle_seconds = 0", "node.toml:2 [node] worker_idle_seconds: must be greater"),
        ("[node]\nlog_level = 'loud'", "node.toml:2 [node] log_level: must be 'debug', 'info'"),
        ("[data]\nclasses = ['a', 'a']", "node.toml:2 [data] classes: must not name anything twice: a"),
        ("[data]\nclasses = ['a,b']", "node.toml:2 [data] classes[0]: 'a,b' is not a class name"),
        ("[data]\nsource = ''", "node.toml:2 [data] source: must not be empty (got '')"),
        (
            '[node]\nannounce = ["0.0.0.0:1"]',
            "node.toml:2 [node] announce[0]: must be an address that others",
        ),
        ('[discovery]\nbootstrap = ["[::]:1"]', "node.toml:2 [discovery] bootstrap[0]: must be an address"),
        ('[policy]\nteach = ["role:Big"]', "node.toml:2 [policy] teach[0]: 'Big' is not a role: use 1 to 32"),
        ('[policy]\nmedia = ["x"]', "node.toml:2 [policy] media[0]: must be 'features', 'moments',"),
        ("[policy]\nmedia = []", "node.toml:2 [policy] media: must name at least 1 (got [])"),
        ('[policy]\nmedia = "noise"', "node.toml:2 [policy] media: must be a list in brackets"),
        ("[discovery]\nmdns = 'yes'", "node.toml:2 [discovery] mdns: must be true or false (got 'yes')"),
        ('[data]\nclasses = ["{a},"]', "node.toml:2 [data] classes[0]: '{a},' is not a class name"),
        ("[data]\nholdout = 1.5", "node.toml:2 [data] holdout: must be less than or equal to 0.9"),
        ("[model]\nfactory = 'net'", 'node.toml:2 [model] factory: must be "package.module:function"'),
        (
            "[model]\narchitecture = 'cmm'",
            "node.toml:2 [model] architecture: must be 'cnn', 'mlp' or 'resnet18'",
        ),
        ("[learning]\nmedium = 'telepathy'", "node.toml:2 [learning] medium: must be 'auto', 'features',"),
        (
            "[policy]\nmedia = ['moments', 'telepathy']",
            "node.toml:2 [policy] media[1]: must be 'features', 'moments', 'inversion', 'weights' or 'noise'",
        ),
        ("[policy]\nmedia = []", "node.toml:2 [policy] media: "),
        ("[policy]\nmedia = ['noise', 'noise']", "node.toml:2 [policy] media: must not name anything twice"),
        ("[learning]\nsamples_per_class = 9", "node.toml:2 [learning] samples_per_class: must be greater"),
        ("[learning]\nquorum = 0", "node.toml:2 [learning] quorum: must be greater than or equal to 1"),
        ("[learning]\ndeadline_seconds = 1e9", "node.toml:2 [learning] deadline_seconds: must be less"),
        (
            "[node]\noutbound_only = true\nannounce = ['a:1']",
            "node.toml:1 [node]: outbound_only: a node that nobody can dial has no addresses to announce",
        ),
        (
            "[serving]\npeer_bytes_per_second = 1000",
            "node.toml:2 [serving] peer_bytes_per_second: must be 0 or at least 65536 (got 1000)",
        ),
        ("node = 3", "node.toml:1 node: must be a section (got 3)"),
        ("node.seed = 'x'", "node.toml seed: must be a valid integer (got 'x')"),
        (
            "[zzz]",
            "node.toml:1 [zzz]: unknown section, known: node, discovery, policy, privacy, serving,",
        ),
        ("qqq = 1", "node.toml:1 qqq: unknown section, known"),
        (
            "[data]\nclasses = ['a', 'b']\n[model]\nlabel_space = ['a', 'c']",
            "node.toml [model] label_space: must hold the [data] classes; missing: b",
        ),
        ("[privacy]\nepsilon = -1", "node.toml:2 [privacy] epsilon: must be greater than or equal to 0"),
        ("[privacy]\nepsilon = 101", "node.toml:2 [privacy] epsilon: must be less than or equal to 100"),
        ("[privacy]\ndelta = 0", "node.toml:2 [privacy] delta: must be greater than 0"),
        (
            "[privacy]\nepsilon = 1.0",
            "node.toml:1 [privacy]: release_epsilon: must not be more than epsilon, or nothing is ever",
        ),
        (
            "[policy]\nmedia = ['noise']\n[privacy]\nepsilon = 8.0",
            "node.toml [policy] media: must hold features or moments, which alone can carry the noise",
        ),
    ],
)
def test_each_mistake_names_its_place(tmp_path: Path, text: str, place: str) -> None:
    """File, line, section, option, cause, value."""
    found = mistakes(tmp_path, text)
    assert len(found) == 1
    assert found[0].startswith(place)


@pytest.mark.parametrize(
    "address",
    [
        "a",
        "a:",
        ":1",
        "a:x",
        "a:65536",
        "a:-1",
        "a:1:2",
        "::1:7447",
        "[::1]",
        "[a]:1",
        "a b:1",
        "http://a:1",
        "a:\u0661",
        "[]:1",
        "x" * 300 + ":1",
    ],
)
def test_addresses_that_nobody_can_dial(tmp_path: Path, address: str) -> None:
    """An address is host:port, with IPv6 in brackets."""
    found = mistakes(tmp_path, f"[node]\nlisten = '{address}'\n[discovery]\nbootstrap = ['{address}']")
    assert len(found) == 2


def test_port_zero_can_be_listened_on_but_not_dialed(tmp_path: Path) -> None:
    """The system chooses a port for listening only."""
    assert loaded(tmp_path, "[node]\nlisten = '[::]:0'").node.listen == "[::]:0"
    assert "port from 1 to 65535" in mistakes(tmp_path, "[discovery]\nbootstrap = ['a:0']")[0]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[node\n", ":1 is not TOML"),
        ("[node]\nseed = 1\nseed = 2\n", "is not TOML: cannot overwrite a value"),
    ],
)
def test_text_that_is_not_toml(tmp_path: Path, text: str, place: str) -> None:
    """A syntax error is told with its line."""
    with pytest.raises(ConfigError, match=re.escape(place)):
        loaded(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file names `init`; bytes that are not UTF-8 are told."""
    with pytest.raises(ConfigError) as missing:
        load_config(tmp_path / "node.toml", {})
    assert missing.value.fix == f"qkt-node init --home {tmp_path}"
    (tmp_path / "node.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "node.toml", {})


def test_every_option_has_a_twin_in_the_environment(tmp_path: Path) -> None:
    """The variable of each option wins over the file, whatever its type."""
    others = {int: "17", float: "0.5", str: "other", tuple: "a:1, b:2", bool: "False"}
    limited = {
        "listen": "a:1",
        "meet": "role:ward, name:node *",
        "probe": "role:ward, name:node *",
        "teach": "role:ward, name:node *",
        "fetch_model": "role:ward, name:node *",
        "media": "moments, noise",
        "outbound_only": "True",
        "peer_bytes_per_second": "65536",
        "device": "cpu",
        "log_format": "json",
        "log_level": "error",
        "architecture": "mlp",
        "augment": "none",
        "factory": "package.module:function",
        "medium": "moments",
        "epsilon": "8.0",
        "delta": "1e-05",
    }
    for section, model in sections().items():
        for key, info in model.model_fields.items():
            text = limited.get(key, others[type(info.default)])
            config = loaded(tmp_path, DEFAULT_TEXT, **{environment_name(section, key): text})
            value = getattr(getattr(config, section), key)
            assert value != info.default, key
            assert (", ".join(value) if isinstance(value, tuple) else str(value)) == text


def test_variables_of_other_programs_are_ignored(tmp_path: Path) -> None:
    """Kubernetes sets such variables in every pod beside a service that is named qkt-node."""
    config = loaded(
        tmp_path, "", QKT_NODE_PORT="tcp://10.0.0.1:7447", QKT_NODE_SERVICE_HOST="10.0.0.1", QKT_HOME="/h"
    )
    assert config == NodeConfig()


def test_choices_are_those_of_the_library() -> None:
    """Every architecture and medium of the library can be chosen, and no other."""
    assert set(get_args(ModelSection.model_fields["architecture"].annotation)) == set(ARCHITECTURES)
    assert get_args(LearningSection.model_fields["medium"].annotation) == ("auto", *MEDIA)


def test_a_budget_leaves_the_media_that_can_carry_noise(tmp_path: Path) -> None:
    """Without one, peers are taught in all that the policy names."""
    text = "[policy]\nmedia = ['moments', 'inversion', 'weights']\n"
    assert loaded(tmp_path, text).peer_policy().media == ("moments", "inversion", "weights")
    private = loaded(tmp_path, f"{text}[privacy]\nepsilon = 8.0\n")
    assert private.peer_policy().media == ("moments",)
    assert private.privacy.budget() == PrivacyBudget(8.0, 2.0, 1e-6)
    assert loaded(tmp_path, text).privacy.budget() is None
