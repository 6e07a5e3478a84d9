"""Sound on disk, in arrays and in pictures."""
