"""Documents, passages and everything an index keeps on disk. Knows no model and no network."""
