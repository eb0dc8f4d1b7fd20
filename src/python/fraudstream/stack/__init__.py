"""Real services on one machine, as plain processes: started, awaited, never left behind."""
