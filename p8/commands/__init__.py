"""What a person can tell P8 to do: one function a command, three doors that call it."""
