"""Containers: what P8 asks of an engine, and the engine it asks. Only here are `docker` and `yaml` imported."""
