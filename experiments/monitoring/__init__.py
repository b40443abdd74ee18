"""What shows a service and a watch to people: a Grafana dashboard, and everything that it takes, as files."""
