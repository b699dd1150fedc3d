"""Faults on purpose: what may happen to a local cluster, made to happen, from a seed.

schedule      which fault befalls which node at which step of a query: plain data from a seed, JSON in and out
proxy         the way to one node, over TCP, which delays, drops, cuts and spoils
dribble       strangers that hold connections open and say a byte at a time
lies          a node's answers, told wrong
"""
