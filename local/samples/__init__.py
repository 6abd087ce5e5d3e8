"""Sample clips for the demo: speech, near misses, music, silence and broken files, with the expected result of each."""
