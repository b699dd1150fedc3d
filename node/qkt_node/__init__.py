"""The qkt-node daemon, its worker process and its command line.

daemon            builds every part of a node, wires them, and runs until it is told to stop
config, settings, config_text     node.toml: reading it, what can be set, writing it
home, new_home, preparation       the directory of a node: its paths, making it, putting it in order
log, allocator, background        a long-lived process: its log, its memory, its tasks
stopping          and how it is told to stop
profile           what the node says of itself
interfaces, addresses             this machine's networks | where peers can dial the node
announcing, whereabouts           mDNS on its local network | keeps up what is told of where it is
remembered        peers to dial again after a restart
trust_keeper, renewing            trust as the files and peers tell it | the next certificate in good time
enrollment, authority_service     joining a federation | serving its authority
doctor            what is wrong with a home
policy_view, privacy_view         what its peers may do | what was released of its data, by files alone

Peers' work:

serving           what the node answers to its peers
turns, making, deadly             whose turn it is | banks made once for all | requests that kill the worker
bank_reading      reads banks, and notices damage before an asker does

The owner's queries:

queries, query_run, query_end     all of them, one at a time | one under way | how it ended
asking, events, audience          what is asked for | what is told of it | to whom
kept              what a query needs to go on after a crash
teacher_lines     a peer as a query asks it
learning          the student's Learner, answered by the worker
model_files, model_versions       the model as its files tell it | going back to a version, comparing two
versions          versions of software, for reports

worker            the process in which all learning happens (torch)
control           the owner's line to the daemon
cli               the command line
report            a query's report, JSON and HTML
cluster           a local cluster of real daemons, for testing
"""
