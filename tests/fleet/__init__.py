"""A fleet of real hosts on one machine (systemd as PID 1, ssh, a block device), and scenarios that prove the playbooks.

`up` and `down` boot hosts and take them down; `run` goes through the scenarios. Everything lies under `FLEET_DIR`.
"""
