"""The owner's line to the daemon: gRPC on the unix socket in the home, whose mode 0600 guards it.

target   the address of the socket, as gRPC reads it
server   answers in the daemon
client   calls from the command line
"""
