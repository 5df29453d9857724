"""Corrections of Level-3 cubes, one room for each: vignetting, brightness and masks."""
