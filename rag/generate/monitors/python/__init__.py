"""Monitors of Python code: what may stand where, by static analysis of the program so far."""
