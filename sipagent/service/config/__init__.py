"""The configuration: one TOML file, read once, checked, and cut into the pieces that the parts take."""
