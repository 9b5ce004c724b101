"""Builds that go on by themselves: each a folder that a worker process finds."""
