"""What others see of the pipeline: the overview, and the checks at a worker's start.

Reads, and changes nothing. Imports everything below the workers.
"""
