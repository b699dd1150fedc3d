"""The files below deploy/: what can be checked of them without an engine that runs them."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from qkt_node.cli.main import VERBS
from qkt_node.settings import NodeConfig
from qkt_p2p.errors import ConfigError, NotTrustedError, UsageError

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
HARDENED = {
    "NoNewPrivileges": "true",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "true",
    "PrivateTmp": "true",
    "PrivateDevices": "true",
    "RestrictNamespaces": "true",
    "SystemCallFilter": "@system-service",
    "UMask": "0077",
}


def tool(name: str) -> str:
    """Return a program of the environment that runs the tests."""
    return str(Path(sys.executable).with_name(name))


@pytest.fixture
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(delimiters="=", interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "systemd" / "qkt-node@.service")
    return parser


def test_the_service_runs_a_home_and_little_else(unit: configparser.ConfigParser) -> None:
    """It starts what `qkt-node start` is, writes nothing but homes, and may do next to nothing."""
    service = dict(unit["Service"])
    program, verb, *options = service["ExecStart"].split()
    assert (program, verb, options) == ("/opt/qkt/bin/qkt-node", "start", ["--home", "/var/lib/qkt/%i"])
    assert unit["Unit"]["ConditionPathExists"] == f"{options[-1]}/node.toml"
    assert (service["User"], service["StateDirectory"]) == ("qkt", "qkt")
    assert {name: service[name] for name in HARDENED} == HARDENED


def test_the_service_is_not_started_again_where_only_its_owner_can_help(
    unit: configparser.ConfigParser,
) -> None:
    """These exit codes mean the same at the next start."""
    codes = {error.exit_code for error in (UsageError, ConfigError, NotTrustedError)}
    assert set(map(int, unit["Service"]["RestartPreventExitStatus"].split())) == codes


def test_the_dockerfile_is_accepted_by_its_linter() -> None:
    """Hadolint has nothing to say."""
    subprocess.run([tool("hadolint"), DEPLOY / "Dockerfile"], check=True)


def test_the_image_is_built_of_what_is_here_and_runs_as_nobody_special() -> None:
    """Each file that is copied exists; the last user is a number other than root's; the verbs are ours."""
    text = (DEPLOY / "Dockerfile").read_text()
    copied = [path for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.M) for path in line.split()[:-1]]
    assert copied
    assert all((ROOT / path).exists() for path in copied)
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in sent if line.startswith("!")} == set(copied)
    final = text.rpartition("\nFROM ")[2]
    assert [int(user) for user in re.findall(r"^USER (\d+)$", final, re.M)] == [10001]
    assert re.findall(r'^CMD \["([a-z]+)"\]$', final, re.M) == ["start"]
    assert re.findall(r'^HEALTHCHECK .*"qkt-node", "([a-z]+)"', final, re.M) == ["status"]


def test_the_compose_file_is_one() -> None:
    """By the schema of the Compose specification."""
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    subprocess.run([*checker, DEPLOY / "compose.yaml"], check=True)


def test_each_node_of_the_compose_file_has_its_volume_and_is_announced_by_its_name() -> None:
    """What they are set to in the environment are options that node.toml has."""
    compose = YAML(typ="safe").load(DEPLOY / "compose.yaml")
    nodes = {name: each for name, each in compose["services"].items() if "profiles" not in each}
    assert len(nodes) == 3
    for name, node in nodes.items():
        assert node["volumes"] == [f"{name}:/var/lib/qkt"]
        assert node["environment"]["QKT_NODE_ANNOUNCE"] == f"{name}:7447"
        assert f"{name}:7447" in node["environment"]["QKT_DISCOVERY_BOOTSTRAP"].split(",")
        assert (node["read_only"], node["cap_drop"]) == (True, ["ALL"])
        for variable in node["environment"]:
            section, option = variable.removeprefix("QKT_").lower().split("_", 1)
            assert option in type(getattr(NodeConfig(), section)).model_fields
        assert "healthcheck" not in node
    authority = compose["services"]["authority"]
    assert " ".join(authority["command"][:2]) in VERBS
    # The image's own check asks a node's daemon, which does not run there.
    assert authority["healthcheck"] == {"disable": True}
