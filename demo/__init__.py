"""The demonstration: render music, train on it, sample from prompts and score what comes out."""
