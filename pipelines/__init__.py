"""Work on whole clips and on many of them: simulation jobs, packing, the demo."""
