"""The operator's commands: one file for each first word after `audio-pipeline`."""
