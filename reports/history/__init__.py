"""Many runs by time: read from folders, judged as courses, a review in Markdown and one page with every course."""
