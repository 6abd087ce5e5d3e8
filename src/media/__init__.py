"""Untrusted audio files: probe, choose a track, decode, mix down to mono, convert to Opus.

Work that can hang or crash runs in separate processes. Imports `errors` only.
"""
