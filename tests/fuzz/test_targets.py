"""Every decoder and a served node take what fuzzing found, and what is made up on the spot."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from random import Random
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qkt_p2p.identity
import qkt_p2p.wire
from tests.fuzz.mutators import damaged
from tests.fuzz.target import CORPUS, corpus_of, families, find, targets_of

pytestmark = pytest.mark.filterwarnings(
    # As tests/fuzz/child.py says.
    "ignore::cryptography.utils.CryptographyDeprecationWarning",
    "ignore:Attribute's length must be:UserWarning",
)

WITHOUT_SOUND_INPUTS = {"served.enrollment"}
"""Whoever has no invitation is always refused."""

NOT_OF_STRANGERS = {
    # Texts and files of this machine's owner, checked by the tests of their modules.
    "parse_member_name",
    "parse_roles",
}


def test_what_fuzzing_kept_is_taken_or_refused(target_name: str) -> None:
    """Each input ends as its decoder promises, and the node that is served goes on."""
    target = find(target_name)
    for data in [*target.seeds(), *corpus_of(target_name)]:
        target(data)


def test_what_nodes_really_say_is_taken(target_name: str) -> None:
    """Fuzzing begins with sound inputs: a decoder that refuses everything would pass every other test."""
    target = find(target_name)
    sound = 0
    for data in target.seeds():
        try:
            target.run(data)
        except target.promised:
            continue
        sound += 1
    assert bool(sound) is (target_name not in WITHOUT_SOUND_INPUTS)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), choice=st.data())
def test_what_is_made_up_is_taken_or_refused(target_name: str, seed: int, choice: st.DataObject) -> None:
    """Nothing but what is promised leaves a decoder, for any bytes and for known inputs that are changed."""
    target, random = find(target_name), Random(seed)
    target(choice.draw(st.binary(max_size=64)))
    data = random.choice([*target.seeds(), *corpus_of(target_name)])
    for _ in range(3):
        data = target.mutate(data, random) if target.mutate else damaged(data, random)
        target(data)


@given(data=st.binary(max_size=200), seed=st.integers(0, 2**32))
@settings(max_examples=10)
def test_every_input_can_be_changed(target_name: str, data: bytes, seed: int) -> None:
    """A mutator takes any bytes, and makes the same of them with the same random numbers."""
    mutate = find(target_name).mutate
    if mutate is not None:
        assert mutate(data, Random(seed)) == mutate(data, Random(seed))


def test_every_kept_corpus_is_some_targets() -> None:
    """A target that is renamed takes its inputs along."""
    names = {name for family in families() for name in targets_of(family)}
    assert {path.stem for path in CORPUS.glob("*.txt")} <= names


def test_every_decoder_is_fuzzed() -> None:
    """A decoder that is added to wire/ or identity/ needs a target that reaches it."""
    decoders = set(_functions(qkt_p2p.wire, "decode_")) | set(
        _functions(qkt_p2p.identity, "decode_") + _functions(qkt_p2p.identity, "parse_")
    )
    reached: set[str] = set()

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            reached.add(frame.f_code.co_name)

    targets = [
        target for family in ("wire", "identity", "learning") for target in targets_of(family).values()
    ]
    seeds = [(target, data) for target in targets for data in target.seeds()]
    sys.setprofile(note)
    try:
        for target, data in seeds:
            target(data)
    finally:
        sys.setprofile(None)
    assert decoders - reached == NOT_OF_STRANGERS


def _functions(package: Any, prefix: str) -> list[str]:
    """Return the functions of a package's modules whose names begin so."""
    modules = [
        importlib.import_module(f"{package.__name__}.{found.name}")
        for found in pkgutil.iter_modules(package.__path__)
    ]
    return [
        name
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if name.startswith(prefix) and function.__module__ == module.__name__
    ]
