"""How fast a session is, with random weights of the true sizes of the released checkpoints.

`python -m tests.pace 2b` measures on a GPU; `tiny` tries the same on any processor.
"""
