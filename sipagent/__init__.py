"""A telephony user agent for voice agents."""
