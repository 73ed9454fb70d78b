//! Services: names, variables, readiness, logs.
