"""What formats share: recordings and writers, columns, HDF5, indices of time, excerpts and windows."""
