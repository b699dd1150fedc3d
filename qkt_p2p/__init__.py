"""Query-based Knowledge Transfer between peers, as a library; importing it starts nothing.

errors, limits, types      what everything else is built on
commands                   commands that people are told to type
digests, seeds             the digest by which a chunk is known | seeds that follow from other seeds
files, references          files replaced in one step | the owner's own code, named in node.toml
pb                         messages and services, generated from proto/
identity, wire             certificates and trust | tensors and domain types <-> bytes
models, datasets           classifiers with a growing head | labelled arrays and partitions
masking, synthesis         evidence of what a model knows | synthetic batches that teach it
distillation               phase 1, phase 2, the validation gate
transport, discovery       mutual TLS streams | who is there
privacy                    what the owner lets others do
store                      the journal and the model versions
seams, outcome             what a query needs of the world, as Protocols | what it did, as JSON
asking                     how a student asks: probing, selection, collecting
teacher, student           the two sides of one query, a page each
lesson                     one query's learning, for the worker, the oracle and the bench
own_samples                the asker's own data in a lesson
"""

__version__ = "0.1.0"
