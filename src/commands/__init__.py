"""The operator's commands, one file for each word after `audio-pipeline`."""
