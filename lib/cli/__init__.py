"""The command line: one module a command, which parses arguments, calls the engine and prints the result."""
