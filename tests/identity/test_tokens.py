"""Tokens: what one says survives the way through a chat window, and nothing else is taken for one."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkt_p2p.errors import UsageError
from qkt_p2p.identity.keys import encode_digest
from qkt_p2p.identity.tokens import Token, check_addresses, decode_token, encode_token
from qkt_p2p.limits import MAX_TOKEN_CHARACTERS

HOSTS = st.one_of(
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z0-9]{1,10}){0,3}", fullmatch=True),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
)
ADDRESSES = st.builds(lambda host, port: f"{host}:{port}", HOSTS, st.integers(1, 65535))
TOKENS = st.builds(
    Token,
    federation=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,47}", fullmatch=True),
    root=st.binary(min_size=32, max_size=32).map(encode_digest),
    invitation=st.binary(min_size=16, max_size=16).map(bytes.hex),
    secret=st.binary(min_size=32, max_size=32),
    expires=st.integers(0, 2**33).map(lambda second: datetime.fromtimestamp(second, UTC)),
    addresses=st.lists(ADDRESSES, min_size=1, max_size=8).map(tuple),
)
TOKEN = Token(
    "fed", encode_digest(bytes(32)), "00" * 16, bytes(range(32)), datetime(2026, 7, 1, tzinfo=UTC), ("a:1",)
)


@given(TOKENS)
def test_a_token_says_what_it_was_made_of(token: Token) -> None:
    """Every field survives, also with white space around the text."""
    text = encode_token(token)
    assert decode_token(f"  {text}\n") == token
    assert len(text) <= MAX_TOKEN_CHARACTERS


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_token_is_no_token(data: st.DataObject) -> None:
    """One changed, missing or additional character is noticed before anything is sent."""
    text = encode_token(TOKEN)
    position = data.draw(st.integers(0, len(text) - 1))
    kept = data.draw(st.sampled_from([position, position + 1]))
    damaged = text[:position] + data.draw(st.text(st.characters(codec="ascii"), max_size=1)) + text[kept:]
    if damaged.strip() == text:
        return
    with pytest.raises(UsageError, match="no token, or a damaged copy"):
        decode_token(damaged)


@given(st.one_of(st.text(max_size=300), st.binary(max_size=300).map(lambda data: f"qkt1{data.hex()}")))
def test_any_other_text_is_no_token(text: str) -> None:
    """No text ends in another exception."""
    with pytest.raises(UsageError, match="no token, or a damaged copy"):
        decode_token(text)


def test_a_token_is_short_and_keeps_its_secret_out_of_logs() -> None:
    """It fits into one line of a chat."""
    assert len(encode_token(TOKEN)) < 160
    assert "secret" not in repr(TOKEN)


@pytest.mark.parametrize(
    "address",
    ["", "a", "a:", ":1", "a:0", "a:65536", "a:1x", "a b:1", "::1:1", "[a]:1", "[]:1", "a:\uff11", "a/b:1"],
)
def test_addresses_that_cannot_be_dialed(address: str) -> None:
    """Neither a token nor the command line takes them."""
    with pytest.raises(UsageError, match="is not host:port"):
        check_addresses((address,))


@pytest.mark.parametrize("count", [0, 9])
def test_a_token_names_one_to_eight_addresses(count: int) -> None:
    """A machine with more names the useful ones."""
    with pytest.raises(UsageError, match="1 to 8 addresses"):
        check_addresses(("a:1",) * count)
