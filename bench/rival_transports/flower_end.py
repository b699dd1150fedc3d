"""Flower's own way: `python flower_end.py send|receive PORT FOLDER MIB`, run by a Python that has Flower.

The receiver is a server that asks the one client for its parameters, over Flower's gRPC stream; TLS proves
the server alone, because Flower's client shows no certificate.
"""

import logging
import sys
from pathlib import Path

from ends import arrays_of, repeat, require_same, say
from flwr.client import NumPyClient, start_client
from flwr.common import GetParametersIns, parameters_to_ndarrays
from flwr.server.client_manager import SimpleClientManager
from flwr.server.superlink.fleet.grpc_bidi.grpc_server import start_grpc_server


class Sender(NumPyClient):
    """A client whose parameters are asked for."""

    def __init__(self, mebibytes):
        self._arrays = arrays_of(mebibytes)

    def get_parameters(self, config):
        """Return the arrays."""
        del config
        return self._arrays


def receive(port, folder, mebibytes):
    """Ask for the arrays, once for each line that is read."""
    manager = SimpleClientManager()
    pems = tuple((folder / name).read_bytes() for name in ("ca.crt", "node.crt", "node.key"))
    server = start_grpc_server(client_manager=manager, server_address=f"127.0.0.1:{port}", certificates=pems)
    say({})
    manager.wait_for(1)
    sender = next(iter(manager.all().values()))
    came = []

    def ask():
        got = sender.get_parameters(GetParametersIns({}), timeout=None, group_id=None)
        came[:] = parameters_to_ndarrays(got.parameters)

    repeat(ask)
    require_same(came, arrays_of(mebibytes))
    say({})
    server.stop(None)


def send(port, folder, mebibytes):
    """Answer until the server ends."""
    client = Sender(mebibytes).to_client()
    say({})
    roots = (folder / "ca.crt").read_bytes()
    start_client(server_address=f"127.0.0.1:{port}", client=client, root_certificates=roots)


if __name__ == "__main__":
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    {"send": send, "receive": receive}[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
