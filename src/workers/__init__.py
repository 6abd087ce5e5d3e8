"""The three daemons. Start one with `python -m workers.NAME_worker` in `src/`, and stop it with SIGTERM."""
