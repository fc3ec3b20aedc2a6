"""Weight files: which were published, reading them without running anything in them, writing our own."""
