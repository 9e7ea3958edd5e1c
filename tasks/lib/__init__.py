"""The library: everything but the command line, which it does not know."""
