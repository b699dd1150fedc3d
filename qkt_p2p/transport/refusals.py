"""Why a TLS handshake failed, in words that tell the owner of this side what to look at."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl

    from qkt_p2p.identity.inspection import CertificateFacts

_CLOCKS: Final = "{now:%Y-%m-%d %H:%M} UTC by this machine's clock: check both machines' clocks"

_VERIFICATION: Final = {
    9: f"({_CLOCKS})",
    10: f"({_CLOCKS}, then have it renewed)",
    18: "(it vouches for itself: no authority of this federation signed it)",
    19: "(another federation's authority signed it, or this node's roots are out of date)",
    20: "(another federation's authority signed it, or this node's roots are out of date)",
    26: "(its key usage does not let it serve peers)",
}
"""By OpenSSL's X509_V_ERR code: what to add to OpenSSL's own words."""

_ALERTS: Final = {
    "PROTOCOL_VERSION": "it speaks no version of TLS that is allowed here, 1.2 or 1.3",
    "WRONG_VERSION_NUMBER": "it does not speak TLS: this is no port of a node",
    "HTTP_REQUEST": "it does not speak TLS: this is no port of a node",
}
"""By the end of OpenSSL's reason: what the other side means."""


def why_it_is_refused(error: ssl.SSLCertVerificationError) -> str:
    """Say why this side refuses the other's certificate."""
    hint = _VERIFICATION.get(error.verify_code, "").format(now=datetime.now(UTC))
    return f"{error.verify_message} {hint}".rstrip()


def why_it_refuses(error: ssl.SSLError) -> str:
    """Say why the other side ended the handshake, as far as its alert tells."""
    reason = error.reason or str(error)
    words = reason.replace("_", " ").lower()
    for ending, hint in _ALERTS.items():
        if reason.endswith(ending):
            return f"{words} ({hint})"
    return words


def why_it_closes(own: CertificateFacts) -> str:
    """Say what may be wrong with this node's certificate: a node that refuses one sends no alert."""
    return (
        f"its clock may be outside of {own.not_before:%Y-%m-%d %H:%M} to {own.not_after:%Y-%m-%d %H:%M} UTC "
        f"(now {_CLOCKS.format(now=datetime.now(UTC))}), or it may not trust this node's authority"
    )
