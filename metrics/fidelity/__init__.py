"""How close a variant's audio is to the reference's or the oracle's, and what is wrong with it by itself."""
