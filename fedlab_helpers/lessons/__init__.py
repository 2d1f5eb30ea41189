"""What notebooks show: checks, panels, plots, words."""
