"""How texts are cut: upstream's chunks, bounded chunks, the pieces of a stream."""
