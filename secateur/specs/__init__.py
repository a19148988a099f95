"""Specs as users write them: YAML or JSON files, `--set path=value`, names of models and data; validated before they are sent."""
