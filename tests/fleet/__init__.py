"""A fleet of real hosts on one machine (systemd as PID 1, ssh, a block device), and scenarios that test the playbooks.

`up` boots the hosts, `down` removes them, and `run` runs the scenarios. All files are under `FLEET_DIR`.
"""
