"""A local cluster of real daemons, for trying out and for testing: one process, home and certificate each.

layout      what a cluster is and where its files are
create      deals out data, makes homes, founds a federation and signs its members
processes   starts daemons, waits for them, finds and stops whatever is left of them
comparison  asks the oracle
chaos       faults on purpose, from a seed
oracle      the same training with the teachers' real data, to compare with (its own process: torch)
"""
