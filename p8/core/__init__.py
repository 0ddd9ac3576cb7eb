"""P8's own rules. No SQL, no git, no Docker, no terminal."""
