"""v2e's pixel: lin-log photoreceptor with a first-order low-pass, or Sim2Real's stochastic variant."""
