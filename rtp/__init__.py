"""The media plane: RTP for all calls at once, one row of arrays per call."""
