"""Membership as real processes: an authority that serves, machines that join, and whom both refuse."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import pytest

from qkt_p2p.identity.authority import load_authority
from qkt_p2p.identity.invitations import Invitations
from qkt_p2p.identity.tokens import Token, decode_token, encode_token

PROGRAM = [sys.executable, "-c", "import sys; from qkt_node.cli.main import main; sys.exit(main())"]
# Command lines run the code under test, wherever that is imported from.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
LOOPBACK = "127.0.0.1:0"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=ENVIRONMENT,
    )


def answer(*arguments: object) -> dict[str, Any]:
    """Return the data of a command that worked."""
    finished = run(*arguments, "--format", "json")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    data: dict[str, Any] = json.loads(finished.stdout)["data"]
    return data


def refusal(*arguments: object) -> tuple[int, str]:
    """Return the exit code and the error of a command that did not work."""
    finished = run(*arguments)
    assert "Traceback" not in finished.stderr
    return finished.returncode, finished.stderr


@dataclass
class Authority:
    """A federation's authority, and where it serves while it does."""

    home: Path
    enrollment: str = ""
    renewal: str = ""

    def invite(self, *options: object) -> str:
        told = run("invite", "--home", self.home, "--address", self.enrollment, *options)
        assert told.returncode == 0, told.stderr
        return told.stdout.strip()

    def token(self, *, made: datetime) -> Token:
        """Return a token of an invitation for an hour that was made at some time."""
        directory = self.home / "authority"
        invitation = Invitations(directory).issue(lifetime=timedelta(hours=1), now=made)
        return Token(
            federation="fed",
            root=load_authority(directory).fingerprint,
            invitation=invitation.id,
            secret=invitation.secret,
            expires=invitation.expires,
            addresses=(self.enrollment,),
        )

    def records(self) -> list[dict[str, Any]]:
        """Return what it signed."""
        path = self.home / "authority" / "issued.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def found(home: Path) -> Authority:
    answer("ca", "init", "--home", home, "--federation", "fed")
    return Authority(home)


def text_of(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@contextmanager
def serving(authority: Authority, *options: object) -> Iterator[subprocess.Popen[str]]:
    """Serve in a process of its own until the block ends."""
    command = ["ca", "serve", "--home", authority.home, "--listen", LOOPBACK, "--renewal-listen", LOOPBACK]
    with started(*command, *options) as process:
        ready = text_of(process.stdout).readline()
        told = re.fullmatch(r"ready federation=fed enrollment=(\S+) renewal=(\S+) root=(\S+)\n", ready)
        assert told is not None, ready + text_of(process.stderr).read()
        authority.enrollment, authority.renewal = told[1], told[2]
        yield process


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def stop(process: subprocess.Popen[str]) -> str:
    """End a server as an init system does, and return what it told its owner."""
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 0, told
    return told


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A founded federation."""
    return found(tmp_path / "ca")


def test_a_federation_in_three_commands(authority: Authority, tmp_path: Path) -> None:
    """ca init, invite --serve, join: both sides print the same fingerprint, and the server is done."""
    options = ("--name", "Ward 7", "--role", "teacher", "--role", "hospital", "--serve", "--listen", LOOPBACK)
    with started("invite", "--home", authority.home, *options) as inviting:
        token = text_of(inviting.stdout).readline().strip()
        joined = answer("join", token, "--home", tmp_path / "node")
        _, told = inviting.communicate(timeout=30)
    assert inviting.returncode == 0
    assert (joined["name"], joined["roles"]) == ("Ward 7", ["hospital", "teacher"])
    assert f"joined: Ward 7 (peer {joined['peer_id'][:8]})" in told
    assert f"its key is {joined['fingerprint']}" in told
    assert "1 of 1 machines joined" in told
    assert (tmp_path / "node" / "node.toml").exists()


def test_a_token_names_where_the_authority_is_served(authority: Authority) -> None:
    """Whatever the port is, and also after that; the usual one where it never was."""
    assert answer("invite", "--home", authority.home)["addresses"][0].endswith(":7448")
    with serving(authority):
        assert answer("invite", "--home", authority.home)["addresses"] == [authority.enrollment]
    assert answer("invite", "--home", authority.home)["addresses"] == [authority.enrollment]
    elsewhere = ("--listen", "127.0.0.1:9")
    assert answer("invite", "--home", authority.home, *elsewhere)["addresses"] == ["127.0.0.1:9"]


def test_an_interrupted_invitation_is_no_success(authority: Authority) -> None:
    """`invite --serve && next` does not go on where nobody joined; machines get the token at once."""
    options = ("--home", authority.home, "--serve", "--listen", LOOPBACK)
    with started("invite", *options, "--format", "jsonl") as inviting:
        ready = json.loads(text_of(inviting.stdout).readline())
        inviting.send_signal(signal.SIGINT)
        told, _ = inviting.communicate(timeout=30)
    assert decode_token(ready["token"]).root == load_authority(authority.home / "authority").fingerprint
    last = json.loads(told.splitlines()[-1])
    assert (inviting.returncode, last["exit_code"], last["error"]["code"]) == (130, 130, "cancelled")
    assert (last["data"]["token"], last["data"]["members"]) == (ready["token"], [])
    assert last["error"]["message"].startswith("interrupted; 0 of 1 machines joined")


def test_no_token_is_made_that_nobody_can_use(authority: Authority, tmp_path: Path) -> None:
    """Not with an address that stands for all of a machine's, nor in a home without an authority."""
    for address in ("0.0.0.0:7448", "[::]:7448"):
        refused = run("invite", "--home", authority.home, "--address", address, "--format", "json")
        assert (refused.returncode, json.loads(refused.stdout)["error"]["code"]) == (2, "usage")
        assert address in json.loads(refused.stdout)["error"]["message"]
    assert not (authority.home / "authority" / "invitations.jsonl").exists()
    refused = run("invite", "--home", tmp_path, "--format", "json")
    assert refused.returncode == 3
    assert json.loads(refused.stdout)["error"]["fix"]


def test_a_token_is_not_told_when_it_is_too_late(authority: Authority) -> None:
    """One JSON object at the end of the serving is of no use to anybody; nothing is issued."""
    refused = run("invite", "--home", authority.home, "--serve", "--format", "json")
    error = json.loads(refused.stdout)["error"]
    assert (refused.returncode, error["code"]) == (2, "usage")
    assert "--format jsonl" in error["fix"]
    assert not (authority.home / "authority" / "invitations.jsonl").exists()


def test_renewal_rotation_and_revocation(authority: Authority, tmp_path: Path) -> None:
    """A served authority renews, certifies a new key, and ends a membership."""
    home = tmp_path / "node"
    with serving(authority) as process:
        (tmp_path / "token").write_text(authority.invite("--name", "Ward 7", "--uses", 2))
        joined = answer("join", "--token-file", tmp_path / "token", "--home", home)
        assert answer("renew", "--home", home)["peer_id"] == joined["peer_id"]
        rotated = answer("rotate", "--home", home)
        assert rotated["peer_id"] != joined["peer_id"]
        assert rotated["name"] == "Ward 7"
        revoked = answer("revoke", "Ward 7", "--home", authority.home, "--reason", "key-compromise")
        assert revoked["revoked"] == [joined["peer_id"], rotated["peer_id"]]
        code, shown = refusal("renew", "--home", home)
        assert (code, "has revoked peer" in shown) == (5, True)
        installed = answer("revoke", "--install", revoked["file"], "--home", home)
        assert installed["installed"] is True
        shown = run("revoke", "--install", revoked["file"], "--home", home).stderr
        assert f"certificates revoked: {installed['revoked_certificates']}; peers: " in shown
        assert answer("revoke", "--install", revoked["file"], "--home", home)["installed"] is False
        code, shown = refusal("start", "--home", home)
        assert (code, "is revoked: no member" in shown) == (5, True)
        told = stop(process)
    assert told.count("renewed: Ward 7") == 2
    assert f"the authority has revoked peer {rotated['peer_id']}" in told


def test_enrolment_and_rotation_by_files(authority: Authority, tmp_path: Path) -> None:
    """A site without a route to the authority: requests out, certificates in."""
    home = tmp_path / "node"
    request = answer("init", "--home", home)["request"]
    signing = ("--home", authority.home, "--name", "Ward 7", "--role", "teacher", "--lifetime", "7d")
    signed = answer("ca", "sign", request, *signing)
    joined = answer("join", "--certificate", signed["bundle"], "--home", home)
    assert (joined["fingerprint"], joined["roles"]) == (signed["fingerprint"], ["teacher"])
    assert datetime.fromisoformat(joined["not_after"]) < datetime.now(UTC) + timedelta(days=7)
    code, shown = refusal("renew", "--home", home)
    assert (code, "does not know where its authority renews" in shown) == (2, True)
    waiting = answer("rotate", "--by-files", "--home", home)
    signed = answer("ca", "sign", waiting["request"], "--home", authority.home)
    assert answer("join", "--certificate", signed["bundle"], "--home", home)["peer_id"] == waiting["peer_id"]


def test_a_second_authority_takes_over(authority: Authority, tmp_path: Path) -> None:
    """A member renews at the old one, then at the new one, and trusts what each hands out."""
    new, home = found(tmp_path / "new"), tmp_path / "node"
    root_file = "authority/authority.pem"
    added = answer("ca", "add-root", new.home / root_file, "--home", authority.home)["added"]
    with serving(authority):
        joined = answer("join", authority.invite(), "--home", home)
    assert joined["federation_fingerprints"][1] == added
    old = answer("ca", "add-root", authority.home / root_file, "--home", new.home)["added"]
    with serving(new):
        renewed = answer("renew", "--home", home, "--address", new.renewal)
    assert renewed["federation_fingerprints"] == [added, old]
    assert answer("ca", "drop-root", old, "--home", new.home)["dropped"] == old
    with serving(new):
        renewed = answer("renew", "--home", home, "--address", new.renewal)
    assert renewed["federation_fingerprints"] == [added]


def test_each_wrong_token_is_refused_with_a_reason_on_the_right_side(
    authority: Authority, tmp_path: Path
) -> None:
    """Used, expired, of another root, guessed, tampered with: exit code 5, and nobody got in."""
    other = found(tmp_path / "other")
    now = datetime.now(UTC)
    with serving(authority) as process:
        used = authority.invite()
        answer("join", used, "--home", tmp_path / "first")
        expired = authority.token(made=now - timedelta(hours=2))
        good = authority.token(made=now)
        tokens = {
            "the token was used already": used,
            "by this machine's clock": encode_token(expired),
            "the token expired at": encode_token(replace(expired, expires=now + timedelta(hours=1))),
            "is not the authority that made the token": encode_token(
                replace(good, root=load_authority(other.home / "authority").fingerprint)
            ),
            "does not know this invitation": encode_token(replace(good, invitation="00" * 16)),
            "the proof does not fit": encode_token(replace(good, secret=bytes(32))),
        }
        for number, (reason, token) in enumerate(tokens.items()):
            code, shown = refusal("join", token, "--home", tmp_path / f"home-{number}")
            assert (code, reason in shown) == (5, True), shown
            assert "fix: " in shown
        told = stop(process)
    assert len(authority.records()) == 1
    for reason in ("used already", "expired at", "does not know this invitation", "proof does not fit"):
        assert f"refused 127.0.0.1: the {reason.split(maxsplit=1)[0]}"[:20] in told
        assert reason in told


def test_an_impostor_hears_nothing(authority: Authority, tmp_path: Path) -> None:
    """Another authority of the same name, at the address of the token: the machine sends no request."""
    impostor = found(tmp_path / "impostor")
    with serving(authority), serving(impostor) as process:
        genuine = decode_token(authority.invite())
        led = encode_token(replace(genuine, addresses=(impostor.enrollment,)))
        code, shown = refusal("join", led, "--home", tmp_path / "node")
        assert (code, "is not the authority that made the token" in shown) == (5, True)
        assert "refused" not in stop(process)
        assert answer("join", encode_token(genuine), "--home", tmp_path / "node")


@pytest.mark.parametrize("token", ["", "qkt1", "qkt1AAAA", "nonsense"])
def test_a_malformed_token_is_wrong_usage(tmp_path: Path, token: str) -> None:
    """It is told before a home is made."""
    code, shown = refusal("join", token, "--home", tmp_path / "node")
    assert (code, "error: " in shown) == (2, True)
    assert not (tmp_path / "node").exists()


def test_without_a_certificate_the_renewal_port_ends_the_connection(authority: Authority) -> None:
    """Nothing is read from a stranger there; plaintext is not even answered."""
    with serving(authority) as process:
        assert first_byte(authority.renewal, tls=True) == b""
        assert first_byte(authority.renewal, tls=False) == b""
        assert first_byte(authority.enrollment, tls=True) != b""
        stop(process)
    assert authority.records() == []


def first_byte(address: str, *, tls: bool) -> bytes:
    """Return the first byte that a server sends to a stranger who begins to speak HTTP/2."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
        try:
            if tls:
                connection = stack.enter_context(context.wrap_socket(connection))
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
            return connection.recv(1)
        except (ssl.SSLError, ConnectionError):
            return b""


def test_a_member_of_one_federation_does_not_join_another(authority: Authority, tmp_path: Path) -> None:
    """It is refused before the token is used."""
    other, home = found(tmp_path / "other"), tmp_path / "node"
    with serving(authority):
        answer("join", authority.invite(), "--home", home)
    with serving(other):
        token = other.invite()
        code, shown = refusal("join", token, "--home", home)
        assert (code, "is a member of the federation with root" in shown) == (5, True)
        assert answer("join", token, "--home", tmp_path / "another")


def test_what_serving_needs_is_told(authority: Authority, tmp_path: Path) -> None:
    """No authority, a wrong passphrase, a taken port, an address that nobody can dial."""
    protected = tmp_path / "protected"
    (tmp_path / "right").write_text("right\n")
    (tmp_path / "wrong").write_text("wrong\n")
    passphrase = ("--passphrase-file", tmp_path / "right")
    answer("ca", "init", "--home", protected, "--federation", "fed", *passphrase)
    serve = ("ca", "serve", "--listen", LOOPBACK, "--home")
    assert "passphrase is wrong" in refusal(*serve, protected, "--passphrase-file", tmp_path / "wrong")[1]
    assert "no passphrase was given" in refusal(*serve, protected)[1]
    assert "qkt-node ca init" in refusal(*serve, tmp_path / "nobody")[1]
    with serving(authority):
        taken = ("ca", "serve", "--home", authority.home, "--listen", authority.enrollment)
        code, shown = refusal(*taken, "--renewal-listen", LOOPBACK)
        assert (code, "the port is taken" in shown) == (3, True)
    assert "give --address" in refusal("invite", "--home", authority.home, "--listen", LOOPBACK)[1]
    assert "is not host:port" in refusal("invite", "--home", authority.home, "--listen", "here")[1]
    code, shown = refusal("join", authority.invite(), "--home", tmp_path / "late")
    assert (code, "connection refused" in shown) == (1, True)
    assert "ca serve" in shown
