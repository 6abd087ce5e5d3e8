"""Archives from strangers: where they come from, what is taken out of them, and the metadata of their clips.

`sources/` is the EC2 side; the rest reads a file on this host. Imports `jobs` for the payloads.
"""
