"""A disk that is full while a query saves its model."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.cluster.local_cluster import ask, qkt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.local_cluster import LocalCluster


@contextmanager
def no_space_in(folder: Path) -> Iterator[None]:
    """Make every write within `folder` fail in the operating system, and leave what is there.

    Where mounting is allowed the disk is full; elsewhere the folder may not be written to.
    """
    size = 1024 * 1024
    copy = shutil.copytree(folder, folder.with_name("copy"), symlinks=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        if mounted:
            shutil.copytree(copy, folder, symlinks=True, dirs_exist_ok=True)
            used = os.statvfs(folder)
            (folder / "filler").write_bytes(bytes(used.f_bavail * used.f_frsize))
        else:
            folder.chmod(0o500)
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.chmod(0o700)
        shutil.rmtree(copy)


def test_a_full_disk_keeps_the_old_model(cluster: LocalCluster) -> None:
    """The query fails and says where there is no space; the model stays, and a later query works."""
    home = cluster.home("node-1")
    asked = cluster.plan.lacking("node-1")[0]
    with no_space_in(home.models):
        answer = qkt("query", "--home", home.root, "--classes", asked)
        assert (answer.exit_code, answer.data["outcome"]) == (1, "failed")
        assert f"cannot write {home.models}" in answer.error["message"]
        assert "df -h" in answer.error["fix"]
        status = ask(home, lambda client: client.status())
        assert status is not None
        assert status.model_version == 1
        assert (home.models / "current").readlink().name == "v0001.safetensors"
        assert not list(home.models.glob("*candidate*"))
    assert cluster.query("node-1", "--classes", asked).exit_code == 0
