"""Versions for reports, read without importing what they are of."""

from __future__ import annotations

import platform
from importlib.metadata import version

_PACKAGES = ("torch", "numpy", "grpcio", "cryptography")


def versions() -> dict[str, str]:
    """Return the versions of this software, Python and what results depend on."""
    return {
        "qkt-node": version("qkt-node"),
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }
