"""Pure functions over arrays of samples: no sockets, no clocks, no calls."""
