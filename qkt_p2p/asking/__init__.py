"""How a query asks: whom, what for, how often, and what of it is kept.

probing      everybody's evidence, and who is not waited for
selection    masks and media: who is asked for what
replacing    who takes the place of whom
collecting   all responses of a query: stand-ins, stragglers, when it is enough
transfers    one response through all its breaks
claims       which stream brings a chunk that several teachers offer
collection   what arrives on one stream is checked against its offer and kept
expected     what may arrive
keeping      chunks are checked and written on other threads
retry        which failure is worth another attempt, after which pause
stragglers   what is slow for this peer
"""
