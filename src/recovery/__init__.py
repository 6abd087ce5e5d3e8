"""Bringing work back: Redis against Postgres and S3, hosts that are gone, and the repairs that operators ask for.

Commands and workers call it. Imports `jobs`, `db`, `s3_utils`, `scratch` and `media`.
"""
