"""The command line: one module for each group of verbs.

main       the verbs' table, and the entry point
verbs      turns a verb's function into a command; the options that every verb takes
output     what a verb says: tables for people, one JSON object for machines, errors with their fix
init       init: makes a node's home
tables     tables for people, on wide and on narrow terminals
streams    standard streams that may be closed or full
fixes      makes the commands of a fix complete
authority  what the verbs of a federation's authority share
ca         ca init, ca sign, ca serve, ca add-root, ca drop-root: an authority
invite     invite: a token with which a machine joins
join       join: makes a node a member
rotate     renew and rotate: the next certificate, for the same key or a new one
revoke     revoke: ends a membership
reload     has a running daemon take over what such a verb changed
start      start: the daemon in the foreground
query      query: asks peers for classes
queries    queries list, show, watch, cancel
inspect    status, peers: what the daemon knows
models     models list, rollback, diff
doctor     doctor: what is wrong with a node's set-up
policy     policy check: what this node lets its peers do
budget     budget: what was released of this node's data, and what may be yet
why        why: a query explained
question   one question to the daemon, and how times are shown
cluster    cluster up, status, down, demo: a local cluster
cluster_query   cluster query: one node of it asks, or every node for every class
cluster_chaos   cluster chaos: faults befall one while it is asked
bench      bench tables: QKT against its baselines; bench transport: what the transport carries
awaiting   runs what a verb awaits
progress   bars on a terminal, a line for each step elsewhere
interruption    Ctrl-C during a query: asks the daemon to cancel it and waits for its end
signals    how a command ends that was told to stop

A verb is a function that takes an `Output` and its options and returns an `Answer` or raises a QktError:

    def status(output: Output, home: HomeOption) -> Answer:
        \"\"\"Show what the daemon serves.\"\"\"

and one line in the table in main. What is slow to import is imported by the function that needs it, so
that --help stays quick; and these modules have no `from __future__ import annotations`, because typer
reads the annotations.
"""
