"""The ears: voice activity of every call of a media plane in one batched inference; start at `ears.Ears`."""
