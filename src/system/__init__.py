"""The process and its machine: systemd, the device, TLS errors, and text that is safe for a terminal.

Knows nothing of archives, clips or jobs. Imports `errors` only.
"""
