"""What the transport carries, and at which cost: `qkt-node bench transport`.

load     the bytes that travel, the two members between whom they do, and the teacher's journal
meter    processor seconds and memory of this process
ends     the seam: one end of a way, in a process of its own
member   this project's own way: over mutual TLS and over an attached peer's line, with journals or without
bare     the same bytes by a bare grpc.aio stream
blocking the same bytes by a blocking socket
ways     the ways by name
end      the process of one end
run      all ways in turn, again and again
summary  medians and ratios; the Markdown table
"""
