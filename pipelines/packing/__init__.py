"""Training trees of other projects, written from recordings and runs."""
