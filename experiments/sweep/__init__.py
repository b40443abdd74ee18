"""Many variants, each in its own process, kept or measured again by what decides them."""
