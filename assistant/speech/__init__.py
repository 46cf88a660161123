"""Speaking and listening: what is said aloud, in which order, by which voice and device, and what is heard."""
