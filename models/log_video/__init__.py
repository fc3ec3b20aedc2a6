"""What methods on log intensity share: a first image, recorded thresholds, display, colour planes."""
