"""Model files: whole or absent, readable without numpy, and one of them current."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from qkt_p2p.errors import ConfigError, QktError
from qkt_p2p.store.checkpoints import (
    MAX_HEADER_BYTES,
    current_file,
    load_checkpoint,
    read_metadata,
    save_checkpoint,
    set_current,
)

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS: dict[str, np.ndarray] = {
    "head.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "steps": np.array(7, dtype=np.int64),
}
METADATA = {"architecture": "cnn", "classes": '["seven", "Läsion"]'}

NAMES = st.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__")
DTYPES = [np.float32, np.float64, np.float16, np.int64, np.uint8, np.bool_]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0, max_dims=4, max_side=4))
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A model file with known content."""
    path = tmp_path / "000001.safetensors"
    save_checkpoint(path, WEIGHTS, metadata=METADATA)
    return path


@settings(max_examples=40, deadline=None)
@given(
    arrays=st.dictionaries(NAMES, ARRAYS, min_size=1),
    metadata=st.dictionaries(st.text(max_size=12), st.text(max_size=30)),
)
def test_any_arrays_and_metadata_come_back(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Names, shapes, types, bits and metadata survive a round trip."""
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    save_checkpoint(path, arrays, metadata=metadata)
    loaded, described = load_checkpoint(path)
    assert described == metadata
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].shape == array.shape
        assert loaded[name].tobytes() == array.tobytes()


def test_strided_arrays_are_saved_as_they_look(tmp_path: Path) -> None:
    """A transposed view is not the same bytes, but it is the same array."""
    path = tmp_path / "model.safetensors"
    view = np.arange(6, dtype=np.float32).reshape(2, 3).T
    save_checkpoint(path, {"view": view}, metadata={})
    assert np.array_equal(load_checkpoint(path)[0]["view"], view)


def test_digest_is_that_of_the_file(tmp_path: Path) -> None:
    """Equal content has the same digest, whatever its order, and it is the file's."""
    path = tmp_path / "model.safetensors"
    metadata = {f"key {number}": "ä" * number for number in range(20)}
    digest = save_checkpoint(path, WEIGHTS, metadata=metadata)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    turned = dict(reversed(metadata.items()))
    assert digest == save_checkpoint(tmp_path / "again", dict(reversed(WEIGHTS.items())), metadata=turned)


def test_nothing_but_the_file_remains(saved: Path) -> None:
    """Saving leaves no temporary, and the file is its owner's alone."""
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]
    assert saved.stat().st_mode & 0o777 == 0o600


def test_full_disk_keeps_the_old_file(small_disk: Path) -> None:
    """The error names the path and the cause; the old model loads, the temporary is gone."""
    path = small_disk / "model.safetensors"
    save_checkpoint(path, WEIGHTS, metadata=METADATA)
    with pytest.raises(QktError, match=r"model\.safetensors: (No space left|File too large)") as caught:
        save_checkpoint(path, {"large": np.ones(1_000_000, dtype=np.float32)}, metadata={})
    assert str(small_disk) in caught.value.fix
    assert [file.name for file in small_disk.iterdir()] == ["model.safetensors"]
    assert np.array_equal(load_checkpoint(path)[0]["head.weight"], WEIGHTS["head.weight"])


def test_missing_folder_is_named(tmp_path: Path) -> None:
    """Saving into a folder that is not there fails with its path."""
    with pytest.raises(QktError, match="absent"):
        save_checkpoint(tmp_path / "absent" / "model.safetensors", WEIGHTS, metadata={})


def test_metadata_is_read_without_numpy(saved: Path) -> None:
    """The daemon can describe a model without loading what it needs to run one."""
    script = f"""
import sys
from pathlib import Path
from qkt_p2p.store.checkpoints import current_file, read_metadata
assert read_metadata(Path({str(saved)!r}))["architecture"] == "cnn"
assert current_file(Path({str(saved.parent)!r})) is None
assert not {{"numpy", "torch", "safetensors"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_file_without_metadata_has_none(tmp_path: Path) -> None:
    """The safetensors format allows a header without the entry."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2) + b"{}")
    assert read_metadata(path) == {}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not a model file at all", id="text"),
        pytest.param(struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{}", id="header too long"),
        pytest.param(struct.pack("<Q", 100) + b"{}", id="header cut short"),
        pytest.param(struct.pack("<Q", 4) + b"\xff\xff\xff\xff", id="header not UTF-8"),
        pytest.param(struct.pack("<Q", 2) + b"[]", id="header no object"),
        pytest.param(struct.pack("<Q", 18) + b'{"__metadata__":1}', id="metadata no object"),
        pytest.param(struct.pack("<Q", 100_000) + b"[" * 100_000, id="header nested too deeply"),
    ],
)
def test_damaged_header_names_the_file_and_the_fix(tmp_path: Path, content: bytes) -> None:
    """Whatever stands at the beginning of a file, the error is ours."""
    path = tmp_path / "000003.safetensors"
    path.write_bytes(content)
    for load in (read_metadata, load_checkpoint):
        with pytest.raises(ConfigError, match=r"000003\.safetensors") as caught:
            load(path)
        assert caught.value.fix == "qkt-node models list"


def test_damaged_arrays_are_found(saved: Path) -> None:
    """A file cut short, and one whose header lies about its arrays, do not load."""
    whole = saved.read_bytes()
    contents = [whole[:-1]]
    for shape, end in (([9], 4), ([0, 2**63], 0)):
        header = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}}).encode()
        contents.append(struct.pack("<Q", len(header)) + header + bytes(end))
    for content in contents:
        saved.write_bytes(content)
        with pytest.raises(ConfigError, match="damaged"):
            load_checkpoint(saved)


def test_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    """A version whose file somebody deleted is reported like a damaged one."""
    for load in (read_metadata, load_checkpoint):
        with pytest.raises(ConfigError, match="No such file"):
            load(tmp_path / "absent.safetensors")


def test_current_moves_from_file_to_file(tmp_path: Path) -> None:
    """The link is relative, so it still holds when the whole folder is moved."""
    models = tmp_path / "models"
    models.mkdir()
    assert current_file(models) is None
    for name in ("000001.safetensors", "000002.safetensors"):
        save_checkpoint(models / name, WEIGHTS, metadata=METADATA)
        set_current(models, name)
        assert current_file(models) == models / name
    moved = models.rename(tmp_path / "moved")
    assert current_file(moved) == moved / "000002.safetensors"
    assert sorted(file.name for file in moved.iterdir()) == [
        "000001.safetensors",
        "000002.safetensors",
        "current",
    ]


@pytest.mark.parametrize("name", ["absent.safetensors", "../secret", "", ".", "/etc/passwd"])
def test_current_names_only_model_files(tmp_path: Path, name: str) -> None:
    """Neither setting nor following the link leads out of the folder or nowhere."""
    models = tmp_path / "models"
    models.mkdir()
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(ConfigError, match="no model file"):
        set_current(models, name)
    (models / "current").symlink_to(name or "empty")
    with pytest.raises(ConfigError, match="no model file"):
        current_file(models)
