"""Evaluation of networks and of folders of predictions: windows, scores by metric id, means, result files.

Importing this package loads nothing heavy; its modules are imported by name.
"""
