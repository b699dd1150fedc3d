"""What travels: domain types to messages and tensors to bytes, in pairs that check all they decode.

messages    qkt_p2p.types <-> generated protobuf messages; no numpy, so the daemon stays small
calls       calls to an attached peer and their answers
payloads    the same for chunks, and for answers on their way, without protobuf's copies
checks      what a field of a peer's message must be
tensors     synthetic batches <-> safetensors bytes; used by the worker process
recipes     what describes a class <-> bytes
prototypes  the same where noise protects the class's samples
encodings   chunks as they travel <-> what they stand for
"""
