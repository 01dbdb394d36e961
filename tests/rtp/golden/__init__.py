"""Packets of programs that we did not write, as they came over the wire; README.md says how they were made."""
