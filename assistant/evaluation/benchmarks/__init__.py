"""Published benchmarks, read in the layouts in which they are published, and scored as their authors do."""
