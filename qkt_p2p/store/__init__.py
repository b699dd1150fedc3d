"""What a node keeps on disk.

database.py     one SQLite file: opening, schema versions, locking, transactions, errors
schema.py       the schema, as a list of forward migrations
chunk_files.py  the files beside it that hold chunks
records.py      the rows that leave the journal
queries.py      queries and how they ended
responses.py    what teachers sent for a query, so that a stream can resume
transfers.py    how peers' responses came, and how long this node learned from them
banks.py        what this node made to teach others
statistics.py   the statistics from which it made that
ledger.py       what was released of its data, and whom it taught
models.py       versions of the node's model
peers.py        peers to dial again after a restart
journal.py      `Journal`, all of these tables behind one lock
checkpoints.py  model files (safetensors) and the link to the current one

A journal never imports numpy or torch: the daemon opens it, and its worker process at the same time.
"""
