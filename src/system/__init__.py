"""What surrounds a process: systemd, the device, certificates, and what a terminal may be shown.

Holds nothing of the pipeline itself. Imports `errors` only.
"""
