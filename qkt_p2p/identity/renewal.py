"""When a certificate is renewed, where, and how a node changes its key.

A new key and its request wait in identity/next/ while the old key is in use; the new ones take the
place of the old together when a certificate for the new key is installed.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from qkt_p2p.errors import ConfigError, UsageError
from qkt_p2p.files import parse_json, sync_folder
from qkt_p2p.identity.files import load_file, save_file
from qkt_p2p.identity.tokens import check_addresses

if TYPE_CHECKING:
    from datetime import datetime

    from qkt_p2p.identity.inspection import CertificateFacts
    from qkt_p2p.identity.trust import IdentityFiles

RENEWAL_PART: Final = 2 / 3
"""Part of a certificate's life after which it is renewed: a month is left of 90 days."""


def renewal_time(facts: CertificateFacts) -> datetime:
    """Return when a certificate should be renewed, UTC."""
    return facts.not_before + (facts.not_after - facts.not_before) * RENEWAL_PART


def renewal_due(facts: CertificateFacts, now: datetime) -> bool:
    """Return whether it is time to renew a certificate; `now` is aware."""
    return now >= renewal_time(facts)


def finish_rotation(files: IdentityFiles) -> None:
    """Move the waiting key and its certificate into place, if its certificate is there.

    The certificate is written last and moved last: until then a crash is followed by a repetition.
    """
    if not files.next.certificate.exists():
        return
    for waiting, place in (
        (files.next.key, files.key),
        (files.next.request, files.request),
        (files.next.roots, files.roots),
        (files.next.certificate, files.certificate),
    ):
        # What is missing was moved before the crash, or by another process a moment ago.
        with suppress(FileNotFoundError):
            waiting.replace(place)
    with suppress(OSError):
        files.next.directory.rmdir()
    sync_folder(files.directory)


def save_renewal_addresses(files: IdentityFiles, addresses: tuple[str, ...]) -> None:
    """Remember where the authority renews certificates, "host:port"; none removes what was remembered."""
    save_file(files.enrollment, json.dumps({"renewal_addresses": addresses}).encode("ascii"))


def load_renewal_addresses(files: IdentityFiles) -> tuple[str, ...]:
    """Return where the authority renews certificates; none where it does so by files only.

    Raises ConfigError for a damaged file.
    """
    if not files.enrollment.exists():
        return ()
    try:
        found = parse_json(load_file(files.enrollment))["renewal_addresses"]
        return check_addresses(tuple(map(str, found))) if found else ()
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise ConfigError(
            f"{files.enrollment} is damaged", fix=f"remove {files.enrollment}; renew with --address HOST:PORT"
        ) from error
