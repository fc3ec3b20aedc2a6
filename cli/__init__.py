"""The ``evsim`` command: parsing, calling and printing, nothing else."""
