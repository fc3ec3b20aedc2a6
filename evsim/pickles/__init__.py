"""Pickles read as data: an interpreter of our own that builds plain values and calls nothing a file names.

`values` holds what stands for the names and objects of a pickle and the bounds of what may be built, `arrays`
what numpy writes, `interpreter` the opcodes.
"""
