from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt_p2p.errors import NotTrustedError, UsageError
from qkt_p2p.privacy.policy import EVERYBODY, Action, Caller, Policy, Rule, parse_rule
from qkt_p2p.types import MEDIA, PeerId

WARD = Caller(PeerId("a" * 52), "ward-7", ("hospital", "teacher"))
LAB = Caller(PeerId("b" * 52), "lab", ("lab",))


def test_by_default_members_learn_and_nobody_fetches_weights() -> None:
    """The default allows meeting, probing and teaching, and no fetching of weights."""
    allowed = {action: Policy().allows(LAB, action) for action in Action}
    assert allowed == {
        Action.MEET: True,
        Action.PROBE: True,
        Action.TEACH: True,
        Action.FETCH_MODEL: False,
    }


@pytest.mark.parametrize(
    ("text", "ward", "lab"),
    [
        ("*", True, True),
        ("peer:" + "a" * 52, True, False),
        ("name:ward-*", True, False),
        ("name:WARD-7", False, False),
        ("role:lab", False, True),
        ("role:la", False, False),
    ],
)
def test_a_rule_matches_what_the_certificate_says(text: str, ward: bool, lab: bool) -> None:
    """Rules look at peer id, name pattern or exact role, in the case in which they are certified."""
    rule = parse_rule(text)
    assert (rule.matches(WARD), rule.matches(LAB)) == (ward, lab)


def test_an_action_without_rules_is_refused() -> None:
    """What no rule allows is refused, and the refusal names who and what."""
    policy = Policy({Action.PROBE: [Rule("role", "teacher")]})
    policy.require(WARD, Action.PROBE)
    with pytest.raises(NotTrustedError, match=r"ward-7 \(aaaaaaaa\) teach"):
        policy.require(WARD, Action.TEACH)


@pytest.mark.parametrize("role", ["Lab", "la*", "a b", "ä", "x" * 33])
def test_a_role_that_no_certificate_can_have_is_no_rule(role: str) -> None:
    """Such a rule would match nobody, and its owner would not know why."""
    with pytest.raises(UsageError, match="is not a role"):
        parse_rule(f"role:{role}")


@given(st.text(max_size=100))
def test_any_text_is_a_rule_or_a_usage_error(text: str) -> None:
    """Parsing never raises anything but UsageError, and an empty name matches nobody by accident."""
    try:
        rule = parse_rule(text)
    except UsageError:
        return
    assert rule.kind == "any" or rule.value


def test_the_model_itself_is_a_medium_for_those_who_may_fetch_it() -> None:
    """Every other medium is for everybody who is taught, in the order of the policy."""
    policy = Policy({Action.TEACH: EVERYBODY, Action.FETCH_MODEL: [Rule("role", "lab")]})
    assert policy.media_for(LAB) == MEDIA
    assert policy.media_for(WARD) == tuple(medium for medium in MEDIA if medium != "weights")
    assert "weights" not in Policy().media_for(LAB)


def test_a_node_teaches_in_the_media_that_its_owner_names() -> None:
    """What is not named is for nobody, not even for those who may fetch the model."""
    policy = Policy({Action.FETCH_MODEL: EVERYBODY}, ("inversion", "noise"))
    assert policy.media_for(LAB) == ("inversion", "noise")
