"""Files that an owner names, or that a crash may have damaged: data, models, settings, ledgers."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qkt_node.config import load_config
from qkt_node.config_text import config_text
from qkt_node.settings import NodeConfig
from qkt_p2p.datasets.archive import load_npz
from qkt_p2p.datasets.folder import load_folder
from qkt_p2p.datasets.idx import load_idx
from qkt_p2p.datasets.table import load_csv
from qkt_p2p.errors import ConfigError
from qkt_p2p.identity.invitations import Invitations
from qkt_p2p.identity.issued import IssuedCertificates
from qkt_p2p.identity.renewal import load_renewal_addresses
from qkt_p2p.identity.trust import IdentityFiles
from qkt_p2p.store.checkpoints import load_checkpoint, save_checkpoint
from tests.fuzz.formats import json_text, safetensors, zipped
from tests.fuzz.target import Target, scratch

_FOLDER = scratch()
_PEER = "a" * 52


def _in_file(name: str, load: Callable[[Path], object]) -> Callable[[bytes], None]:
    """Return a run that writes its input to a file in memory and loads it."""
    path = _FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)

    def run(data: bytes) -> None:
        path.write_bytes(data)
        path.chmod(0o600)
        load(path)

    return run


def _idx(data: bytes) -> None:
    """Load images from the input, next to a file of two labels; a leading 0x1f makes it a gzipped one."""
    folder = _FOLDER / ("gzipped" if data[:1] == b"\x1f" else "plain")
    folder.mkdir(exist_ok=True)
    suffix = ".gz" if data[:1] == b"\x1f" else ""
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(data)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(b"\x00\x00\x08\x01\x00\x00\x00\x02\x00\x01")
    load_idx(folder)


def _archives() -> list[bytes]:
    images = (np.arange(64, dtype=np.uint8) * 3).reshape(4, 4, 4)
    labels = np.array([0, 1, 0, 1])
    made = io.BytesIO()
    np.savez(made, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    named = io.BytesIO()
    np.savez(
        named,
        train_images=images,
        train_labels=labels,
        test_images=images,
        test_labels=labels,
        class_names=["a", "b"],
    )
    return [made.getvalue(), named.getvalue()]


def _images() -> list[bytes]:
    made = []
    for mode, kind in (
        ("L", "PNG"),
        ("RGB", "JPEG"),
        ("P", "GIF"),
        ("RGBA", "PNG"),
        ("L", "BMP"),
        ("L", "PPM"),
    ):
        file = io.BytesIO()
        Image.new(mode, (4, 4), 7).save(file, kind)
        made.append(file.getvalue())
    return made


def _image(data: bytes) -> None:
    """Load an image folder of two classes, one of which holds the input; its name may be of any kind."""
    load_folder(_image_folder(data))


def _image_folder(data: bytes) -> Path:
    root = _FOLDER / "images"
    for name in ("one", "two"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "one" / "input.png").write_bytes(data)
    if not (root / "two" / "sound.png").exists():
        Image.new("L", (4, 4), 200).save(root / "two" / "sound.png")
    return root


def _checkpoints() -> list[bytes]:
    path = _FOLDER / "seed.safetensors"
    arrays: dict[str, np.ndarray] = {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "n": np.array(7, np.int64),
    }
    save_checkpoint(path, arrays, metadata={"architecture": '"mlp"'})
    return [path.read_bytes()]


def _ledger(load: Callable[[Path], Any]) -> Callable[[bytes], None]:
    """Return a run that loads a ledger of one line."""

    def run(data: bytes) -> None:
        for name in ("invitations.jsonl", "issued.jsonl"):
            (_FOLDER / name).write_bytes(data)
            (_FOLDER / name).chmod(0o600)
        load(_FOLDER)

    return run


def _json(**fields: object) -> bytes:
    return json.dumps(fields).encode()


_INVITATION = _json(
    id="00",
    secret="ab" * 32,
    name="w",
    roles=["r"],
    expires="2026-07-01T12:00:00+00:00",
    uses=2,
    members=[_PEER],
)
_ISSUED = _json(
    peer_id=_PEER, name="w", roles=["r"], serial="1f", not_after="2026-07-01T12:00:00+00:00", replaces=""
)
_CSV = b"label,a,b,c,d\ncat,1,2,3,4\ndog,5,6,7,255\ncat,0,0,1,1\ndog,9,9,9,9\n"
_IDX = b"\x00\x00\x08\x03\x00\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00\x02" + bytes(range(8))
_TOML = (
    b"[node]\n",
    b"[discovery]\n",
    b"[policy]\n",
    b"[data]\n",
    b"[model]\n",
    b"[learning]\n",
    b"listen",
    b'"*"',
)


TARGETS = {
    "config": Target(
        _in_file("node.toml", lambda path: load_config(path, {})),
        (ConfigError,),
        lambda: [config_text(NodeConfig()).encode()],
        dictionary=_TOML,
    ),
    "csv": Target(
        _in_file("data.csv", load_csv), (ConfigError,), lambda: [_CSV, _CSV.replace(b"255", b"1e308")]
    ),
    "npz": Target(_in_file("data.npz", load_npz), (ConfigError,), _archives, zipped),
    "idx": Target(_idx, (ConfigError,), lambda: [_IDX, gzip.compress(_IDX, mtime=0)]),
    "image": Target(_image, (ConfigError,), _images),
    "checkpoint": Target(
        _in_file("model.safetensors", load_checkpoint), (ConfigError,), _checkpoints, safetensors
    ),
    "invitations": Target(
        _ledger(lambda folder: Invitations(folder).find("")), (ConfigError,), lambda: [_INVITATION], json_text
    ),
    "issued": Target(
        _ledger(lambda folder: IssuedCertificates(folder).all()), (ConfigError,), lambda: [_ISSUED], json_text
    ),
    "renewal-addresses": Target(
        _in_file("identity/enrollment.json", lambda path: load_renewal_addresses(IdentityFiles(path.parent))),
        (ConfigError,),
        lambda: [_json(renewal_addresses=["a.example:1", "[::1]:2"])],
        json_text,
    ),
}
