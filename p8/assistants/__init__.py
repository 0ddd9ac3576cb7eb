"""Whatever answers: models and agents, one file each, behind one protocol."""
