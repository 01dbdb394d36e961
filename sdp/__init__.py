"""Session descriptions: data (`description`), addresses, codecs, keys, and offer/answer as pure functions."""
