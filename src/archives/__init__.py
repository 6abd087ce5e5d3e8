"""Untrusted archives: where they come from, how files are extracted, and the metadata of the clips.

`sources/` fetches archives from the EC2 host; the other modules read a file on this host. Imports `jobs`.
"""
