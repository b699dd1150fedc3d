"""p2pfl's own way: `python p2pfl_end.py send|receive PORT FOLDER MIB`, run by a Python that has p2pfl.

The sender pickles the arrays into one message of weights, as for a model; the receiver's command unpickles
it before the call ends. TLS is mutual. Ray, which p2pfl starts where it finds it, has no part in sending.
"""

import sys
from pathlib import Path

from ends import arrays_of, repeat, require_same, say
from p2pfl.settings import Settings

Settings.general.DISABLE_RAY = True
Settings.general.LOG_LEVEL = "ERROR"

# What follows reads the settings when it is imported.
from p2pfl.communication.commands.command import Command  # noqa: E402
from p2pfl.communication.protocols.protobuff.grpc import GrpcCommunicationProtocol  # noqa: E402
from p2pfl.learning.compression.manager import CompressionManager  # noqa: E402

COMMAND = "bench"


class Receive(Command):
    """Decodes what comes as p2pfl decodes a model."""

    def __init__(self):
        self.arrays = []

    @staticmethod
    def get_name():
        """Return the name by which a message calls this."""
        return COMMAND

    def execute(self, source, round, weights=None, **_others):  # noqa: A002 - p2pfl's name
        """Take one message."""
        del source, round
        self.arrays, _ = CompressionManager.reverse(weights)


def receive(port, mebibytes):
    """Serve until the input ends."""
    command = Receive()
    node = GrpcCommunicationProtocol([command])
    node.set_addr(f"127.0.0.1:{port}")
    node.start()
    say({})
    sys.stdin.read()
    require_same(command.arrays, arrays_of(mebibytes))
    say({})
    node.stop()


def send(port, mebibytes):
    """Send the arrays, once for each line that is read."""
    arrays = arrays_of(mebibytes)
    node = GrpcCommunicationProtocol()
    node.set_addr("127.0.0.1")
    node.start()
    receiver = f"127.0.0.1:{port}"
    node.connect(receiver)
    say({})

    def give():
        weights = CompressionManager.apply(arrays, {}, {})
        node.send(receiver, node.build_weights(COMMAND, 0, weights), raise_error=True)

    repeat(give)
    node.stop()


def use_certificates(folder):
    """Have p2pfl show and trust what is in the folder."""
    names = {"CA_CRT": "ca.crt", "SERVER_CRT": "node.crt", "CLIENT_CRT": "node.crt"}
    for setting, name in {**names, "SERVER_KEY": "node.key", "CLIENT_KEY": "node.key"}.items():
        setattr(Settings.ssl, setting, str(folder / name))


if __name__ == "__main__":
    use_certificates(Path(sys.argv[3]))
    {"send": send, "receive": receive}[sys.argv[1]](int(sys.argv[2]), int(sys.argv[4]))
