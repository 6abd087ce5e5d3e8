"""Sample clips for a first look: speech, near misses, music, silence and broken files, with what must come of each."""
