"""The same calls through ours and through its peers, measured from outside."""
