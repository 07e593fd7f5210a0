"""The Python API: workflows of agents on the same run engine as the daemon."""
