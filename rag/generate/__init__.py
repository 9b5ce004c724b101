"""Decoding: language models behind one interface, one loop, prompts and citations."""
