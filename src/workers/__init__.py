"""The three daemons. Each is started as `python -m workers.NAME_worker` from `src/` and stopped by SIGTERM."""
