"""The tests, data first: cases/ holds YAML, one runner each."""
