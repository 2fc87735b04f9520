"""Prediction at scale: any number of pictures in, one table out, in parts that survive an interruption."""
