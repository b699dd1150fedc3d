"""What can be set in node.toml: sections, options, defaults, bounds. The descriptions are its comments."""

from dataclasses import replace
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from qkt_p2p.errors import UsageError
from qkt_p2p.limits import (
    MAX_ADDRESS_CHARACTERS,
    MAX_ADDRESSES,
    MAX_CLASSES,
    MAX_EPSILON,
    MAX_NAME_CHARACTERS,
    MAX_PEERS,
    MAX_QUERY_SECONDS,
    MAX_RULES,
    MAX_SAMPLES_PER_CLASS,
    MIN_PEER_BYTES_PER_SECOND,
    MIN_SAMPLES_PER_CLASS,
    QUERY_SECONDS,
)
from qkt_p2p.privacy.accountant import PrivacyBudget
from qkt_p2p.privacy.policy import Action, Policy, parse_rule
from qkt_p2p.references import OwnModule, is_reference
from qkt_p2p.types import MEDIA, RECIPE_MEDIA, USUAL_AUGMENTATION, Augmentation, MediumName, parse_class_name

_EVERY_ADDRESS: Final = ("0.0.0.0", "::")  # noqa: S104 - not to be announced


def parse_node_name(text: str) -> str:
    """Return `text` as a node's name: 1 to 64 printable characters, no outer spaces; raises ValueError."""
    if not text or len(text) > MAX_NAME_CHARACTERS or not text.isprintable() or text != text.strip():
        raise ValueError(f"must be 1 to {MAX_NAME_CHARACTERS} printable characters without outer spaces")
    return text


def _dialable(address: str) -> str:
    """Accept "host:port" or "[ipv6]:port" with a host and a port that can be dialed."""
    host = _address(address, lowest_port=1).rpartition(":")[0].strip("[]")
    if host in _EVERY_ADDRESS:
        raise ValueError(f"must be an address that others can dial, and {host} stands for all of a machine's")
    return address


def _bindable(address: str) -> str:
    """Accept "host:port" or "[ipv6]:port"; port 0 lets the system choose one."""
    return _address(address, lowest_port=0)


def _address(address: str, *, lowest_port: int) -> str:
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    named = host.isascii() and host.isprintable() and not set(host) & set(" /,@")
    # isdecimal() accepts digits of every script, and a megabyte of them.
    numeric = port.isascii() and port.isdecimal() and len(port) <= 5
    if len(address) > MAX_ADDRESS_CHARACTERS or not host.strip("[]") or not named or not numeric:
        raise ValueError('must be "host:port", an IPv6 address in brackets')
    if bracketed != (":" in host):
        raise ValueError('must be "host:port"; only an IPv6 address stands in brackets, as in "[::1]:7447"')
    if not lowest_port <= int(port) <= 65535:
        raise ValueError(f"must have a port from {lowest_port} to 65535")
    return address


def _class_name(text: str) -> str:
    try:
        return parse_class_name(text)
    except UsageError as error:
        raise ValueError(f"{error.message}: {error.fix}") from error


def _rule(text: str) -> str:
    try:
        parse_rule(text)
    except UsageError as error:
        raise ValueError(f"{error.message}: {error.fix}" if error.fix else error.message) from error
    return text


def _reference(text: str) -> str:
    if text and not is_reference(text):
        raise ValueError('must be "package.module:function"')
    return text


def _enough_for_a_chunk(rate: int) -> int:
    if 0 < rate < MIN_PEER_BYTES_PER_SECOND:
        raise ValueError(f"must be 0 or at least {MIN_PEER_BYTES_PER_SECOND}")
    return rate


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"must not name anything twice: {', '.join(repeated)}")
    return values


Architecture = Literal["cnn", "mlp", "resnet18"]

_Address = Annotated[str, AfterValidator(_dialable)]
_ClassNames = Annotated[
    tuple[Annotated[str, AfterValidator(_class_name)], ...],
    Field(max_length=MAX_CLASSES),
    AfterValidator(_distinct),
]
_Rules = Annotated[
    tuple[Annotated[str, AfterValidator(_rule)], ...],
    Field(max_length=MAX_RULES),
    AfterValidator(_distinct),
]
_Positive = Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class NodeSection(_Section):
    """The node itself."""

    name: Annotated[str, AfterValidator(parse_node_name)] = Field(
        "node", description="Name that people see in tables and reports; not an identity."
    )
    listen: Annotated[str, AfterValidator(_bindable)] = Field(
        "0.0.0.0:7447",
        description='Where peers reach this node, "host:port"; port 0 lets the system choose.',
    )
    announce: Annotated[tuple[_Address, ...], Field(max_length=MAX_ADDRESSES), AfterValidator(_distinct)] = (
        Field((), description='Addresses that peers should dial, "host:port"; none: derived from listen.')
    )
    outbound_only: bool = Field(
        False,
        description="Nobody can dial this node (NAT, firewall): it listens on nothing, announces nothing,\n"
        "and is asked over the connections that it opens.",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of everything random in training and queries.")
    threads: int = Field(0, ge=0, le=1024, description="Threads for learning; 0 takes one for each core.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description='Where learning runs: "cpu", "cuda", or "auto": CUDA where there is one.'
    )
    worker_idle_seconds: _Positive = Field(
        60.0, description="The learning process ends after this many seconds without work, to free memory."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description='"console", "json", or "auto": console on a terminal, else JSON.'
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description='"debug", "info", "warning" or "error".'
    )

    @model_validator(mode="after")
    def _announces_what_it_listens_on(self) -> Self:
        if self.outbound_only and self.announce:
            raise ValueError("outbound_only: a node that nobody can dial has no addresses to announce")
        return self


class DiscoverySection(_Section):
    """How the first peers are found; further ones are learned from them."""

    bootstrap: Annotated[tuple[_Address, ...], Field(max_length=MAX_PEERS), AfterValidator(_distinct)] = (
        Field((), description='Peers to dial at start: ["host:port", ...].')
    )
    mdns: bool = Field(
        True, description="Find peers of the federation on the local network, and be found, by multicast DNS."
    )


class PolicySection(_Section):
    """Who may do what with this node: "*", "peer:ID", "name:PATTERN" or "role:ROLE", as certificates say."""

    meet: _Rules = Field(("*",), description="Members that may connect at all, and exchange peers with it.")
    probe: _Rules = Field(("*",), description="Members that may ask how well its model knows classes.")
    teach: _Rules = Field(("*",), description="Members that may be taught, by synthetic batches.")
    fetch_model: _Rules = Field(
        (), description="Members that may fetch the model's weights; by default nobody."
    )
    media: Annotated[tuple[MediumName, ...], Field(min_length=1), AfterValidator(_distinct)] = Field(
        MEDIA,
        description='What it teaches with: "features" and "moments" are drawn from statistics of its data,\n'
        '"inversion" and "noise" from its model alone, "weights" is the model, for whom fetch_model names.',
    )

    def policy(self) -> Policy:
        """Return the policy that the options write; raises nothing, for they are valid."""
        rules = {action: tuple(map(parse_rule, self.rules_of(action))) for action in Action}
        return Policy(rules, self.media)

    def rules_of(self, action: Action) -> tuple[str, ...]:
        """Return the rules of an action as they are written."""
        return {
            Action.MEET: self.meet,
            Action.PROBE: self.probe,
            Action.TEACH: self.teach,
            Action.FETCH_MODEL: self.fetch_model,
        }[action]


class PrivacySection(_Section):
    """How much peers may learn about one sample of the data, all of them together, whatever they ask."""

    epsilon: float = Field(
        0.0,
        ge=0,
        le=MAX_EPSILON,
        description="Budget of each class: what is made of its data is (epsilon, delta)-differentially\n"
        'private, and only "features" and "moments" are taught. 0: no noise, and no limit.',
    )
    release_epsilon: float = Field(
        2.0,
        gt=0,
        le=MAX_EPSILON,
        description="What one release takes of it; less means more noise, and more releases. One serves all\n"
        "who ask for the same: moments in one size of image, features behind one asker's stem.",
    )
    delta: float = Field(
        1e-6, gt=0, le=1e-3, description="Far less than one in as many samples as a class has."
    )

    @model_validator(mode="after")
    def _one_release_fits(self) -> Self:
        if 0 < self.epsilon < self.release_epsilon:
            raise ValueError("release_epsilon: must not be more than epsilon, or nothing is ever released")
        return self

    def budget(self) -> PrivacyBudget | None:
        """Return the budget, None where there is none."""
        return PrivacyBudget(self.epsilon, self.release_epsilon, self.delta) if self.epsilon else None


class ServingSection(_Section):
    """How much of this node its peers may use."""

    peer_bytes_per_second: Annotated[int, Field(ge=0), AfterValidator(_enough_for_a_chunk)] = Field(
        0,
        description="Most bytes a second that one peer is sent, over all its streams; 0: no such limit.\n"
        f"At least {MIN_PEER_BYTES_PER_SECOND}: with less, a chunk would take longer than askers wait.",
    )


class DataSection(_Section):
    """The private data that the model is trained on; none of it leaves this machine."""

    source: Annotated[str, Field(min_length=1)] = Field(
        "digits",
        description='"digits" (for trying out), an .npz or .csv file, a folder of images or of MNIST files,\n'
        'or "package.module:function". Relative paths start at this home.',
    )
    classes: _ClassNames = Field((), description="Classes to use; none: all that the source holds.")
    samples_per_class: int = Field(0, ge=0, description="Samples of each class to use; 0 takes all.")
    evaluation: str = Field(
        "",
        description="Data source that is only measured on, never trained on; empty: a part held out. "
        "Samples that source holds as well are left out.",
    )
    holdout: float = Field(
        0.2, ge=0, le=0.9, description="Part of the data that is held out of training, to measure on."
    )


class ModelSection(_Section):
    """The model that is trained where the home holds none."""

    architecture: Architecture = Field(
        "cnn", description='"cnn", "mlp", or "resnet18" for more data and a fast machine.'
    )
    factory: Annotated[str, AfterValidator(_reference)] = Field(
        "",
        description='Instead of an architecture your own module: "package.module:function", called with\n'
        "input_shape and classes, their number; empty: none.",
    )
    head: str = Field("fc", description="Path of the last nn.Linear within your own module.")
    label_space: _ClassNames = Field(
        (), description="Classes that the head has rows for; none: those of the data. Queries add rows."
    )
    augment: Augmentation = Field(
        USUAL_AUGMENTATION,
        description='"shifts": training sees each image moved anew by up to a sixteenth of its side, and\n'
        'its rate falls to 0. "none": as it is, for inputs where the place of a pixel means something.',
    )

    @property
    def own(self) -> OwnModule | None:
        """The owner's own module, None where a built-in architecture is used."""
        return OwnModule(self.factory, self.head) if self.factory else None


class LearningSection(_Section):
    """How this node learns from others."""

    medium: Literal["auto", MediumName] = Field(
        "auto",
        description='What synthetic batches are made of; "auto" takes the best that teachers offer.\n'
        'With "moments", "inversion" or "noise" nothing of this node\'s model travels.',
    )
    samples_per_class: int = Field(
        1000,
        ge=MIN_SAMPLES_PER_CLASS,
        le=MAX_SAMPLES_PER_CLASS,
        description="Synthetic samples of each class asked of a teacher; a tenth is held out.",
    )
    deadline_seconds: float = Field(
        QUERY_SECONDS, gt=0, le=MAX_QUERY_SECONDS, description="A query ends after this many seconds."
    )
    quorum: int = Field(
        1,
        ge=1,
        le=MAX_PEERS,
        description="Teachers that each class asked for must have; with them nobody waits for slow ones.",
    )
    max_local_drop: float = Field(
        0.03,
        ge=0,
        le=1,
        description="An update is refused where the node's own classes lose more mean accuracy than this.",
    )


class NodeConfig(_Section):
    """All of node.toml; every option has a default."""

    node: NodeSection = NodeSection()
    discovery: DiscoverySection = DiscoverySection()
    policy: PolicySection = PolicySection()
    privacy: PrivacySection = PrivacySection()
    serving: ServingSection = ServingSection()
    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
    learning: LearningSection = LearningSection()

    @model_validator(mode="after")
    def _label_space_holds_own_classes(self) -> Self:
        missing = sorted(set(self.data.classes) - set(self.model.label_space))
        if self.model.label_space and missing:
            raise ValueError(
                f"[model] label_space: must hold the [data] classes; missing: {', '.join(missing)}"
            )
        return self

    @model_validator(mode="after")
    def _noise_has_a_medium(self) -> Self:
        if not self.peer_policy().media:
            raise ValueError(
                f"[policy] media: must hold {' or '.join(RECIPE_MEDIA)}, which alone can carry the noise "
                "that [privacy] epsilon asks for"
            )
        return self

    def peer_policy(self) -> Policy:
        """Return what peers may do; with a privacy budget without the media that noise cannot protect."""
        policy = self.policy.policy()
        if not self.privacy.epsilon:
            return policy
        return replace(policy, media=tuple(each for each in policy.media if each in RECIPE_MEDIA))


def sections() -> dict[str, type[BaseModel]]:
    """Return the sections of node.toml in order, each with its model."""
    found = {}
    for name, info in NodeConfig.model_fields.items():
        assert isinstance(info.annotation, type)
        found[name] = info.annotation
    return found
