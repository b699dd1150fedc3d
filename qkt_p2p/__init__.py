"""Query-based Knowledge Transfer between peers, as a library; importing it starts nothing.

errors, limits, types      what everything else is built on
pb                         messages and services, generated from proto/
identity, wire             certificates and trust | tensors and domain types <-> bytes
models, datasets           classifiers with a growing head | labelled arrays and partitions
masking, synthesis         evidence of what a model knows | synthetic batches that teach it
distillation               phase 1, phase 2, the validation gate
transport, discovery       mutual TLS streams | who is there
store                      the journal and the model versions
teacher, student           the two sides of one query, a page each
"""

__version__ = "0.1.0"
