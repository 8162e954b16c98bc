"""Measuring explanations: localisation, faithfulness, stability over time, cost."""
