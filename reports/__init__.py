"""Tables, Markdown, HTML and plots of what was measured, from result.json and sweep.json alone. Works without torch."""
