"""What is left of a call: its record in a database, its transcript and recording as files."""
