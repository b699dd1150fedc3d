"""gRPC over mutually authenticated TLS between peers; the only place that speaks grpc to them.

handler       what a node must answer, as a Protocol
credentials   TLS material -> grpc credentials and channel options
identify      who answers at an address: a TLS handshake that reads the certificate
status        the one table of errors <-> grpc status
guard         server interceptor: names the caller, translates errors, one log line per call
server        serves a handler
client        calls a peer
dialer        identify and client, as discovery needs them
memory        the same calls inside one process, over the same codecs
"""
