"""The worker process: all learning happens here, so that the daemon stays small and always answers.

operations   what the daemon asks of it, and how arguments and results become JSON
client       the daemon's side: starts the process on demand and ends it when idle
child        one running process as the daemon sees it: calls, cancellation, death
process      the process itself: reads requests, runs each in its lane, reports progress
workbench    the operations on one node's model, data and journal (torch)
first_model  trains a node's first model on its own data
own_models   its model versions and candidates on disk
local_data   its private data, as node.toml chooses them
responses    what teachers sent, decoded
measuring    what a query changed, class by class
reporting    what loops tell of their progress, and an end to what takes too long
"""
