"""Prediction: images of a scene from any network or method, by one contract."""
