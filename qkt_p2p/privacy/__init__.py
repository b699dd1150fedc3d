"""What a node lets others do, decided by its owner alone.

policy   who may meet, probe, be taught by, or fetch the model of this node
"""
