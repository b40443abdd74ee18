"""What a report says: columns, scores, floors, lengths, starts, searches, notes."""
