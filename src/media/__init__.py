"""Audio files from strangers: probe, choose a track, decode, mix down, convert to Opus.

What can hang or die runs in processes of its own. Imports `errors` only.
"""
