"""Monitoring: the state of the pipeline, and the checks at a worker's start.

Only reads. Imports the packages on the floors below the workers.
"""
