"""The user's project: its git state, and P8's own snapshots of its files."""
