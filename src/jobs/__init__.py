"""Jobs in Redis: claim, settle, retry, dead letters, batches, and the payloads.

Every change of Redis that must be atomic is a script in `lua/`. Imports nothing above `utils`.
"""
