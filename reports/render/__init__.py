"""Every form of a report: Markdown, HTML, terminal, plots, files for other programs."""
