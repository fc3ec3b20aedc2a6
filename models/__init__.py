"""Networks, datasets, training and evaluation."""
