"""The qkt-node daemon, its worker process and its command line."""
