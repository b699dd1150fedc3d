"""The bench: QKT against every baseline, on the same data, partitions, models and seeds.

plan            what is asked for: data, partition, sizes, queries; and keys for what it leads to
sources         a data set cut to size
federation      nodes with their data and first models; test data that nobody trains on
queries         who asks for what
methods         the seam: a Method answers a BenchQuery with a MethodResult
inprocess       QKT itself over the in-memory transport
peers           the other nodes of such a bench, and what they send
daemons         the same over a cluster of real daemons
baselines       local, FedAvg, FedProx, FedAvg + fine-tuning, naive distillation, ensemble
training, averaging, distilling, shared_models    what the baselines are made of
tuning          their hyperparameters, chosen on validation data
predictors, measures    accuracies, masks, rank correlation
registry        the methods by name
cache, cells    what is kept on disk, so that a run can be resumed
run             a whole table
summary, tables, plots  figures over seeds, Markdown, SVG
comparisons     the methods of one table against each other
targets         what the tables are held against, and which of them fall short
results         docs/results.md from the tables' JSON
network         what the daemon costs apart from learning
transport       what the transport carries, and at which cost
"""
