"""The schema: what the migrations make is what the code expects."""
