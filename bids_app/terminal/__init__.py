"""What a person sees in a terminal while a run is on; in pipes and logs, one line a session."""
