"""The hot operators: a folder each, with a plain reference that defines it and faster implementations."""
