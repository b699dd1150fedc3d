"""Faults on purpose: what may happen to a local cluster, made to happen, from a seed.

schedule      which fault befalls which node at which step of a query: plain data from a seed, JSON in and out
proxy         the way to one node, over TCP, which delays, drops, cuts and spoils
dribble       strangers that hold connections open and say a byte at a time
lies          a node's answers, told wrong
node          the program of a node of such a cluster: the daemon, which lies when it is told to
signals       what happens to a node's process, disk, clock and certificate
cluster       the cluster: its nodes, the ways to them, faults that begin and end
trial         one schedule: one query with its faults, how it ended, and what should not have happened
soak          one schedule after the other
leaks         what a process holds: memory, files, sockets, tasks
memory        what of its memory a process still uses
"""
