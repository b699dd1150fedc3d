"""Build hook: generates qkt_p2p/pb from proto/, for wheels and editable installs alike."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

OUTPUT = "qkt_p2p/pb"


class ProtobufBuildHook(BuildHookInterface[Any]):
    """Runs protoc of grpcio-tools, whose version [build-system] pins, over every proto file."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        generate(root)
        build_data["artifacts"].append(f"/{OUTPUT}/**")


def generate(root: Path) -> None:
    """Write the message and service modules, with type stubs, into qkt_p2p/pb."""
    from grpc_tools import protoc

    output = root / OUTPUT
    output.mkdir(parents=True, exist_ok=True)
    (output / "__init__.py").write_text('"""Generated at build time from proto/; not committed."""\n')
    sources = sorted(str(path) for path in (root / "proto/qkt/v1").glob("*.proto"))
    # The virtual path makes the generated modules import as qkt_p2p.pb.<file>_pb2.
    arguments = [
        "protoc",
        f"-I{OUTPUT}={root / 'proto/qkt/v1'}",
        f"--python_out={root}",
        f"--grpc_python_out={root}",
        f"--mypy_out=quiet:{root}",
        f"--mypy_grpc_out=quiet:{root}",
        *sources,
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc could not generate qkt_p2p/pb from proto/qkt/v1")


if __name__ == "__main__":
    generate(Path(__file__).parent)
