"""The worker process: all learning happens here, so that the daemon stays small and always answers.

operations   what the daemon asks of it, and how arguments and results become JSON
client       the daemon's side: starts the process on demand, stops it when idle, cancels and kills
process      the process itself: reads requests, runs each in its lane, reports progress
workbench    the operations on one node's model, data and journal (torch)
"""
