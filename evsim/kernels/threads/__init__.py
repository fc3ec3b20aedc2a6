"""Threads that compiled passes share: a pool, bands of rows, counters."""
