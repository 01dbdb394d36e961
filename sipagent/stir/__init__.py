"""STIR/SHAKEN: who vouches for a caller's number (RFC 8224, 8225, 8226, 8588). Knows nothing of SIP's transactions."""
