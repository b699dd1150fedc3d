"""What a model knows, found out without data.

probes      structured synthetic inputs, described by a seed
evidence    probes -> evidence per class (needs torch)
masks       evidence -> masks and teacher weights (needs nothing)
"""
