"""The quantiser: uniform affine grids, gapless bit packing, and the search for the fewest bits."""
