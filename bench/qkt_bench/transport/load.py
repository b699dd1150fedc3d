"""The bytes that travel, the two members between whom they do, and the teacher's journal that holds them."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qkt_p2p.digests import chunk_digest
from qkt_p2p.identity.authority import create_authority, sign_request
from qkt_p2p.identity.standing import Standing
from qkt_p2p.identity.trust import IdentityFiles, create_identity, install_bundle, load_identity
from qkt_p2p.store.journal import Journal
from qkt_p2p.types import Chunk, ChunkInfo, ClassName, QueryId, TeachOffer, TeachRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB: Final = 1024 * 1024
TEACHER: Final = "teacher"
ASKER: Final = "asker"
BANK: Final = "bank"
CLASS: Final = ClassName("any")
QUERY: Final = QueryId("0" * 16)
REQUEST: Final = TeachRequest(QUERY, "moments", 1, 20_000, (CLASS,), (1, 8, 8))


@dataclass(frozen=True, slots=True)
class Load:
    """`megabytes`, of 2**20 bytes, in chunks of `chunk_kib` KiB.

    The asker's journal takes `pause` seconds more for each chunk. `folder` holds both members' identities and
    journals. `host` is the address of the end that listens.
    """

    folder: Path
    megabytes: int
    chunk_kib: int
    pause: float = 0.0
    host: str = "127.0.0.1"

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return self.megabytes * 1024 // self.chunk_kib

    @property
    def payload(self) -> Path:
        """The file of all chunks, for ways that have no journal."""
        return self.folder / "payload"

    def data(self) -> Iterator[bytes]:
        """Yield the chunks: each differs from all others, and none can be compressed."""
        common = random.Random(0).randbytes(self.chunk_kib * 1024 - 4)  # noqa: S311 - no secret
        for index in range(self.chunks):
            yield index.to_bytes(4) + common

    def write(self, path: Path) -> None:
        """Put all chunks one behind the other into a file."""
        with path.open("wb") as file:
            file.writelines(self.data())

    def offer(self) -> TeachOffer:
        """Describe the chunks as a teacher does."""
        infos = tuple(ChunkInfo(chunk_digest(data), len(data), 1) for data in self.data())
        return TeachOffer(REQUEST.medium, 1, (CLASS,), infos)

    def standing(self, side: str) -> Standing:
        """Return who the teacher or the asker is."""
        return Standing(load_identity(self.folder / side))

    def journal(self, side: str) -> Journal:
        """Open the teacher's journal or the asker's."""
        return Journal(self.folder / f"{side}.sqlite")

    def prepare(self) -> None:
        """Make the two members of a federation, the teacher's bank, and the file of all chunks."""
        authority = create_authority("bench.example")
        for side in (TEACHER, ASKER):
            home = self.folder / side
            create_identity(home)
            request = IdentityFiles(home).request.read_bytes()
            install_bundle(home, sign_request(authority, request).bundle)
        journal = self.journal(TEACHER)
        journal.save_bank(BANK, self.offer(), (Chunk(at, data) for at, data in enumerate(self.data())))
        journal.close()
        self.write(self.payload)

    def as_text(self) -> str:
        """Return the load for another process."""
        return json.dumps(asdict(self) | {"folder": str(self.folder)})


def load_from(text: str) -> Load:
    """Return what `as_text` told."""
    told: dict[str, Any] = json.loads(text)
    return Load(**told | {"folder": Path(told["folder"])})
