//! Drills a plan.
