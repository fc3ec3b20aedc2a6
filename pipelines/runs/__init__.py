"""Many clips: recipes, jobs, runs that are recorded and resumed, executors."""
