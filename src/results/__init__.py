"""What is kept in Postgres: rows, values, what an operator sees, and the record of what operators change.

The rest of the pipeline imports `db`, never these modules. Imports `jobs` for the payloads, and `models`
and `moderation` for the results that are wanted (no model is loaded).
"""
