"""Small files are capped when read and atomic when written."""

from pathlib import Path

import pytest

from qkt_p2p.errors import ConfigError
from qkt_p2p.identity.files import MAX_IDENTITY_FILE_BYTES, load_file, make_private_directory, save_file


def test_saving_replaces_and_leaves_no_other_file(tmp_path: Path) -> None:
    """The new file has the asked mode, and no temporary file remains."""
    save_file(tmp_path / "a", b"old")
    save_file(tmp_path / "a", b"new", mode=0o600)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_failed_save_keeps_the_old_file(tmp_path: Path) -> None:
    """Where the target cannot be replaced nothing is lost and no temporary file remains."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "kept").touch()
    with pytest.raises(ConfigError, match="cannot write"):
        save_file(tmp_path / "a", b"new")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "kept"]


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    """A file that cannot be a key or a certificate is refused by its size."""
    (tmp_path / "a").write_bytes(bytes(MAX_IDENTITY_FILE_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than"):
        load_file(tmp_path / "a")


def test_private_directories(tmp_path: Path) -> None:
    """A private directory has mode 0700; a file in its place is an error."""
    make_private_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot make the directory"):
        make_private_directory(tmp_path / "file")
