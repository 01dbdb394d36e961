"""Call control: every call of the service, from its INVITE to its record."""
