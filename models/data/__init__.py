"""Torch data sets and the windows of events that they and the networks work on."""
