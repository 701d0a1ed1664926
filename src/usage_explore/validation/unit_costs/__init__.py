"""unit_costs."""
