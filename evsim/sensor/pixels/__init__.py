"""Pixel models, one module or folder each, found here by name."""
