"""The upgrade of a gallery to a new version: fitted, carried, measured, published; and the plan of one."""
