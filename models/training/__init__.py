"""Training: one loop for every network, what a network brings to it, and what a run leaves behind."""
