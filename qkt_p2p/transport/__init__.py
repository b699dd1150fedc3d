"""gRPC over mutually authenticated TLS between peers; the only place that speaks grpc to them.

handler       what a node must answer, as a Protocol
methods       the calls' paths and messages
answers       the handler on bytes, for every transport
status        the one table of errors <-> grpc status
credentials   TLS material -> grpc credentials and channel options
authorization who may make which call: certificate, revocation, policy
guard         server interceptor: names the caller, lets it in or not, translates errors, logs each call
leeway        how long a sender waits for the reader of its stream
server        serves a handler over mutual TLS
client        calls a peer over any line
addresses     "host:port", and nothing that a resolver could take for more
tls           the line over mutual TLS
names         TLS connections to hosts by name, looked up off the event loop
identify      who answers at an address: a TLS handshake that reads the certificate
refusals      why a handshake failed, in words for the owner of this side
reverse       asks peers that cannot be dialed, over connections that they opened
attach        the other side: a dialer that lends its connections, and answers over them
dialer        identify, line and client, as discovery needs them
pace          how often strangers may call, and how fast a peer is sent to
enrollment_server  an authority's two ports: joining and renewal
enrollment_client  joins with a token, renews a certificate
memory        the same calls inside one process, over the same client and codecs
"""
