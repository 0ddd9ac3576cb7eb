"""The REPL: the only room that knows a terminal."""
