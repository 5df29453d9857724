"""Tools that know nothing of the Sun: arrays, uncertainties, splines, times, parallel work and files."""
