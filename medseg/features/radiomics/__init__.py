"""First-order, shape and texture features as IBSI defines them."""
