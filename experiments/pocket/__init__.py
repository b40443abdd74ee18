"""How the pocket model was made, and how well it speaks."""
