"""Our stages against their peers, on the same input, in one process."""
