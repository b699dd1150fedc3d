"""What a node lets others do, decided by its owner alone.

accountant  what noise costs, alone and together
ledger      what a ledger keeps, and what a teacher needs to keep to a budget
policy      who may meet, probe, be taught by, or fetch the model of this node
"""
