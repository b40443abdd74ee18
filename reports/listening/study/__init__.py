"""What a study is: its settings, and the rules that are fixed before anybody listens."""
