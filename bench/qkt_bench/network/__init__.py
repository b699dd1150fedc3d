"""What the daemon and its network cost, apart from learning; run with `python -m`.

daemon          start, memory and --help of an idle daemon
membership      messages and bytes per node in larger federations
town            many nodes in one process
virtual_time    an event loop whose clock jumps to the next timer
"""
