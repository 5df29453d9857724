"""Tools that know nothing of the Sun: arrays, uncertainties, splines, parallel work and files."""
