"""Ears that are not ours: judges of sounds, in an environment of their own but for those in pure numpy."""
